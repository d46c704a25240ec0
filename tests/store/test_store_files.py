"""What happens to the files in the state directory: made, migrated, broken, too new, shared by mistake."""

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from support.desk import Fuse, PowerCut, campaign, command, jobs_of, open_fused, open_store

from gateway.board import CONTROL, UPLINK, Board, port_actor
from gateway.errors import StoreError
from gateway.model import JobState, TransferRecord
from gateway.simulator.clock import VirtualClock
from gateway.store.second_file import SecondFile

DB = "store.db"


@pytest.fixture
def clock():
    return VirtualClock()


def ran_for_a_while(directory, clock):
    """A Store with an order in it, closed as after kill -9: the log was not folded in."""
    store = open_store(directory, clock)
    order = campaign(clock, "MTR1")
    store.submit_campaign(command(clock), order, jobs_of(order))
    store.seed_counter("MTR1", 1000)
    store.reserve_counters("MTR1", 50)
    epoch = store.epoch
    store.close()
    return epoch


# -- what is broken is set aside ------------------------------------------------------------------------------


def garbage(path):
    path.write_bytes(b"The quick brown fox jumps over the lazy dog. " * 500)


def zeros_in_the_middle(path):
    octets = bytearray(path.read_bytes())
    octets[4096 : 4096 * 6] = bytes(4096 * 5)
    path.write_bytes(octets)


def cut_short(path):
    path.write_bytes(path.read_bytes()[: 4096 * 3 + 100])


def somebody_elses(path):
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()


def ours_without_its_tables(path):
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE meta")
    other.close()


@pytest.mark.parametrize(
    "damage", [garbage, zeros_in_the_middle, cut_short, somebody_elses, ours_without_its_tables]
)
def test_a_broken_database_is_kept_aside_and_counters_come_from_the_second_file(tmp_path, clock, damage):
    epoch = ran_for_a_while(tmp_path, clock)
    damage(tmp_path / DB)
    broken = (tmp_path / DB).read_bytes()

    store = open_store(tmp_path, clock)
    assert store.set_aside == tmp_path / f"{DB}.broken-20260101T000000"
    assert store.set_aside.read_bytes() == broken
    assert store.epoch != epoch
    assert store.counter("MTR1") == 1050
    event, alarm = store.events()
    assert (alarm["kind"], alarm["seq"]) == ("alarm", 2)
    assert (event["kind"], event["seq"], event["epoch"]) == ("store", 1, store.epoch)
    assert store.set_aside.name in event["message"]
    store.close()

    again = open_store(tmp_path, clock)
    assert again.set_aside is None
    assert again.epoch == store.epoch
    again.close()


def test_each_broken_database_is_kept_under_a_name_of_its_own(tmp_path, clock):
    for _ in range(3):
        open_store(tmp_path, clock).close()
        garbage(tmp_path / DB)
    open_store(tmp_path, clock).close()
    assert len(list(tmp_path.glob(f"{DB}.broken-*"))) == 3


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "gone"])
def test_a_database_that_is_gone_is_made_anew_with_a_new_epoch(tmp_path, clock, content):
    epoch = ran_for_a_while(tmp_path, clock)
    (tmp_path / DB).unlink() if content is None else (tmp_path / DB).write_bytes(content)
    store = open_store(tmp_path, clock)
    assert store.epoch != epoch
    assert store.campaigns() == []
    assert store.counter("MTR1") == 1050
    store.close()


# -- who may use it, and how much it takes --------------------------------------------------------------------

OPEN_FROM_OUTSIDE = """
import sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.errors import StoreError
from gateway.store import Store
try:
    Store(Path(sys.argv[1]), gateway_id="", root="", clock=SystemClock())
except StoreError as error:
    print(error)
"""


def test_two_processes_never_share_a_state_directory(tmp_path, clock):
    store = open_store(tmp_path, clock)
    script = [sys.executable, "-c", OPEN_FROM_OUTSIDE, str(tmp_path)]
    said = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    assert "in use by another meter-gateway" in said.stdout
    store.close()
    said = subprocess.run(script, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == ""


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_state_directory_that_cannot_be_is_a_store_error(tmp_path, clock, place):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path / place, clock)


def test_a_closed_store_says_so(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.campaigns()


def test_the_write_ahead_log_stays_bounded(tmp_path, clock):
    store = open_store(tmp_path, clock, gateway_id="")
    order = campaign(clock, "MTR1")
    store.submit_campaign(command(clock), order, jobs_of(order))
    job = store.job("fw-1", "MTR1")
    for _ in range(1500):
        job = store.save_job(job)
    assert (tmp_path / f"{DB}-wal").stat().st_size < 6 * 2**20
    assert job.rev == 1501
    store.close()


def test_a_checkpoint_costs_the_card_a_few_pages(tmp_path, clock):
    store = open_store(tmp_path, clock)
    order = campaign(clock, "MTR1")
    store.submit_campaign(command(clock), order, jobs_of(order))
    record = TransferRecord("0" * 64, b"X3", 4096 * 64, 64, acked=bytes(512))
    job = store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.TRANSFERRING, record=record))
    store._rows("PRAGMA wal_checkpoint(TRUNCATE)")
    store.save_job(replace(job, blocks_done=400, record=replace(record, acked=b"\xff" * 512, ceiling=500)))
    assert (tmp_path / f"{DB}-wal").stat().st_size < 3 * 4200, "the job and its record, no index, no message"
    store.close()


def test_bells_ring_only_after_the_commit(tmp_path, clock):
    board = Board()
    store = open_fused(tmp_path, clock, Fuse(blows_at=3), board)
    rung = [board.bell(name) for name in (UPLINK, CONTROL, port_actor("rs485-1"))]
    order = campaign(clock, "MTR1")
    store.submit_campaign(command(clock), order, jobs_of(order))
    assert [bell.is_set() for bell in rung] == [True, False, True]
    for bell in rung:
        bell.clear()
    with pytest.raises(PowerCut):
        store.cancel_campaign(command(clock, "campaign.cancel"), "fw-1")
    assert not any(bell.is_set() for bell in rung)
    store.close()


def test_no_secret_and_no_world_readable_file_is_made(tmp_path, clock):
    state = tmp_path / "state"
    store = open_store(state, clock)
    assert state.stat().st_mode & 0o007 == 0
    store.close()
    assert SecondFile(state, "counters").read() is None
