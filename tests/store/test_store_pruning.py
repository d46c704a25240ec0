"""Old campaigns are forgotten, and with them nothing that anybody still needs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.desk import (
    SHA256,
    Fuse,
    PowerCut,
    campaign,
    command,
    jobs_of,
    memory_directory,
    open_fused,
    open_store,
    short,
)

from gateway.errors import ConflictError
from gateway.model import CampaignState, JobState, TransferRecord
from gateway.simulator.clock import VirtualClock
from gateway.store import pruning

DAY_S = 86400.0
RETENTION_S = 90 * DAY_S
RECORD = TransferRecord(SHA256, b"X3-4.1.7", 15000, 256, acked=b"\xf0", ceiling=7, verifies=1)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(tmp_path, clock):
    store = open_store(tmp_path, clock)
    yield store
    store.close()


def order(store, clock, name, *meters, manifest=""):
    told = campaign(clock, *meters, id=name, state=CampaignState.READY)
    store.submit_campaign(command(clock), told, jobs_of(told), manifest=manifest)


def end(store, name, *meters, state=JobState.UPDATED, record=None, **changes):
    for meter in meters:
        job = store.job(name, meter)
        store.save_job(replace(job, state=state, record=record, **changes))


def prune(store, images=(), most=1000):
    times = 0
    while store.prune(RETENTION_S, images):
        times += 1
        assert times < most
    return times


def broker_takes_all(store):
    """What it holds retained, by topic."""
    rows = store.outbox_batch(0, 100_000)
    store.outbox_delete(*(row.id for row in rows))
    return {short(row.topic): row.payload for row in rows if row.retain}


def test_a_campaign_is_kept_for_the_retention_time_and_then_taken_back_from_the_broker(store, clock):
    order(store, clock, "fw-1", "MTR1", "MTR2")
    end(store, "fw-1", "MTR1", "MTR2")
    order(store, clock, "fw-2", "MTR1")
    held = broker_takes_all(store)
    clock.advance(RETENTION_S - 1)
    assert prune(store) == 0 and broker_takes_all(store) == {}
    clock.advance(2)
    assert prune(store) == 1
    held |= broker_takes_all(store)
    assert {topic for topic, payload in held.items() if payload} == {
        "campaign/fw-2", "campaign/fw-2/job/MTR1"
    }, "that one is open, however long"  # fmt: skip
    assert {topic for topic, payload in held.items() if not payload} == {
        "campaign/fw-1", "campaign/fw-1/job/MTR1", "campaign/fw-1/job/MTR2"
    }  # fmt: skip
    assert [one.id for one in store.campaigns()] == ["fw-2"] and store.jobs("fw-1") == []
    last = store.events(limit=1000)[-1]
    assert (last["kind"], last["campaign_id"]) == ("forgotten", "fw-1")
    assert prune(store) == 0


def test_the_id_of_a_forgotten_campaign_is_never_used_again(store, clock):
    order(store, clock, "fw-1", "MTR1")
    end(store, "fw-1", "MTR1")
    broker_takes_all(store)
    clock.advance(RETENTION_S + 1)
    prune(store)
    with pytest.raises(ConflictError, match="never used twice"):
        order(store, clock, "fw-1", "MTR1")


def test_what_a_meter_still_holds_of_an_order_is_known_however_old_it_is(store, clock):
    order(store, clock, "fw-1", "MTR1", "MTR2")
    end(store, "fw-1", "MTR1", state=JobState.CANCELLED, record=RECORD, version_before="4.0.2")
    end(store, "fw-1", "MTR2", record=RECORD, version_before="4.0.2", version_after="4.1.7")
    broker_takes_all(store)
    before = (store.last_record("MTR1"), store.last_record("MTR2"), store.versions())
    assert before == (RECORD, RECORD, {"MTR1": "4.0.2", "MTR2": "4.1.7"})
    clock.advance(RETENTION_S + 1)
    prune(store)
    assert (store.last_record("MTR1"), store.last_record("MTR2"), store.versions()) == before
    order(store, clock, "fw-2", "MTR1")
    assert store.last_record("MTR1") == RECORD, "a job that began nothing"
    end(store, "fw-2", "MTR1", version_after="4.1.7")
    assert store.last_record("MTR1") is None
    assert store.versions()["MTR1"] == "4.1.7"
    broker_takes_all(store)
    clock.advance(RETENTION_S + 1)
    prune(store)
    assert store.last_record("MTR1") is None
    assert store.versions() == {"MTR1": "4.1.7", "MTR2": "4.1.7"}


def test_an_older_job_that_stays_does_not_speak_for_a_newer_one_that_went(store, clock):
    order(store, clock, "fw-1", "MTR1", "MTR2")
    end(store, "fw-1", "MTR1", state=JobState.FAILED, record=RECORD)
    order(store, clock, "fw-2", "MTR1")
    newer = replace(RECORD, sha256="f" * 64)
    end(store, "fw-2", "MTR1", state=JobState.FAILED, record=newer)
    broker_takes_all(store)
    clock.advance(RETENTION_S + 1)
    prune(store)
    assert [one.id for one in store.campaigns()] == ["fw-1"], "MTR2 is not done"
    assert store.last_record("MTR1") == newer


def test_a_large_campaign_is_forgotten_in_many_transactions(store, clock, monkeypatch):
    monkeypatch.setattr(pruning, "JOBS_AT_ONCE", 10)
    meters = [f"M{number}" for number in range(29)]
    order(store, clock, "fw-1", *meters)
    end(store, "fw-1", *meters, state=JobState.SKIPPED)
    broker_takes_all(store)
    clock.advance(RETENTION_S + 1)
    assert prune(store) == 3
    assert len(broker_takes_all(store)) == len(meters) + 1


def test_an_end_that_the_broker_has_not_heard_of_is_not_taken_back(store, clock):
    for name in ("fw-1", "fw-10"):
        order(store, clock, name, "MTR1")
        end(store, name, "MTR1")
    rows = store.outbox_batch(0, 1000)
    store.outbox_delete(*(row.id for row in rows if short(row.topic) != "campaign/fw-1/job/MTR1"))
    clock.advance(RETENTION_S + 1)
    prune(store)
    assert [one.id for one in store.campaigns()] == ["fw-1"]
    broker_takes_all(store)
    prune(store)
    assert store.campaigns() == []


def test_nothing_is_forgotten_while_the_outbox_is_nearly_full(tmp_path, clock):
    store = open_store(tmp_path, clock, outbox_limit_bytes=20_000)
    order(store, clock, "fw-1", "MTR1")
    end(store, "fw-1", "MTR1")
    broker_takes_all(store)
    clock.advance(RETENTION_S + 1)
    while not store.outbox_busy():
        store.audit("trace", who="uid 0", port="rs485-1", message="x" * 500)
    assert prune(store) == 0 and store.campaigns()
    broker_takes_all(store)
    assert prune(store) == 1
    store.close()


@pytest.mark.parametrize("year", [1970, 2099])
def test_what_ended_by_a_wrong_clock_is_kept_from_then_on_when_it_is_right(tmp_path, year):
    clock = VirtualClock(datetime(year, 1, 1, tzinfo=UTC))
    store = open_store(tmp_path, clock)
    order(store, clock, "fw-1", "MTR1")
    end(store, "fw-1", "MTR1")
    broker_takes_all(store)
    clock._start = datetime(2026, 11, 22, tzinfo=UTC)
    assert prune(store) == 0
    clock.advance(RETENTION_S - DAY_S)
    assert prune(store) == 0
    clock.advance(2 * DAY_S)
    assert prune(store) == 1
    store.close()


def test_a_manifest_goes_with_its_last_campaign_unless_its_image_is_here(store, clock):
    for number, sha256 in enumerate((SHA256, "a" * 64)):
        for meter in ("MTR1", "MTR2"):
            order(store, clock, f"fw-{number}-{meter}", meter, manifest=f'{{"of":"{sha256}"}}')
            end(store, f"fw-{number}-{meter}", meter)
            clock.advance(DAY_S)
    digests = [store.campaign(f"fw-{number}-MTR1").manifest for number in (0, 1)]
    broker_takes_all(store)
    clock.advance(RETENTION_S - 3.5 * DAY_S)
    assert prune(store) == 1
    assert all(map(store.manifest, digests)), "the other campaign has it, too"
    clock.advance(10 * DAY_S)
    prune(store)
    assert [store.manifest(digest) is not None for digest in digests] == [False, False]


def test_losing_power_at_any_moment_costs_nothing_but_the_rest_of_the_work(monkeypatch):
    """At each commit in turn, before or after it; then whoever comes next goes on."""
    monkeypatch.setattr(pruning, "JOBS_AT_ONCE", 2)
    for after in (False, True):
        for blows_at in range(1, 8):
            clock = VirtualClock()
            fuse = Fuse(after=after)
            with memory_directory() as directory:
                store = open_fused(directory, clock, fuse)
                meters = [f"M{number}" for number in range(5)]
                order(store, clock, "fw-1", *meters)
                end(store, "fw-1", *meters, state=JobState.CANCELLED, record=RECORD)
                held = broker_takes_all(store)
                clock.advance(RETENTION_S + 1)
                fuse.commits, fuse.blows_at = 0, blows_at
                try:
                    prune(store)
                except PowerCut:
                    store.close()
                    store = open_store(directory, clock)
                fuse.blows_at = 0
                prune(store)
                held |= broker_takes_all(store)
                assert not any(held.values())
                assert store.campaigns() == [] and store.last_record("M1") == RECORD
                told = [event["kind"] for event in store.events(limit=1000)]
                assert told.count("forgotten") == 1
                store.close()


def test_numbers_of_jobs_go_on_when_all_were_forgotten(store, clock):
    order(store, clock, "fw-1", "MTR1")
    end(store, "fw-1", "MTR1", state=JobState.FAILED, record=RECORD)
    broker_takes_all(store)
    clock.advance(RETENTION_S + timedelta(days=1).total_seconds())
    prune(store)
    order(store, clock, "fw-2", "MTR1")
    newer = replace(RECORD, sha256="f" * 64)
    end(store, "fw-2", "MTR1", state=JobState.FAILED, record=newer)
    assert store.last_record("MTR1") == newer
