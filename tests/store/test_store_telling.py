"""What others are told: replies, errands, events and the outbox, in order and within limits."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desk import BASE, PROBED, campaign, command, jobs_of, memory_directory, open_store, short, told

from gateway.board import CONTROL, Board
from gateway.clock import EARLIEST
from gateway.errors import BusyError, Code, ConflictError
from gateway.model import TERMINAL_JOB, CampaignState, Errand, JobState, Reply, ReplyStatus
from gateway.simulator.clock import VirtualClock
from gateway.store.commands import COMMANDS_LIMIT, ERRANDS_PER_PORT, STORED_REPLY_LIMIT_BYTES

PORT = "rs485-1"
PONG = {"ts": "2026-01-01T00:00:00.000Z"}


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(tmp_path, clock):
    store = open_store(tmp_path, clock)
    yield store
    store.close()


def submit(store, clock, *meters):
    order = campaign(clock, *meters, state=CampaignState.READY)
    asked = command(clock)
    store.submit_campaign(asked, order, jobs_of(order))
    return asked


def outbox(store):
    return [(short(row.topic), told(row.topic, row.payload)) for row in store.outbox_batch(0, 1000)]


# -- the outbox -----------------------------------------------------------------------------------------------


def test_of_a_retained_topic_only_the_newest_snapshot_waits(store, clock):
    submit(store, clock, "MTR1")
    for state in (JobState.PRECHECK, JobState.INITIATING, JobState.TRANSFERRING):
        store.save_job(replace(store.job("fw-1", "MTR1"), state=state))
    waiting = outbox(store)
    assert [topic for topic, _ in waiting].count("campaign/fw-1/job/MTR1") == 1
    assert dict(waiting)["campaign/fw-1/job/MTR1"]["state"] == "transferring"
    states = [document["state"] for topic, document in waiting if topic == "event"]
    assert states == ["ready", "precheck", "running", "initiating", "transferring"]


def test_the_end_of_a_campaign_waits_behind_the_ends_of_its_jobs(store, clock):
    submit(store, clock, "MTR1", "MTR2")
    # The broker has everything but the campaign's snapshot, which is therefore the oldest that waits.
    store.outbox_delete(*(row.id for row in store.outbox_batch(0, 1000)[:-1]))
    for name in ("MTR1", "MTR2"):
        store.save_job(replace(store.job("fw-1", name), state=JobState.UPDATED))
    snapshots = [topic for topic, _ in outbox(store) if topic.startswith("campaign/")]
    assert snapshots == ["campaign/fw-1/job/MTR1", "campaign/fw-1/job/MTR2", "campaign/fw-1"]


def test_a_checkpoint_that_nobody_would_see_costs_the_outbox_nothing(store, clock):
    submit(store, clock, "MTR1")
    job = store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.TRANSFERRING, blocks_total=100))
    before = store.outbox_batch(0, 1000)
    job = store.save_job(replace(job, blocks_done=50, blocks_sent=51))
    assert store.outbox_batch(0, 1000) == before
    store.save_job(replace(job, message="the meter asks for a pause"))
    assert dict(outbox(store))["campaign/fw-1/job/MTR1"]["blocks_done"] == 50


def test_an_id_does_not_come_again_when_the_outbox_was_empty_meanwhile(store, clock):
    submit(store, clock, "MTR1")
    last = store.outbox_batch(0, 1000)[-1].id
    store.outbox_delete(*range(1, last + 1))
    assert store.outbox_bytes() == 0
    store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.PRECHECK))
    assert store.outbox_batch(last, 1000)
    assert store.outbox_batch(0, 1000)[0].id == last + 1
    store.outbox_delete(last, 10**9)  # acknowledged late, or never there


def test_without_a_broker_nothing_is_told_but_everything_is_audited(tmp_path, clock):
    store = open_store(tmp_path / "local", clock, gateway_id="", root="")
    order = campaign(clock, "MTR1")
    store.submit_campaign(command(clock, reply_topic="", correlation=b""), order, jobs_of(order))
    assert store.outbox_batch(0, 1000) == []
    assert [event["state"] for event in store.events()] == ["accepted"]
    store.close()


def test_what_waits_survives_a_restart_in_order(tmp_path, clock):
    first = open_store(tmp_path / "again", clock)
    submit(first, clock, "MTR1", "MTR2")
    rows = first.outbox_batch(0, 1000)
    size = first.outbox_bytes()
    first.close()
    second = open_store(tmp_path / "again", clock)
    assert second.outbox_batch(0, 1000) == rows
    assert second.outbox_bytes() == size
    second.close()


meter = st.sampled_from(["MTR1", "MTR2", "MTR3"])
step = st.one_of(
    st.tuples(
        st.just("save"), meter, st.sampled_from(sorted(JobState)) | st.sampled_from(sorted(TERMINAL_JOB))
    ),
    st.tuples(st.just("take"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("restart"), st.none(), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=40))
def test_no_order_of_work_and_publishing_loses_or_reorders_what_matters(steps):
    """The uplink takes a few rows at a time; some are acknowledged, some are sent again after a reconnect."""
    clock, heard = VirtualClock(), []
    with memory_directory() as directory:
        store = open_store(directory, clock)
        submit(store, clock, "MTR1", "MTR2", "MTR3")
        for kind, what, more in steps:
            if kind == "save":
                job = store.job("fw-1", what)
                if job.state not in TERMINAL_JOB:
                    store.save_job(replace(job, state=more))
            elif kind == "take":
                heard += (rows := store.outbox_batch(0, what))
                store.outbox_delete(*(row.id for row in rows[: None if more else len(rows) // 2]))
            else:
                store.close()
                store = open_store(directory, clock)
        heard += store.outbox_batch(0, 10_000)
        events = store.events(0, 10_000)
        truth = {f"{BASE}/campaign/fw-1": store.campaign("fw-1").state}
        truth |= {f"{BASE}/campaign/fw-1/job/{job.meter_id}": job.state for job in store.jobs("fw-1")}
        store.close()

    documents = [(row.topic, json.loads(row.payload), row.retain) for row in heard]
    retained = {topic: document["state"] for topic, document, retain in documents if retain}
    assert retained == truth, "whoever subscribes late sees how things are"
    told_events = {document["seq"]: document for topic, document, _ in documents if topic.endswith("/event")}
    assert list(told_events.values()) == events, "every event, in order"
    assert list(told_events) == list(range(1, len(events) + 1)), "gapless"
    seen = {}
    for topic, document, retain in documents:
        if retain:
            assert document["rev"] >= seen.get(topic, {"rev": 0})["rev"]
            seen[topic] = document
            if topic.endswith("campaign/fw-1") and document["finished_at"]:
                ends = [seen[f"{topic}/job/{name}"]["finished_at"] for name in ("MTR1", "MTR2", "MTR3")]
                assert all(ends), "the end of a campaign never overtakes the ends of its jobs"


# -- events ---------------------------------------------------------------------------------------------------


def test_events_are_kept_for_90_days_and_their_numbers_go_on(store, clock):
    submit(store, clock, "MTR1")
    store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.UPDATED))
    last = store.events()[-1]["seq"]
    clock.advance(timedelta(days=91).total_seconds())
    store.purge_expired()
    assert [event["seq"] for event in store.events()] == [last]
    order = campaign(clock, "MTR1", id="fw-2")
    store.submit_campaign(command(clock), order, jobs_of(order))
    assert [event["seq"] for event in store.events(last)] == [last + 1]


def test_events_of_a_clock_that_was_in_1970_are_kept_like_those_around_them(tmp_path):
    clock = VirtualClock(datetime(1970, 1, 1, tzinfo=UTC))
    store = open_store(tmp_path, clock)
    submit(store, clock, "MTR1")
    early = len(store.events())
    clock.advance((EARLIEST - clock.now()).total_seconds())
    store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.UPDATED))
    count = len(store.events())
    assert count > early > 0
    store.purge_expired()
    assert len(store.events()) == count
    clock.advance(timedelta(days=91).total_seconds())
    store.purge_expired()
    assert len(store.events()) == 1
    store.close()


def test_a_line_of_the_log_cannot_be_forged_by_a_meter(store, clock, caplog):
    submit(store, clock, "MTR1")
    with caplog.at_level("INFO"):
        store.save_job(
            replace(store.job("fw-1", "MTR1"), state=JobState.FAILED, message="\x1b[2J\nroot logged in")
        )
    lines = [record.getMessage() for record in caplog.records]
    assert "MTR1 on rs485-1, campaign fw-1: failed: \\x1b[2J\\nroot logged in" in lines
    assert all(line.isprintable() for line in lines)


# -- replies --------------------------------------------------------------------------------------------------


def test_a_reply_is_kept_until_a_day_after_its_command_expired(store, clock):
    asked = command(clock, "ping")
    reply = Reply(asked.cmd_id, ReplyStatus.DONE, data=PONG)
    assert store.record(asked, reply) == reply
    for hours in (1, 23.9):
        clock.advance(hours * 3600)
        store.purge_expired()
        assert store.stored_reply(asked.cmd_id, asked.body_sha256) == reply
    clock.advance(3600)
    store.purge_expired()
    assert store.stored_reply(asked.cmd_id, asked.body_sha256) is None


def test_the_reply_of_an_order_is_kept_while_the_order_goes_on(store, clock):
    asked = submit(store, clock, "MTR1")
    clock.advance(timedelta(days=30).total_seconds())
    store.purge_expired()
    assert store.reply_of(asked.cmd_id).status is ReplyStatus.ACCEPTED
    store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.UPDATED))
    assert store.reply_of(asked.cmd_id).status is ReplyStatus.DONE
    store.purge_expired()
    assert store.reply_of(asked.cmd_id) is None


def test_an_id_means_one_body_in_whatever_case_it_is_written(store, clock):
    asked = command(clock, "ping", cmd_id="ABCDEF00-0000-4000-8000-000000000000")
    store.record(asked, Reply(asked.cmd_id, ReplyStatus.DONE, data=PONG))
    assert store.stored_reply(asked.cmd_id.lower(), asked.body_sha256) is not None
    with pytest.raises(ConflictError):
        store.stored_reply(asked.cmd_id.lower(), "f" * 64)


def test_a_long_answer_to_a_read_is_sent_but_not_kept(store, clock):
    asked = command(clock, "meter.probe")
    probed = {**PROBED, "logical_device_name": "x" * STORED_REPLY_LIMIT_BYTES}
    long = Reply(asked.cmd_id, ReplyStatus.DONE, data=probed)
    assert store.record(asked, long) is long
    assert store.stored_reply(asked.cmd_id, asked.body_sha256) is None
    assert store.record(asked, long) is long  # asked again: read again
    assert [document["cmd_id"] for _, document in outbox(store)] == [asked.cmd_id] * 2
    with pytest.raises(ConflictError):
        store.stored_reply(asked.cmd_id, "f" * 64)


def test_a_wide_attribute_is_kept_no_longer_than_somebody_waits_for_it(store, clock):
    """Thousands of them a day would fill the disk."""
    value = {
        "object": "1-0:99.1.0.255", "class": 7, "attribute": 2, "type": "array",
        "value": [0] * STORED_REPLY_LIMIT_BYTES,
    }  # fmt: skip
    wide = {"meter": "MTR1", "values": [value]}
    told, shown = (command(clock, "meter.read", reply_topic=topic) for topic in (f"{BASE}/rsp", ""))
    for asked in (told, shown):
        store.add_errand(asked, Errand(asked.cmd_id, asked.verb, "rs485-1", "MTR1", {}))
        taken = store.take_errand("rs485-1")
        store.finish_errand(taken, Reply(taken.cmd_id, ReplyStatus.DONE, data=wide))
    assert [document["status"] for _, document in outbox(store)] == ["accepted", "done"]
    assert store.reply_of(told.cmd_id) is None
    assert store.reply_of(shown.cmd_id).data == wide, "a client of the socket waits for it"
    store.purge_expired()
    assert store.reply_of(shown.cmd_id).data == wide
    clock.advance(3601)
    store.purge_expired()
    assert store.reply_of(shown.cmd_id) is None


def test_not_more_commands_are_remembered_than_the_limit(store, clock, monkeypatch):
    assert COMMANDS_LIMIT >= 10_000
    monkeypatch.setattr("gateway.store.commands.COMMANDS_LIMIT", 3)
    for _ in range(3):
        asked = command(clock, "ping")
        store.record(asked, Reply(asked.cmd_id, ReplyStatus.DONE, data=PONG))
    with pytest.raises(BusyError):
        store.record(command(clock, "ping"), Reply(None, ReplyStatus.DONE, data=PONG))


def test_replies_that_nobody_can_stop_do_not_fill_the_disk(tmp_path, clock):
    store = open_store(tmp_path / "small", clock, outbox_limit_bytes=2000)
    for _ in range(100):
        store.send_reply(
            Reply(None, ReplyStatus.REJECTED, Code.E_SCHEMA, "x", data={"advice": "y"}), f"{BASE}/rsp"
        )
    assert 2000 <= store.outbox_bytes() < 2500
    store.close()


# -- errands --------------------------------------------------------------------------------------------------


def errand(store, clock, meter_id="MTR1", **changes):
    asked = command(clock, "meter.probe", **changes)
    store.add_errand(asked, Errand(asked.cmd_id, "meter.probe", PORT, meter_id, {"meter": meter_id}))
    return asked


def test_reads_of_a_port_are_done_in_the_order_of_asking_and_answered_once(tmp_path, clock):
    board = Board()
    store = open_store(tmp_path / "bells", clock, board)
    asked = [errand(store, clock, name) for name in ("MTR2", "MTR1")]
    assert store.take_errand("lan") is None
    for command_ in asked:
        taken = store.take_errand(PORT)
        assert taken.cmd_id == command_.cmd_id
        assert taken.args == {"meter": taken.meter_id}
        store.finish_errand(taken, Reply(None, ReplyStatus.DONE, data=PROBED))
        store.finish_errand(taken, Reply(None, ReplyStatus.FAILED, Code.T_SILENT))
        assert store.reply_of(taken.cmd_id).data == PROBED
    assert board.bell(CONTROL).is_set()
    assert store.take_errand(PORT) is None
    assert [document["status"] for _, document in outbox(store)] == ["accepted", "accepted", "done", "done"]
    assert {row.correlation for row in store.outbox_batch(0, 10)} == {b"\x01\x02"}
    store.close()


def test_a_read_that_nobody_came_to_in_time_is_answered_so(store, clock):
    asked = errand(store, clock)
    clock.advance(3601)
    assert store.take_errand(PORT) is None
    store.purge_expired()
    ended = store.reply_of(asked.cmd_id)
    assert (ended.status, ended.code) == (ReplyStatus.FAILED, Code.E_EXPIRED)


def test_the_same_read_asked_again_is_one_read(store, clock):
    asked = errand(store, clock)
    again = store.add_errand(asked, Errand(asked.cmd_id, "meter.probe", PORT, "MTR1", {}))
    assert again.status is ReplyStatus.ACCEPTED
    assert store.take_errand(PORT) is not None
    assert store.take_errand(PORT) is None


def test_a_line_has_a_queue_with_an_end(store, clock):
    for _ in range(ERRANDS_PER_PORT):
        errand(store, clock)
    with pytest.raises(BusyError):
        errand(store, clock)
