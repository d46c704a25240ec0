"""Whose state it is: the machine that it was made on, until an operator says otherwise."""

from dataclasses import replace

import pytest
from support.desk import Fuse, PowerCut, open_fused, open_store

from gateway.errors import MachineError, StateError
from gateway.model import Machine
from gateway.simulator.clock import VirtualClock
from gateway.store.binding import COUNTER_STEP
from gateway.store.counters import END

HERE = Machine(board=("board 1",), interfaces=("a", "b"), machine_id=("id",))
COPY = replace(HERE, board=("board 2",))


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def copied(tmp_path, clock):
    """A state with counters, found on another machine."""
    store = open_store(tmp_path, clock)
    assert store.look_at_machine(HERE)
    store.seed_counter("MTR1", 1000)
    store.seed_counter("MTR2", 500)
    store._raise_to("MTR2", END - 5)
    store.close()
    store = open_store(tmp_path, clock)
    assert not store.look_at_machine(COPY)
    yield store
    store.close()


def alarms(store):
    return [event["message"] for event in store.events(0, 100) if event["kind"] == "alarm"]


def test_the_first_machine_is_its_own(tmp_path, clock):
    store = open_store(tmp_path, clock)
    assert store.look_at_machine(HERE)
    store.check_machine()
    assert alarms(store) == []
    store.close()


def test_no_counter_is_given_out_on_another_machine_whoever_asks(copied):
    for _ in range(2):
        with pytest.raises(MachineError) as refused:
            copied.reserve_counters("MTR1", 1)
    assert (refused.value.code, refused.value.retryable) == ("E_MACHINE", True)
    assert "state adopt" in refused.value.advice
    assert copied.counter("MTR1") == 1000
    assert len(alarms(copied)) == 1


def test_back_on_its_own_machine_nothing_has_happened(copied, tmp_path, clock):
    copied.close()
    store = open_store(tmp_path, clock)
    assert store.look_at_machine(HERE)
    assert store.reserve_counters("MTR1", 10) == 1000
    assert alarms(store)[-1].endswith("over")
    store.close()


def test_an_adopted_state_goes_on_above_all_that_the_other_machine_may_have_used(copied, tmp_path, clock):
    epoch = copied.epoch
    copied.adopt(COPY, who="uid 0")
    assert copied.reserve_counters("MTR1", 10) == 1000 + COUNTER_STEP
    assert copied.counter("MTR2") == END, "a spent one stays spent"
    assert copied.epoch != epoch
    event = next(event for event in copied.events(0, 100) if event["kind"] == "store")
    assert (event["who"], event["epoch"]) == ("uid 0", copied.epoch)
    copied.close()
    for machine, own in ((HERE, False), (COPY, True)):
        store = open_store(tmp_path, clock)
        assert store.look_at_machine(machine) is own
        store.close()


@pytest.mark.parametrize("machine", [HERE, Machine()], ids=["its own", "one that tells nothing"])
def test_what_belongs_here_is_not_adopted(tmp_path, clock, machine):
    store = open_store(tmp_path, clock)
    with pytest.raises(StateError, match="belongs to this machine already"):
        store.adopt(machine, who="uid 0")
    store.look_at_machine(HERE)
    store.seed_counter("MTR1", 1000)
    with pytest.raises(StateError, match="belongs to this machine already"):
        store.adopt(machine, who="uid 0")
    assert store.counter("MTR1") == 1000
    store.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_power_cut_while_it_is_adopted(copied, tmp_path, clock, after):
    """The counters may be higher then, never lower, and it is adopted wholly or not at all."""
    epoch = copied.epoch
    copied.close()
    store = open_fused(tmp_path, clock, Fuse(blows_at=1, after=after))
    with pytest.raises(PowerCut):
        store.adopt(COPY, who="uid 0")
    store.close()
    store = open_store(tmp_path, clock)
    assert (store.epoch != epoch) is after
    assert store.look_at_machine(COPY) is after
    assert store.counter("MTR1") == 1000 + COUNTER_STEP, "the second file was written before"
    store.close()


def test_facts_that_come_later_are_remembered_and_those_that_are_not_seen_are_kept(tmp_path, clock):
    for found in (
        Machine(machine_id=("id",)),
        Machine(board=("board 1",), machine_id=("id",)),
        Machine(machine_id=("id",)),
        Machine(board=("board 1",), machine_id=("reinstalled",)),
    ):
        store = open_store(tmp_path, clock)
        assert store.look_at_machine(found), found
        store.close()
    store = open_store(tmp_path, clock)
    assert not store.look_at_machine(Machine(board=("board 2",), machine_id=("reinstalled",)))
    store.close()


def break_database(state_dir):
    for rest in state_dir.glob("store.db-*"):
        rest.unlink()
    (state_dir / "store.db").write_bytes(b"a card that was copied while it was written to" * 100)


def test_a_copy_whose_database_is_broken_does_not_become_anybody_elses(copied, tmp_path, clock):
    """A card that was copied under a running gateway: the counters come from their second file, and their owner too."""
    copied.close()
    break_database(tmp_path)
    store = open_store(tmp_path, clock)
    assert store.set_aside is not None
    assert not store.look_at_machine(COPY)
    with pytest.raises(MachineError):
        store.reserve_counters("MTR1", 1)
    store.adopt(COPY, who="uid 0")
    assert store.reserve_counters("MTR1", 1) == 1000 + COUNTER_STEP
    store.close()


@pytest.mark.parametrize("machine", [HERE, COPY], ids=["never moved", "adopted"])
def test_a_broken_database_changes_nothing_for_its_own_machine(copied, tmp_path, clock, machine):
    if machine is COPY:
        copied.adopt(COPY, who="uid 0")
    copied.close()
    for _ in range(2):
        break_database(tmp_path)
        store = open_store(tmp_path, clock)
        assert store.look_at_machine(machine)
        assert store.reserve_counters("MTR1", 1) >= 1000
        store.close()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"board": 7}', b"\xff"])
def test_a_second_copy_that_says_nothing_is_written_anew(tmp_path, clock, content):
    for state_of_the_file in (content, None):
        store = open_store(tmp_path, clock)
        if state_of_the_file is not None:
            store.look_at_machine(HERE)
            (tmp_path / "machine.json").write_bytes(state_of_the_file)
        assert store.look_at_machine(HERE)
        store.close()
    break_database(tmp_path)
    store = open_store(tmp_path, clock)
    assert not store.look_at_machine(COPY)
    store.close()
