"""Campaigns and jobs: who is due, how things end, what can still be cancelled."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desk import campaign, command, jobs_of, memory_directory, open_store

from gateway.errors import BusyError, Code, ConflictError, NotFoundError, StateError
from gateway.model import (
    CampaignState,
    Image,
    Job,
    JobState,
    ReplyStatus,
    TransferRecord,
)
from gateway.simulator.clock import EPOCH, VirtualClock

PORT = "rs485-1"
RECORD = TransferRecord("0" * 64, b"X3", 1000, 64)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(tmp_path, clock):
    store = open_store(tmp_path, clock)
    yield store
    store.close()


def submit(store, clock, *meters, id="fw-1", ready=True, **changes):  # noqa: A002 (the field's name)
    state = CampaignState.READY if ready else CampaignState.ACCEPTED
    order = campaign(clock, *meters, id=id, state=state, **changes)
    asked = command(clock)
    store.submit_campaign(asked, order, jobs_of(order))
    return asked


def move(store, meter, state, *, of="fw-1", **changes):
    return store.save_job(replace(store.job(of, meter), state=state, **changes))


# -- the end of a campaign ------------------------------------------------------------------------------------

U, S, F, C = JobState.UPDATED, JobState.SKIPPED, JobState.FAILED, JobState.CANCELLED


@pytest.mark.parametrize(
    "ends, campaign_ends",
    [
        ((U, U, U), CampaignState.SUCCEEDED),
        ((U, S, S), CampaignState.SUCCEEDED),
        ((S, S, S), CampaignState.SUCCEEDED),
        ((U, F, F), CampaignState.PARTIAL),
        ((F, C, S), CampaignState.PARTIAL),
        ((F, F, F), CampaignState.FAILED),
        ((F, C, F), CampaignState.FAILED),
    ],
)
def test_a_campaign_ends_as_its_meters_did(store, clock, ends, campaign_ends):
    asked = submit(store, clock, "MTR1", "MTR2", "MTR3")
    for number, state in enumerate(ends, start=1):
        assert store.campaign_state("fw-1") in (CampaignState.READY, CampaignState.RUNNING)
        code = Code.T_VERIFY if state is F else None
        move(store, f"MTR{number}", state, code=code)
    ended = store.campaign("fw-1")
    assert ended.state is campaign_ends
    assert ended.finished_at == clock.now()
    assert ended.code is (
        Code.T_VERIFY if campaign_ends in (CampaignState.PARTIAL, CampaignState.FAILED) else None
    )
    last = store.reply_of(asked.cmd_id)
    assert last.status is (
        ReplyStatus.DONE if campaign_ends is CampaignState.SUCCEEDED else ReplyStatus.FAILED
    )
    assert last.data["state"] == campaign_ends


def test_a_campaign_runs_from_the_first_job_that_leaves_the_queue(store, clock):
    submit(store, clock, "MTR1", "MTR2")
    store.save_job(store.job("fw-1", "MTR1"))
    assert store.campaign_state("fw-1") is CampaignState.READY
    job = move(store, "MTR1", JobState.PRECHECK)
    assert store.campaign_state("fw-1") is CampaignState.RUNNING
    assert job.started_at == clock.now()


def test_nothing_that_has_ended_is_changed_any_more(store, clock):
    submit(store, clock, "MTR1")
    move(store, "MTR1", JobState.UPDATED)
    ended = store.campaign("fw-1")
    with pytest.raises(StateError):
        move(store, "MTR1", JobState.FAILED)
    for change in (
        lambda: store.save_campaign(replace(ended, state=CampaignState.FETCHING)),
        lambda: store.fail_campaign(ended, Code.F_NET, "no"),
        lambda: store.image_ready(ended, Image("0" * 64, 1)),
        lambda: store.cancel_campaign(command(clock), "fw-1"),
    ):
        with pytest.raises(StateError, match="ended"):
            change()
    assert store.campaign("fw-1") == ended


def test_a_job_that_has_ended_stays_so_while_its_campaign_goes_on(store, clock):
    submit(store, clock, "MTR1", "MTR2")
    ended = move(store, "MTR1", JobState.UPDATED, version_after="4.1.7")
    with pytest.raises(StateError, match="MTR1: the job is updated"):
        move(store, "MTR1", JobState.FAILED)
    assert store.job("fw-1", "MTR1") == ended
    assert store.campaign_state("fw-1") is CampaignState.RUNNING


def test_the_names_of_a_thousand_meters_are_kept_once_for_whoever_reads_the_campaign(store, clock):
    order = campaign(clock, *(f"MTR{number}" for number in range(1000)))
    store.submit_campaign(command(clock), order, jobs_of(order))
    assert store.campaign(order.id).meters is store.campaign(order.id).meters


def test_what_is_not_there_is_not_found(store, clock):
    for ask in (
        lambda: store.campaign_state("none"),
        lambda: store.save_job(Job("none", "MTR1", PORT)),
        lambda: store.save_campaign(campaign(clock, id="none")),
        lambda: store.cancel_campaign(command(clock), "none"),
    ):
        with pytest.raises(NotFoundError):
            ask()
    assert store.campaign("none") is store.job("none", "MTR1") is store.last_record("MTR1") is None


# -- submitting -----------------------------------------------------------------------------------------------


def test_the_same_order_again_is_the_stored_reply_and_nothing_new(store, clock):
    order = campaign(clock, "MTR1")
    asked = command(clock)
    first = store.submit_campaign(asked, order, jobs_of(order))
    rows = store.outbox_batch(0, 100)
    assert store.submit_campaign(asked, order, jobs_of(order)) == first
    assert store.outbox_batch(0, 100) == rows
    with pytest.raises(ConflictError):
        store.submit_campaign(replace(asked, body_sha256="c" * 64), order, jobs_of(order))


def test_a_campaign_id_is_never_used_twice(store, clock):
    submit(store, clock, "MTR1")
    move(store, "MTR1", JobState.FAILED)
    with pytest.raises(ConflictError, match="fw-1"):
        submit(store, clock, "MTR1")


def test_a_meter_belongs_to_one_open_campaign_at_a_time(store, clock):
    submit(store, clock, "MTR1", "MTR2")
    with pytest.raises(StateError, match="MTR2 belongs to campaign fw-1"):
        submit(store, clock, "MTR3", "MTR2", id="fw-2")
    assert store.campaign("fw-2") is None
    move(store, "MTR2", JobState.FAILED)
    submit(store, clock, "MTR3", "MTR2", id="fw-2")


def test_new_campaigns_wait_while_the_outbox_is_nearly_full(tmp_path, clock):
    store = open_store(tmp_path / "small", clock, outbox_limit_bytes=8000)
    submit(store, clock, "MTR1")
    number = 1
    while store.outbox_bytes() < 6400:
        move(store, "MTR1", JobState.PRECHECK if number % 2 else JobState.WAITING)
        number += 1
    with pytest.raises(BusyError) as refused:
        submit(store, clock, "MTR2", id="fw-2")
    assert refused.value.retryable
    assert store.due_job(PORT, clock.now()) is not None

    while store.outbox_bytes() < 7600:  # the running ones wait at a safe place
        move(store, "MTR1", JobState.PRECHECK if number % 2 else JobState.WAITING)
        number += 1
    assert store.outbox_full()
    assert store.due_job(PORT, clock.now()) is None
    assert store.next_due_at(PORT) > clock.now()

    store.outbox_delete(*(row.id for row in store.outbox_batch(0, 1000)))
    assert store.outbox_bytes() == 0
    submit(store, clock, "MTR2", id="fw-2")
    assert store.due_job(PORT, clock.now()) is not None
    store.close()


# -- who is due -----------------------------------------------------------------------------------------------


def test_the_oldest_campaign_comes_first_and_busy_jobs_are_passed_over(store, clock):
    submit(store, clock, "MTR2", "MTR1", id="b-first")
    submit(store, clock, "MTR3", id="a-second")
    order = []
    while job := store.due_job(PORT, clock.now(), order):
        order.append((job.campaign_id, job.meter_id))
    assert order == [("b-first", "MTR2"), ("b-first", "MTR1"), ("a-second", "MTR3")]
    assert store.next_due_at(PORT, order) is None
    assert store.due_job("lan", clock.now()) is None
    assert store.next_due_at("lan") is None


def test_a_job_that_waits_is_due_when_its_time_has_come(store, clock):
    submit(store, clock, "MTR1")
    later = clock.now() + timedelta(seconds=90)
    move(store, "MTR1", JobState.WAITING, next_try_at=later)
    assert store.due_job(PORT, clock.now()) is None
    assert store.next_due_at(PORT) == later
    clock.advance(90)
    assert store.due_job(PORT, clock.now()).meter_id == "MTR1"


def test_only_campaigns_that_have_their_image_are_due(store, clock):
    submit(store, clock, "MTR1", ready=False)
    assert store.due_job(PORT, clock.now()) is None
    assert store.next_due_at(PORT) is None
    assert [job.meter_id for job in store.open_jobs(PORT)] == ["MTR1"]
    store.image_ready(store.campaign("fw-1"), Image("0" * 64, 4711))
    assert store.due_job(PORT, clock.now()).meter_id == "MTR1"
    assert store.campaign("fw-1").image_size == 4711


# -- the image ------------------------------------------------------------------------------------------------


def test_a_fetch_is_tried_again_when_its_time_has_come(store, clock):
    submit(store, clock, "MTR1", ready=False)
    submit(store, clock, "MTR2", id="fw-2", ready=False)
    first = store.next_fetch(clock.now())
    assert first.id == "fw-1"
    assert store.next_fetch_at() == clock.now()
    later = clock.now() + timedelta(seconds=20)
    store.save_campaign(
        replace(first, state=CampaignState.FETCHING, code=Code.F_NET, fetch_tries=1, fetch_next_try_at=later)
    )
    assert store.next_fetch(clock.now()).id == "fw-2"
    store.fail_campaign(store.campaign("fw-2"), Code.F_DIGEST, "other bytes")
    assert store.next_fetch(clock.now()) is None
    assert store.next_fetch_at() == later
    assert store.next_fetch(later).fetch_tries == 1


def test_without_its_image_a_campaign_fails_with_all_its_jobs(store, clock):
    asked = submit(store, clock, "MTR1", "MTR2", ready=False)
    ended = store.fail_campaign(store.campaign("fw-1"), Code.F_HTTP, "404 Not Found")
    assert ended == store.campaign("fw-1")
    assert (ended.state, ended.code, ended.message) == (CampaignState.FAILED, Code.F_HTTP, "404 Not Found")
    for job in store.jobs("fw-1"):
        assert (job.state, job.code, job.message) == (JobState.FAILED, Code.F_HTTP, "404 Not Found")
    assert store.reply_of(asked.cmd_id).code is Code.F_HTTP


# -- cancel ---------------------------------------------------------------------------------------------------


def cancel(store, clock):
    return store.cancel_campaign(command(clock, "campaign.cancel", who="uid 0 (pid 1)"), "fw-1")


def test_jobs_at_rest_are_cancelled_at_once(store, clock):
    asked = submit(store, clock, "MTR1", "MTR2")
    move(store, "MTR2", JobState.WAITING, record=RECORD)
    reply = cancel(store, clock)
    assert (reply.status, reply.data["state"]) == (ReplyStatus.DONE, CampaignState.CANCELLED)
    assert store.campaign_state("fw-1") is CampaignState.CANCELLED
    assert store.job_counts("fw-1") == {JobState.CANCELLED: 2}
    assert store.reply_of(asked.cmd_id).data["state"] == "cancelled"
    assert {event["who"] for event in store.events() if event["state"] == "cancelled"} == {"uid 0 (pid 1)"}
    assert [bool(job.started_at) for job in store.jobs("fw-1")] == [False, True], "the first never began"


def test_a_cancel_just_when_its_meters_are_no_longer_configured_is_what_they_end_with(
    store, clock, monkeypatch
):
    """Both happen in threads of their own, and the one that ends orphans is the main one."""
    submit(store, clock, "MTR1", "MTR2")
    save = store.save_job

    def save_after_the_cancel(job):
        monkeypatch.setattr(store, "save_job", save)
        cancel(store, clock)
        return save(job)

    monkeypatch.setattr(store, "save_job", save_after_the_cancel)
    store.end_orphans(set())
    assert store.job_counts("fw-1") == {JobState.CANCELLED: 2}
    assert store.campaign_state("fw-1") is CampaignState.CANCELLED


@pytest.mark.parametrize(
    "state",
    [JobState.PRECHECK, JobState.TRANSFERRING, JobState.VERIFYING, JobState.AWAITING_ACTIVATION],
)
def test_a_running_job_is_cancelled_by_its_worker_at_the_next_step(store, clock, state):
    submit(store, clock, "MTR1", "MTR2")
    move(store, "MTR1", state, next_try_at=clock.now() + timedelta(hours=1))
    assert cancel(store, clock).data["state"] == CampaignState.CANCELLING
    assert store.campaign_state("fw-1") is CampaignState.CANCELLING
    assert store.job("fw-1", "MTR2").state is JobState.CANCELLED
    due = store.due_job(PORT, clock.now())
    assert due.meter_id == "MTR1", "it does not wait until its next try"
    store.save_job(replace(due, state=JobState.CANCELLED))
    assert store.campaign_state("fw-1") is CampaignState.CANCELLED


def test_a_campaign_that_is_cancelled_cannot_be_revived_by_the_supplier(store, clock):
    submit(store, clock, "MTR1", ready=False)
    fetching = store.save_campaign(replace(store.campaign("fw-1"), state=CampaignState.FETCHING))
    cancel(store, clock)
    with pytest.raises(StateError):
        store.image_ready(fetching, Image("0" * 64, 1))
    with pytest.raises(StateError):
        store.save_campaign(fetching)
    assert store.next_fetch(clock.now()) is None


@pytest.mark.parametrize("state", [JobState.ACTIVATING, JobState.CONFIRMING, JobState.UNCERTAIN])
def test_from_activating_on_nothing_is_cancelled(store, clock, state):
    submit(store, clock, "MTR1")
    move(store, "MTR1", state, record=replace(RECORD, activate_decided=True))
    with pytest.raises(StateError, match="activating"):
        cancel(store, clock)
    assert store.campaign_state("fw-1") is CampaignState.RUNNING


def test_a_job_that_waits_after_activation_was_decided_is_left_alone(store, clock):
    submit(store, clock, "MTR1", "MTR2")
    move(store, "MTR1", JobState.WAITING, record=replace(RECORD, activate_decided=True))
    assert cancel(store, clock).data["state"] == CampaignState.CANCELLING
    assert store.job("fw-1", "MTR1").state is JobState.WAITING
    move(store, "MTR1", JobState.UPDATED)
    assert store.campaign_state("fw-1") is CampaignState.PARTIAL


def test_cancelling_twice_is_one_cancel(store, clock):
    submit(store, clock, "MTR1")
    move(store, "MTR1", JobState.TRANSFERRING)
    cancel(store, clock)
    assert cancel(store, clock).data["state"] == CampaignState.CANCELLING
    states = [event["state"] for event in store.events() if event["kind"] == "campaign"]
    assert states.count("cancelling") == 1


# -- what is left in a meter ----------------------------------------------------------------------------------


def test_the_record_of_an_unfinished_transfer_is_found_by_the_next_campaign(store, clock):
    submit(store, clock, "MTR1")
    move(store, "MTR1", JobState.FAILED, record=RECORD)
    submit(store, clock, "MTR1", id="fw-2")
    assert store.last_record("MTR1") == RECORD
    move(store, "MTR1", JobState.FAILED, of="fw-2")  # it was silent: what is in it did not change
    assert store.last_record("MTR1") == RECORD
    submit(store, clock, "MTR1", id="fw-3")
    move(store, "MTR1", JobState.UPDATED, of="fw-3")
    assert store.last_record("MTR1") is None


# -- fields ---------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moment = st.none() | st.integers(0, 2**53).map(lambda us: EPOCH + timedelta(microseconds=us))
count = st.integers(0, 2**32)
record = st.none() | st.builds(
    TransferRecord, sha256=text, identifier=st.binary(max_size=20), image_size=count, block_size=count,
    initiates=count, initiated_over=st.integers(0, 7), initiate_answered=st.booleans(), acked=st.binary(max_size=100),
    ceiling=st.integers(-1, 2**32), verifies=count, activate_decided=st.booleans(),
)  # fmt: skip
job = st.builds(
    Job, campaign_id=st.just("fw-1"), meter_id=st.just("MTR1"), port=st.just(PORT), state=st.sampled_from(JobState),
    code=st.none() | st.sampled_from(Code), message=text, detail=text, tries=count, next_try_at=moment,
    blocks_done=count, blocks_total=count, blocks_sent=count, blocks_resent=count, version_before=text,
    version_after=text, started_at=moment, finished_at=st.none(), activated_at=moment, record=record, rev=count,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(job)
def test_a_job_is_read_as_it_was_saved(saved):
    clock = VirtualClock()
    with memory_directory() as directory:
        store = open_store(directory, clock)
        submit(store, clock, "MTR1")
        returned = store.save_job(saved)
        assert store.job("fw-1", "MTR1") == returned
        same = replace(
            returned, rev=saved.rev, started_at=saved.started_at, finished_at=None
        )  # what the Store fills in
        assert same == saved
        store.close()


def test_a_campaign_is_read_as_it_was_ordered(store, clock):
    order = campaign(
        clock, "MTR1", "MTR2", expect_version="4.1.7", firmware_object="1-1:0.2.0.255", take_over=True, image_size=5
    )  # fmt: skip
    store.submit_campaign(command(clock), order, jobs_of(order))
    assert store.campaign("fw-1") == order
    assert store.campaigns() == [order]
    assert [job.meter_id for job in store.jobs("fw-1")] == ["MTR1", "MTR2"]


def test_the_newest_campaigns_are_listed_oldest_of_them_first(store, clock):
    for number in range(5):
        submit(store, clock, f"MTR{number}", id=f"fw-{number}")
    assert [order.id for order in store.campaigns(3)] == ["fw-2", "fw-3", "fw-4"]


# -- how fast lines are ---------------------------------------------------------------------------------------


def test_each_line_has_a_pace_however_many_meters_others_have(store, clock):
    """A campaign whose meters are listed line by line: the jobs of the first line are the oldest."""
    order = campaign(clock, *(f"MTR{number}" for number in range(301)))
    jobs = [replace(job, port="bus1" if job.place else "bus0") for job in jobs_of(order)]
    store.submit_campaign(command(clock), order, jobs)
    for job in jobs:
        rate = 2 if job.place else 1
        move(store, job.meter_id, JobState.TRANSFERRING, bytes_sent=1000 * rate, transfer_s=10.0)
    assert store.paces() == {"bus0": 100.0, "bus1": 200.0}
