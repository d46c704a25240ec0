"""The database keeps room for itself, so that a disk that others fill stops no commit (with a real full disk:
tests/daemon/test_bad_surroundings.py)."""

from __future__ import annotations

import pytest
from support.box import Box, fill, tmpfs

from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.store.database import FILE_NAME
from gateway.store.room import ROOM_BYTES
from gateway.store.second_file import SecondFile


def open_store(tmp_path):
    return Store(tmp_path, gateway_id="gw-001", root="mgw/v1", clock=VirtualClock())


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def sizes(tmp_path):
    """What the database and its log have of the disk, holes in the files left out."""
    return [(tmp_path / name).stat().st_blocks * 512 for name in (FILE_NAME, f"{FILE_NAME}-wal")]


def write(store, count):
    for number in range(count):
        with store._transaction() as database:
            database.execute("INSERT INTO meta VALUES (?, ?)", (f"x{number}", "y" * 3000))


def test_commits_take_nothing_from_the_disk_after_room_was_kept(tmp_path, store):
    store.keep_room()
    before = sizes(tmp_path)
    assert all(size >= ROOM_BYTES for size in before)
    write(store, 400)  # the log is copied back several times on the way
    assert sizes(tmp_path) == before


def test_room_is_kept_once_and_again_when_half_of_it_was_used(tmp_path, store):
    store.keep_room()
    before = sizes(tmp_path)
    store.keep_room()
    assert sizes(tmp_path) == before
    write(store, 800)
    store.keep_room()
    assert sizes(tmp_path)[0] > before[0] + ROOM_BYTES // 2


def test_a_power_cut_while_room_was_made_leaves_nothing_in_the_way(tmp_path, store):
    store._fill()
    store.close()
    again = open_store(tmp_path)
    again.keep_room()
    assert again._row("SELECT 1 FROM sqlite_master WHERE name = 'room'") is None
    again.close()


def test_counters_find_room_in_their_own_file_while_the_disk_is_full(tmp_path):
    directory = tmp_path / "state"
    there = Box(tmpfs(directory, "64k"))
    counters = SecondFile(there.path(directory), "counters")
    counters.write({"MTR1": 1000})
    fill(there.path(directory))
    for number in range(1000, 1100):
        counters.write({"MTR1": number})
    assert SecondFile(there.path(directory), "counters").read() == {"MTR1": 1099}
    there.close()
