"""Whatever state a power cut leaves of the Store's files, it opens again, and has what it had promised."""

import pytest
from support.desk import memory_directory
from support.disk_watch import recorded

from gateway.simulator.clock import VirtualClock
from gateway.store import Store


@pytest.fixture
def base():
    with memory_directory() as directory:
        yield directory


def opened(directory):
    return Store(directory, gateway_id="gw-1", root="mgw/v1", clock=VirtualClock())


def states(base, disk, count):
    """Cuts, and directories with what they leave."""
    for number, cut in enumerate(disk.cuts(count)):
        disk.leave(cut, base / str(number))
        yield cut, base / str(number)


def test_the_first_start_may_be_cut_anywhere(base):
    (base / "state").mkdir()
    with recorded(base / "state") as disk:
        store = opened(base / "state")
        ready = disk.now
        epoch = store.epoch
        store.close()
    for cut, directory in states(base, disk, 90):
        store = opened(directory)
        assert store.set_aside is None, cut
        assert cut.after < ready or store.epoch == epoch, cut
        store.close()


def test_no_counter_comes_twice_whatever_the_disk_kept(base):
    (base / "state").mkdir()
    given = []
    with recorded(base / "state") as disk:
        store = opened(base / "state")
        store.seed_counter("MTR1", 1000)
        for _ in range(12):
            first = store.reserve_counters("MTR1", 50)
            given.append((disk.now, first + 49))
        store.close()
    for cut, directory in states(base, disk, 90):
        store = opened(directory)
        used = [last for moment, last in given if moment <= cut.after]
        assert not used or store.reserve_counters("MTR1", 50) > used[-1], cut
        assert store.set_aside is None, cut
        assert not list(directory.glob("*broken*")), cut
        store.close()
