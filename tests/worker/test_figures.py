"""What is counted of a line and of each meter on it, as `port.list` and `meter.list` show it."""

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.model import Profile
from gateway.simulator import Faults, MeterSpec, Noise, What, several
from gateway.wire.hdlc import Address, FrameType, control_octet, encode_frame
from gateway.wire.hdlc_client import HdlcClient
from gateway.wire.tally import Tally
from gateway.worker.figures import POST_S

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300, after_initiate_s=1)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def two(disk, *, second=None, **options):
    one, other = several(MeterSpec(), 2)
    meters = [
        SimMeter(one, id="MTR1", profile=QUICK),
        SimMeter(other, id="MTR2", profile=QUICK, faults=second or Faults()),
    ]
    return World(disk, meters, **{"image_size": 32768} | options)


def figures(world):
    """Of the port, and of each meter, once they are told anew; those of a meter that nobody spoke to are missing."""
    asked_s = world.now_s
    world.run(lambda: world.now_s > asked_s + 2 * POST_S)
    ports = world.ask_at_the_gateway("port.list", {}).data["ports"]
    meters = world.ask_at_the_gateway("meter.list", {}).data["meters"]
    return ports[0].get("figures"), {meter["meter"]: meter.get("figures") for meter in meters}


def test_every_octet_of_the_line_is_counted_once(disk):
    world = two(disk)
    world.submit()
    world.run_until_told()
    port, meters = figures(world)
    assert port["octets_out"] + port["octets_in"] == world.lines["bus1"].octets_carried
    for name in ("octets_out", "octets_in", "exchanges", "polls", "timeouts", "sessions"):
        assert port[name] == sum(one[name] for one in meters.values()), name
    assert meters["MTR1"]["sessions"] == world.meters["MTR1"].history.count(What.ASSOCIATED)
    assert port["exchanges"] > 2 * 128
    assert (port["polls"], port["damaged"], port["foreign"]) == (0, 0, 0)
    assert port["last_heard"] == max(one["last_heard"] for one in meters.values())


def test_utilisation_is_the_share_of_time_in_which_the_line_was_needed(disk):
    world = two(disk, image_size=131072)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() == 400)
    port, _ = figures(world)
    assert 0.98 <= port["utilisation_minute"] <= 1.0, (
        "blocks all the time, and virtual time knows no dead time"
    )
    world.run_until_told()
    told_s = world.now_s
    world.run(lambda: world.now_s > told_s + 130)
    port, _ = figures(world)
    assert port["utilisation_minute"] == 0.0
    assert 0.3 < port["utilisation_hour"] < 1.0
    world.run(lambda: world.now_s > told_s + 3800)
    assert figures(world)[0]["utilisation_hour"] == 0.0


def test_what_goes_wrong_is_told_of_the_meter_it_goes_wrong_with(disk):
    world = two(disk, second=Faults(ignores_snrm_parameters=True))
    world.submit()
    world.run_until_told()
    _, meters = figures(world)
    tries = 6
    assert (meters["MTR2"]["timeouts"], meters["MTR2"]["polls"]) == (3 * tries, 2 * tries)
    assert (meters["MTR2"]["octets_in"], meters["MTR2"]["last_heard"], meters["MTR2"]["sessions"]) == (
        0,
        None,
        0,
    )
    assert meters["MTR1"]["timeouts"] <= 3, "while it restarts"


def test_a_single_probe_is_told_soon_although_nothing_follows(disk):
    world = two(disk)
    world.run(lambda: world.now_s > 100.0)
    for _ in range(2):
        cmd_id = world.command_at_the_gateway("meter.probe", {"meter": "MTR2"})
        world.run(lambda cmd_id=cmd_id: world.store.reply_of(cmd_id).status == "done")
    port, meters = figures(world)
    assert meters["MTR2"]["exchanges"] == port["exchanges"] == 2 * (1 + 9), "AARQ, and nine attributes"
    assert port["utilisation_minute"] > 0


def test_damaged_frames_are_counted(disk):
    world = two(disk, line_faults=Faults(to_gateway=Noise(damaged=0.2)))
    world.submit(targets=["MTR1"])
    world.run_until_told()
    port, meters = figures(world)
    assert port["damaged"] > 10
    assert meters["MTR2"] is None


def test_frames_of_others_are_counted_and_dropped():
    tally = Tally()
    client = HdlcClient(Address(1, 17), 1, tally=tally)
    client.connect()
    ua = control_octet(FrameType.UA, True)
    other = encode_frame(Address(1).encode() + Address(1, 18).encode(), ua)
    assert not client.receive(other).heard
    assert (tally.foreign, tally.damaged) == (1, 0)
    ours = encode_frame(Address(1).encode() + Address(1, 17).encode(), ua)
    assert client.receive(ours).heard
    assert client.connected
    assert (tally.foreign, tally.damaged) == (1, 0)
