"""Whatever state a power cut leaves of the Store's files and of images, they open again and have what was promised."""

import pytest
from support.desk import campaign, command, jobs_of, memory_directory
from support.disk_watch import recorded
from support.old_state import DB, as_version_1, rows_of, version_of

from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.supply.images import ImageStore


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
    (base / "disk").mkdir()
    with recorded(base / "disk") as disk:
        store = opened(base / "disk" / "var" / "state")
        ready = disk.now
        epoch = store.epoch
        store.close()
    for cut, directory in states(base, disk, 90):
        store = opened(directory / "var" / "state")
        assert store.set_aside is None, cut
        assert cut.after < ready or store.epoch == epoch, cut
        store.close()


def test_an_image_that_was_stored_is_there_though_its_directory_was_new(base):
    (base / "disk").mkdir()
    with recorded(base / "disk") as disk:
        image = ImageStore(base / "disk" / "images", 2**20).add([b"firmware" * 500])
        stored = disk.now
    for cut, directory in states(base, disk, 60):
        images = ImageStore(directory / "images", 2**20)
        assert images.list() == ((image,) if images.has(image.sha256) else ()), cut
        assert cut.after < stored or images.check(image.sha256) == image, cut


def test_an_upgrade_may_be_cut_anywhere_and_its_backup_outlasts_the_old_state(base):
    home = base / "disk"
    home.mkdir()
    store = opened(home)
    clock = VirtualClock()
    order = campaign(clock, "MTR1", "MTR2")
    store.submit_campaign(command(clock), order, jobs_of(order))
    before = store.epoch, store.jobs(order.id), store.events()
    store.close()
    as_version_1(home)
    old = rows_of(home / DB)
    with recorded(home) as disk:
        opened(home).close()
    for cut, directory in states(base, disk, 90):
        if version_of(directory / DB) > 1:
            assert rows_of(directory / f"{DB}.v1") == old, cut
        store = opened(directory)
        assert (store.epoch, store.jobs(order.id), store.events()) == before, cut
        assert store.set_aside is None, cut
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
