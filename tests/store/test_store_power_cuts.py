"""The whole story of an order, with the power lost at every commit in turn."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from support.desk import (
    IMAGE,
    MQTT,
    PROBED,
    Desk,
    Fuse,
    PowerCut,
    open_fused,
    order,
    short,
)

from gateway.errors import StateError
from gateway.model import (
    TERMINAL_CAMPAIGN,
    TERMINAL_JOB,
    CampaignState,
    JobState,
    Reply,
    ReplyStatus,
    TransferRecord,
)
from gateway.simulator.clock import VirtualClock

# What a job goes through between initiate and the end, as a worker saves it.
STEPS = {
    JobState.QUEUED: JobState.PRECHECK,
    JobState.PRECHECK: JobState.INITIATING,
    JobState.INITIATING: JobState.TRANSFERRING,
    JobState.COMPLETING: JobState.VERIFYING,
    JobState.VERIFYING: JobState.ACTIVATING,
    JobState.ACTIVATING: JobState.CONFIRMING,
    JobState.CONFIRMING: JobState.UPDATED,
}
BLOCKS = 3


@dataclass
class World:
    """What no power cut of the gateway touches: the meters, the broker, and the head-end's order."""

    raw_order: bytes
    raw_probe: bytes
    published: list = field(default_factory=list)
    counters_used: list = field(default_factory=list)
    initiates: Counter = field(default_factory=Counter)
    activates: Counter = field(default_factory=Counter)
    probes: int = 0
    answered: set = field(default_factory=set)


def go_on(desk, world):
    """What uplink, supplier and worker do, again and again, looking at the Store afresh each time."""
    for raw in (world.raw_order, world.raw_probe):  # the broker delivers again what was not acknowledged
        if raw not in world.answered:
            reply = desk.give(raw, MQTT)
            assert reply.status in (ReplyStatus.ACCEPTED, ReplyStatus.DONE)
            assert desk.store.reply_of(reply.cmd_id) is not None
            world.answered.add(raw)
    publish(desk.store, world)
    supply(desk)
    run_errand(desk.store, world)
    while job := desk.store.due_job("rs485-1", desk.clock.now()):
        advance(desk.store, job, world)
        if job.state in (JobState.PRECHECK, JobState.CONFIRMING):
            publish(desk.store, world)
    publish(desk.store, world)


def publish(store, world):
    rows = store.outbox_batch(0, 100)
    world.published += [(short(row.topic), json.loads(row.payload)) for row in rows]
    store.outbox_delete(*(row.id for row in rows))


def supply(desk):
    if wanted := desk.store.next_fetch(desk.clock.now()):
        fetching = desk.store.save_campaign(replace(wanted, state=CampaignState.FETCHING))
        desk.store.image_ready(fetching, desk.images.add([IMAGE]))


def run_errand(store, world):
    if errand := store.take_errand("rs485-1"):
        world.probes += 1
        store.finish_errand(errand, Reply(errand.cmd_id, ReplyStatus.DONE, data=PROBED))


def use_counters(store, job, world):
    if store.counter(job.meter_id) is None:
        store.seed_counter(job.meter_id, 1000)
    first = store.reserve_counters(job.meter_id, 10)
    world.counters_used += [(job.meter_id, first + number) for number in range(10)]


def advance(store, job, world):
    state, record, blocks_done = STEPS.get(job.state, job.state), job.record, job.blocks_done
    if job.state is JobState.PRECHECK:
        record = TransferRecord("0" * 64, b"X3", 3 * 64, 64)
        use_counters(store, job, world)
    elif job.state is JobState.TRANSFERRING:
        blocks_done += 1
        record = replace(record, acked=b"\xe0", ceiling=blocks_done)
        state = JobState.COMPLETING if blocks_done == BLOCKS else state
    elif job.state is JobState.VERIFYING:
        record = replace(record, activate_decided=True)
    saved = store.save_job(replace(job, state=state, record=record, blocks_done=blocks_done))
    world.initiates[job.meter_id] += saved.state is JobState.INITIATING
    world.activates[job.meter_id] += saved.state is JobState.ACTIVATING


def tell_story(tmp_path, fuse):
    """Returns the world at the end, and how often the power went."""
    clock = VirtualClock()
    paper = Desk(tmp_path / "paper")  # only to write the commands
    world = World(
        raw_order=json.dumps(paper.envelope("campaign.submit", order())).encode(),
        raw_probe=json.dumps(paper.envelope("meter.probe", {"meter": "MTR1"})).encode(),
    )
    paper.close()
    cuts = 0
    while True:
        store = None
        try:
            store = open_fused(tmp_path / "state", clock, fuse)
            desk = Desk(tmp_path / "state", clock=clock, store=store)
            store.fail_running_errands()
            go_on(desk, world)
            check_end(store, world)
            return world, cuts
        except PowerCut:
            cuts += 1
        finally:
            if store:
                store.close()
            clock.advance(1.0)


