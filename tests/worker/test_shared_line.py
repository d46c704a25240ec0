"""Another master on the line, as jobs and operators meet him; the whole gateway on virtual time."""

import socket

import pytest
from support.desk import memory_directory
from support.world import BASE, SimMeter, World

from gateway.clock import SystemClock
from gateway.link.port import open_port
from gateway.model import PortKind, PortSettings, Profile
from gateway.simulator import Faults, MeterSpec, Noise, Talk, several
from gateway.wire.hdlc import Address, Frame, FrameType
from gateway.wire.masters import of_another_master, worded
from gateway.worker.shared_line import PAUSE_S, SharedLine

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)
SHARED = f"{BASE}/alarm/port-shared.bus1"
CLIENT, METER = Address(3, None, 1), Address(1, 99, 2)
ASKS = Frame(METER, CLIENT, FrameType.RR, True).encode()
CONNECTS = Frame(METER, CLIENT, FrameType.SNRM, True).encode()
ANSWERS = Frame(CLIENT, METER, FrameType.UA, True).encode()


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def a_bus(disk, *talks, meters=1, **options):
    sims = [
        SimMeter(spec, id=f"MTR{n + 1}", profile=QUICK) for n, spec in enumerate(several(MeterSpec(), meters))
    ]
    faults = options.pop("line_faults", Faults(talks=talks))
    return World(disk, sims, line_faults=faults, **{"image_size": 16384} | options)


def told(world):
    """What stands at the broker, or None."""
    document = world.broker.snapshot(SHARED)
    return document and document["message"]


def test_a_master_who_goes_on_and_on_is_noticed_before_a_single_frame_of_ours(disk):
    """Every 300 ms, for as long as anybody waits."""
    world = a_bus(disk, Talk(octets=CONNECTS, pause_s=0.3), Talk(from_s=0.1, octets=ANSWERS, pause_s=0.3))
    world.submit()
    world.run(lambda: world.job().get("state") == "waiting")
    assert world.lines["bus1"].writes == 0
    assert world.job()["code"] == "T_PORT"
    assert world.job()["message"].startswith(
        "another master talks on the line without a pause: client 3 talks to"
    )
    world.run(lambda: told(world) is not None)
    assert told(world) == "another master talks on the line: client 3 talks to address 1/99"
    world.run(lambda: world.now_s > 1800)
    assert world.lines["bus1"].writes == 0
    assert world.job()["state"] == "waiting"


def test_whoever_stops_is_waited_for_and_the_alarm_ends_when_he_was_not_heard_for_ten_minutes(disk):
    world = a_bus(disk, Talk(from_s=0.5, octets=CONNECTS))
    world.lines["bus1"].clock.advance(1.0)
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.job()["tries"] == 0
    assert told(world) is not None
    world.run(lambda: told(world) is None, limit_s=1500)
    assert world.now_s > 600
    kinds = [event["message"] for event in world.store.events(0, 1000) if event["kind"] == "alarm"]
    assert len(kinds) == 2


def test_collisions_with_him_cost_time_and_no_job(disk):
    """Each second a frame, whether we talk or not: far more than six failures in a row."""
    world = a_bus(disk, Talk(from_s=5.0, octets=ASKS * 20, pause_s=1.0), meters=2)
    world.submit()
    world.run_until_told(limit_s=40 * 3600.0)
    assert {world.job(meter)["state"] for meter in ("MTR1", "MTR2")} == {"updated"}
    assert told(world) is not None
    assert all(meter.history.activations == 1 for meter in world.meters.values())


def test_late_answers_of_our_own_meters_are_nobody_elses(disk):
    noise = Noise(delayed=0.3, delay_s=4.0)
    world = a_bus(disk, meters=3, line_faults=Faults(to_gateway=noise))
    world.submit()
    world.run_until_told()
    assert {world.job(f"MTR{number}")["state"] for number in (1, 2, 3)} == {"updated"}
    assert not [event for event in world.store.events(0, 1000) if "port-shared" in event["message"]]


@pytest.mark.parametrize("frame, other, words", [
    (Frame(METER, CLIENT, FrameType.SNRM, True), True, "client 3 talks to address 1/99"),
    (Frame(METER, Address(1, None, 1), FrameType.I, True), True, "client 1 talks to address 1/99"),
    (Frame(Address(17, None, 1), CLIENT, FrameType.SNRM, True), True, "client 3 talks to address 17"),
    (Frame(CLIENT, METER, FrameType.UA, True), True, "address 1/99 answers client 3"),
    (Frame(Address(1, None, 1), METER, FrameType.I, True), False, ""),
    (Frame(Address(16, None, 1), METER, FrameType.UA, True), False, ""),
    (Frame(Address(1, None, 1), Address(17, None, 1), FrameType.I, True), False, ""),
])  # fmt: skip
def test_whose_frames_are_these_where_we_are_clients_1_and_16(frame, other, words):
    assert of_another_master(frame, {1, 16}) is other
    if other:
        assert worded(frame) == words


def test_a_device_server_without_a_connection_is_not_listened_to_and_no_fault_of_its_meters(disk):
    """Its connection is made by what is written first, and made again after the server has ended it."""
    world = a_bus(disk)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        settings = PortSettings("bus1", PortKind.RS485, device=url)
        clock = SystemClock()
        line, port = SharedLine(settings, clients={1}, store=world.store, clock=clock), open_port(settings)
        line.listen(port)
        port.write(b"x")
        peer, _ = server.accept()
        peer.close()
        clock.sleep(PAUSE_S)
        line.listen(port)
        port.write(b"x")
        port.close()
