"""What the state of one long transfer costs an SD card: the short form of `make endurance`'s store_writes."""

from support.desk import memory_directory
from support.disk import Sync, Write
from support.disk_watch import recorded
from support.world import SimMeter, World, ciphered


def test_a_transfer_of_minutes_costs_the_disk_a_sync_every_ten_seconds_and_few_more():
    with memory_directory() as directory, recorded(directory) as disk:
        meter = SimMeter(ciphered(block_size=512, max_info=2030, max_pdu=2030))
        world = World(directory, [meter], image_size=256 * 1024, baud=9600)
        world.images.add([world.image])
        begin, begin_s = disk.now, world.now_s
        world.submit()
        world.run_until_told()
        took_s = world.now_s - begin_s
        world.store.close()
    done = disk.operations[begin:]
    assert world.job()["state"] == "updated"
    assert took_s > 300
    assert sum(isinstance(operation, Sync) for operation in done) <= took_s / 10 + 25
    written = sum(len(operation.octets) for operation in done if isinstance(operation, Write))
    assert written <= 2 * 2**20