def check_end(store, world):
    assert store.campaign("fw-1").state is CampaignState.SUCCEEDED
    jobs = store.jobs("fw-1")
    assert [job.state for job in jobs] == [JobState.UPDATED] * 2
    assert store.outbox_batch(0, 1) == []
    # Nothing was decided twice: the decision was durable before the meter would have heard of it.
    assert set(world.initiates.values()) <= {0, 1}
    assert set(world.activates.values()) <= {0, 1}
    # No counter was given out twice.
    assert len(set(world.counters_used)) == len(world.counters_used)
    check_telling(world.published, store)


def check_telling(published, store):
    events = {}
    for topic, document in published:
        if topic == "event":
            assert events.setdefault(document["seq"], document) == document
    assert sorted(events) == list(range(1, len(events) + 1)), "gapless"
    assert {event["epoch"] for event in events.values()} == {store.epoch}
    first_told = list(dict.fromkeys(document["seq"] for topic, document in published if topic == "event"))
    assert first_told == sorted(first_told), "in order"
    assert list(events.values()) == store.events(0, 1000)

    ends = Counter(
        (event["campaign_id"], event["meter"])
        for event in events.values()
        if event["state"] in TERMINAL_JOB | TERMINAL_CAMPAIGN
    )
    assert ends == {("fw-1", None): 1, ("fw-1", "MTR1"): 1, ("fw-1", "MTR2"): 1}, "told once"

    revs = {}
    for topic, document in published:
        if topic.startswith("campaign/"):
            assert document["rev"] >= revs.get(topic, 0), "a snapshot never goes back"
            revs[topic] = document["rev"]
    last = {topic: document["state"] for topic, document in published if topic.startswith("campaign/")}
    assert last == {
        "campaign/fw-1": "succeeded",
        "campaign/fw-1/job/MTR1": "updated",
        "campaign/fw-1/job/MTR2": "updated",
    }
    told_at = {
        (topic, document.get("state")): place for place, (topic, document) in enumerate(published[::-1])
    }
    end = told_at["campaign/fw-1", "succeeded"]
    assert all(told_at[f"campaign/fw-1/job/{meter}", "updated"] > end for meter in ("MTR1", "MTR2"))

    replies = {}
    for topic, document in published:
        if topic == "rsp":
            statuses = replies.setdefault(document["cmd_id"], [])
            if document["status"] not in statuses:
                statuses.append(document["status"])
    assert sorted(map(tuple, replies.values())) in (
        [("accepted", "done"), ("accepted", "done")],
        [("accepted", "done"), ("accepted", "failed")],  # the read that the power cut interrupted
    )


def commits_of_the_story(tmp_path):
    fuse = Fuse()
    tell_story(tmp_path, fuse)
    return fuse.commits


def test_an_order_comes_to_its_end_and_is_told_once(tmp_path):
    world, cuts = tell_story(tmp_path, Fuse())
    assert cuts == 0
    assert world.probes == 1
    assert world.initiates == world.activates == {"MTR1": 1, "MTR2": 1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_losing_power_at_any_commit_leaves_a_state_from_which_things_go_on(tmp_path, after):
    commits = commits_of_the_story(tmp_path / "whole")
    assert commits >= 30
    for number in range(1, commits + 1):
        fuse = Fuse(blows_at=number, after=after)
        _, cuts = tell_story(tmp_path / str(number), fuse)
        assert cuts == 1, f"the story has a commit {number}"


def test_a_read_that_a_restart_interrupted_fails_and_may_be_asked_again(tmp_path):
    desk = Desk(tmp_path)
    reply = desk.send("meter.probe", {"meter": "MTR1"})
    assert desk.store.take_errand("rs485-1").cmd_id == reply.cmd_id
    desk.close()

    desk = Desk(tmp_path, clock=desk.clock)
    assert desk.store.take_errand("rs485-1") is None
    desk.store.fail_running_errands()
    ended = desk.store.reply_of(reply.cmd_id)
    assert (ended.status, ended.retryable) == (ReplyStatus.FAILED, True)
    desk.close()


def test_whoever_comes_late_to_a_job_that_has_ended_is_told_so(tmp_path):
    desk = Desk(tmp_path)
    desk.images.add([IMAGE])
    desk.send("campaign.submit", order(targets=["MTR1"]))
    job = desk.store.due_job("rs485-1", desk.clock.now())
    desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    with pytest.raises(StateError, match="cancelled"):
        desk.store.save_job(replace(job, state=JobState.INITIATING))
    assert desk.store.job("fw-1", "MTR1").state is JobState.CANCELLED
    desk.clock.advance(timedelta(days=1).total_seconds())
    assert desk.store.due_job("rs485-1", desk.clock.now()) is None
    desk.close()
