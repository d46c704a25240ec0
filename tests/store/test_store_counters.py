"""Invocation counters never go back, whatever is lost."""

import json
import sqlite3
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desk import Fuse, PowerCut, memory_directory, open_fused, open_store

from gateway.errors import CounterSpentError, StateError
from gateway.model import MeterKeys
from gateway.simulator.clock import VirtualClock
from gateway.store.counters import END, key_name
from gateway.store.parking import HIGHEST_SEED
from gateway.store.second_file import SecondFile

METER = "MTR1"


@pytest.fixture
def clock():
    return VirtualClock()


def test_a_counter_is_unknown_until_somebody_says_where_it_stands(tmp_path, clock):
    store = open_store(tmp_path, clock)
    assert store.counter(METER) is None
    with pytest.raises(StateError, match="MTR1"):
        store.reserve_counters(METER, 1)
    store.seed_counter(METER, 0)
    assert store.reserve_counters(METER, 10) == 0
    assert store.reserve_counters(METER, 1) == 10
    assert store.counter(METER) == 11
    store.close()


def test_a_seed_never_leads_back(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 500)
    store.seed_counter(METER, 100)
    assert store.counter(METER) == 500
    store.seed_counter(METER, 900)
    assert store.counter(METER) == 900
    store.close()


def test_a_broadcast_key_has_a_sequence_of_its_own_and_of_each_gateway(tmp_path, clock):
    key = key_name(bytes(16), b"MGW\0\0\0\0\1")
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 7)
    store.seed_broadcast_counter(key, 217_000_000, port="bus")
    store.seed_broadcast_counter(key, 216_000_000, port="bus")
    assert store.reserve_counters(key, 3) == 217_000_000
    assert store.counter(METER) == 7
    with pytest.raises(CounterSpentError):
        store.seed_broadcast_counter(key, HIGHEST_SEED + 1, port="bus")
    store.close()
    again = open_store(tmp_path, clock)
    assert again.counter(key) == 217_000_003
    again.close()
    assert (
        len({key, key_name(bytes(16), b"MGW\0\0\0\0\2"), key_name(b"another key 1234", b"MGW\0\0\0\0\1")})
        == 3
    )


def test_a_broadcast_key_that_is_a_meters_key_as_well_shares_its_sequence(tmp_path, clock):
    store = open_store(tmp_path, clock)
    title = b"MGW\0\0\0\0\1"
    store.name_keys({METER: MeterKeys(bytes(16))}, title)
    store.seed_counter(METER, 7)
    store.seed_broadcast_counter(key_name(bytes(16), title), 1000, port="bus")
    assert store.reserve_counters(METER, 1) == 1000
    assert store.reserve_counters(key_name(bytes(16), title), 1) == 1001
    store.close()


def test_the_last_counter_is_the_last(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, HIGHEST_SEED)
    store.reserve_counters(METER, END - 2 - HIGHEST_SEED)
    with pytest.raises(CounterSpentError, match="used up"):
        store.reserve_counters(METER, 3)
    assert store.reserve_counters(METER, 2) == END - 2
    with pytest.raises(CounterSpentError):
        store.reserve_counters(METER, 1)
    with pytest.raises(CounterSpentError):
        store.seed_counter("MTR2", HIGHEST_SEED + 1)
    assert store.counter("MTR2") is None
    store.close()


def lose_database(directory):
    for path in directory.glob("store.db*"):
        path.unlink()


def lose_file(directory):
    (directory / "counters.json").unlink(missing_ok=True)


def damage_file(directory):
    path = directory / "counters.json"
    if path.exists():
        path.write_bytes(path.read_bytes()[:-20])


def lower_file(directory):
    """A lower number under the old checksum: a flipped bit."""
    path = directory / "counters.json"
    if path.exists():
        document = json.loads(path.read_bytes())
        document["counters"] = dict.fromkeys(document["counters"], 1)
        path.write_text(json.dumps(document))


def older_database(directory):
    """The database as a backup from before had it; the file as it is now."""
    with sqlite3.connect(directory / "store.db") as database:
        database.execute("UPDATE counters SET next = next / 2")
    database.close()


LOSSES = [lose_database, lose_file, damage_file, lower_file, older_database]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_left_of_database_and_file_holds(tmp_path, clock, loss):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 100)
    store.seed_counter("MTR2", 7)
    store.reserve_counters(METER, 1000)
    store.close()
    loss(tmp_path)

    store = open_store(tmp_path, clock)
    assert store.counter(METER) == 1100
    assert store.counter("MTR2") == 7
    store.close()
    # Both are up to date again: now the other one may be lost.
    assert SecondFile(tmp_path, "counters").read() == {METER: 1100, "MTR2": 7}
    lose_file(tmp_path)
    store = open_store(tmp_path, clock)
    assert store.counter(METER) == 1100
    store.close()


def test_with_both_lost_the_counter_is_unknown_not_zero(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 100)
    store.close()
    lose_database(tmp_path)
    lose_file(tmp_path)
    store = open_store(tmp_path, clock)
    assert store.counter(METER) is None
    store.close()


def test_a_damaged_file_is_kept_for_a_look(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 100)
    store.close()
    (tmp_path / "counters.json").write_bytes(b'{"v": 1, "counters": {"MTR1": "x"}, "sha256": ""}')
    open_store(tmp_path, clock).close()
    assert (tmp_path / "counters.json.broken").exists()


def test_a_number_that_does_not_fit_its_checksum_is_not_believed(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 100)
    store.close()
    path = tmp_path / "counters.json"
    path.write_bytes(path.read_bytes().replace(b"100", b"4000000000", 1))
    store = open_store(tmp_path, clock)
    assert store.counter(METER) == 100, "a counter that jumps locks the meter for ever"
    store.close()


action = st.one_of(
    st.tuples(st.just("reserve"), st.integers(1, 50)),
    st.tuples(st.just("lose"), st.sampled_from(LOSSES)),
    st.tuples(st.just("cut"), st.booleans()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(action, min_size=1, max_size=12))
def test_no_counter_comes_twice_through_any_losses_and_power_cuts(actions):
    clock, used = VirtualClock(), []
    with memory_directory() as directory:
        fuse = Fuse()
        store = open_fused(directory, clock, fuse)
        store.seed_counter(METER, 5)
        for kind, what in actions:
            if kind == "cut":
                fuse.blows_at, fuse.after = fuse.commits + 1, what
            try:
                if kind != "lose":
                    count = what if kind == "reserve" else 3
                    first = store.reserve_counters(METER, count)
                    used += range(first, first + count)
            except PowerCut:
                fuse.blows_at = 0
            if kind != "reserve":
                store.close()
                if kind == "lose":
                    what(directory)
                store = open_fused(directory, clock, fuse)
        used.append(store.reserve_counters(METER, 1))
        store.close()
    assert used == sorted(set(used))


def test_threads_never_share_a_counter(tmp_path, clock):
    store = open_store(tmp_path, clock)
    store.seed_counter(METER, 0)
    used, lock = [], threading.Lock()

    def reserve():
        for _ in range(20):
            first = store.reserve_counters(METER, 3)
            with lock:
                used.extend(range(first, first + 3))

    threads = [threading.Thread(target=reserve) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(used) == list(range(6 * 20 * 3))
    store.close()
