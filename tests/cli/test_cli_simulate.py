"""`meter-gateway simulate`: what it serves can be used as it says, and what it cannot do it says."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime

import pytest
from support.bench import FIRMWARE, Bench, an_image
from support.patience import PATIENCE_S

from gateway import config
from gateway.cli import main, simulated_faults, simulated_lines
from gateway.link.port import open_port
from gateway.model import Authentication, Framing, MeterKeys, PortKind
from gateway.simulator import A7, Bitmap, Echo, Erasing, Faults, MeterSpec
from gateway.transfer import Item
from gateway.transfer.schedule import CLOCK_TOLERANCE_S, clock_off_s
from gateway.wire import axdr, broadcast
from gateway.wire.hdlc import Address
from gateway.wire.image_transfer import DEFAULT_INSTANCE
from gateway.worker import objects


class Simulation:
    """`meter-gateway simulate` as a process of its own."""

    def __init__(self, directory, *options):
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "simulate", "--directory", str(directory), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline_s = time.monotonic() + PATIENCE_S
        while not (directory / "keys.toml").exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline_s, "it does not begin"
            time.sleep(0.05)

    def end(self, number=signal.SIGTERM):
        """Its status, and what it said."""
        self.process.send_signal(number)
        said, complaints = self.process.communicate(timeout=PATIENCE_S)
        assert complaints == ""
        return self.process.returncode, said


@pytest.fixture
def simulation(tmp_path):
    begun = []

    def begin(*options):
        begun.append(Simulation(tmp_path / "sim", *options))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def as_bench(meter, keys):
    """What the configuration tells of a meter, as a bench needs it."""
    lower = None if meter.address_bytes == 1 else meter.physical_address
    return MeterSpec(
        address=Address(meter.logical_address, lower), authentication=meter.authentication,
        security=meter.security, keys=keys,
    )  # fmt: skip


def versions(directory):
    """What each meter reports to a gateway that knows the written configuration only."""
    known, found = config.load(directory / "gateway.toml"), {}
    for port in known.ports:
        for meter in (meter for meter in known.meters if meter.port == port.name):
            line = open_port(port)
            bench = Bench(
                line,
                as_bench(meter, known.keys.get(meter.id, MeterKeys())),
                framing=port.framing,
                timeout_s=10.0,
            )
            found[meter.id] = bench.connect().associate().get(FIRMWARE)
            line.close()
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_it_wrote_is_all_that_a_gateway_needs_and_nothing_is_left_of_the_line(
    simulation, tmp_path, number
):
    link = tmp_path / "bus"
    running = simulation(
        "--port", str(link), "--tcp", "0", "--meters", "2", "--baud", "0",
        "--security", "gmac,none,lls", "--runs", "1.0.0,1.1.0",
    )  # fmt: skip
    assert versions(running.directory) == {
        "MTR0001": b"1.0.0", "MTR0002": b"1.1.0", "MTR0003": b"1.0.0", "MTR0004": b"1.1.0",
    }  # fmt: skip
    known = config.load(running.directory / "gateway.toml")
    assert [(port.kind, port.framing) for port in known.ports] == [
        (PortKind.RS485, Framing.HDLC), (PortKind.TCP, Framing.WRAPPER),
    ]  # fmt: skip
    levels = [Authentication.HLS_GMAC, Authentication.NONE, Authentication.LLS, Authentication.HLS_GMAC]
    assert [meter.authentication for meter in known.meters] == levels
    status, said = running.end(number)
    assert status == 0
    assert f"meter-gateway run --config {running.directory}/gateway.toml" in said
    assert '[[ports]]\nname = "rs485-1"\nkind = "rs485"\n' in said
    assert not link.is_symlink()


def test_what_another_gateway_takes_has_the_same_ports_and_meters_and_no_more(simulation):
    running = simulation("--meters", "3")
    own = tomllib.loads((running.directory / "gateway.toml").read_text())
    other = tomllib.loads((running.directory / "simulated.toml").read_text())
    assert set(own) - set(other) == {"gateway", "firmware"}
    assert all(own[name] == section for name, section in other.items())


def test_with_json_it_tells_where_everything_is_in_one_document(simulation):
    running = simulation("--json", "--optical", "head", "--meters", "4")
    status, said = running.end()
    told = json.loads(said)
    assert status == 0
    assert [port["kind"] for port in told["ports"]] == ["optical"]
    assert [meter["id"] for meter in told["meters"]] == ["MTR0001"], "a head sits on one meter"
    assert told["config"] == str(running.directory / "gateway.toml")


def test_meters_that_take_broadcasts_take_what_a_gateway_sends_with_the_written_configuration(
    simulation, tmp_path
):
    running = simulation(
        "--broadcast", "--meters", "2", "--tcp", "0", "--port", str(tmp_path / "bus"), "--baud", "0"
    )
    known = config.load(running.directory / "gateway.toml")
    on_bus = [meter for meter in known.meters if meter.port == "rs485-1"]
    (profile,) = {meter.profile for meter in on_bus}
    (of_group,) = {
        (known.keys[meter.id].broadcast_key, known.keys[meter.id].authentication_key) for meter in on_bus
    }
    assert profile.broadcast
    image = an_image(256)
    line = open_port(known.ports[0])
    benches = [Bench(line, as_bench(meter, known.keys[meter.id]), timeout_s=10.0) for meter in on_bus]
    for bench in benches:
        assert bench.connect().associate().initiate(image) == 0
        bench.disconnect()
    sealed_by = broadcast.protection(
        broadcast_key=of_group[0], authentication_key=of_group[1],
        own_title=known.gateway.system_title, general=False,
    )  # fmt: skip
    stations = broadcast.all_stations(1, 2)
    block = broadcast.BlockBroadcast(
        stations, profile.broadcast_client, instance=DEFAULT_INSTANCE, sealed_by=sealed_by
    ).frame(0, image, 1)
    line.write(block)
    for bench in benches:
        assert bench.connect().associate().missing(image) == []
        bench.disconnect()
    line.close()


def test_meters_can_be_given_a_time_with_the_written_configuration(simulation):
    """They have the schedule that their profile names, and their clocks show the time of its zone."""
    known = config.load(simulation("--tcp", "0").directory / "gateway.toml")
    (meter,) = known.meters
    line = open_port(known.ports[0])
    bench = Bench(line, as_bench(meter, known.keys[meter.id]), framing=Framing.WRAPPER, timeout_s=10.0)
    bench.connect().associate()
    assert bench.get(objects.attribute_of(Item.SCHEDULE, meter.profile, "")) == (), "and nothing is armed"
    shown = axdr.octet_string(bench.get(objects.attribute_of(Item.CLOCK, meter.profile, "")))
    off_s = clock_off_s(objects.as_wall(shown), datetime.now(UTC), meter.profile.activation_timezone)
    assert abs(off_s) < CLOCK_TOLERANCE_S
    line.close()


def test_meters_with_one_address_are_known_by_the_first(simulation):
    running = simulation("--meters", "2", "--same-address")
    assert len(config.load(running.directory / "gateway.toml").meters) == 1


@pytest.mark.parametrize("options, says", [
    (["--fault", "nope=1"], "there is no fault 'nope'; there are bit-errors, "),
    (["--fault", "bit-errors"], "expected NAME=VALUE"),
    (["--fault", "bit-errors=2"], "bit-errors=2: expected a probability from 0 to 1"),
    (["--fault", "turnaround=soon"], "expected seconds"),
    (["--fault", "echo=loud"], "expected one of none, whole, half, damaged"),
    (["--fault", "jabber=1:2:3:4"], "at most 3 times"),
    (["--fault", "restart=0"], "expected a whole number from 1 on"),
    (["--fault", "silent=5"], "such as 100:30"),
    (["--fault", "2:restart=1"], "expected the number of a meter, 1 to 1"),
    (["--fault", "1:echo=half"], "it has no meter"),
    (["--fault", "activation=no"], "expected one of fails, ignored"),
    (["--fault", "answers-as=99999"], "up to 16383"),
    (["--baud", "12"], "--baud 12: expected 0 or one of 300, "),
    (["--verify", "long"], "expected seconds"),
    (["--runs", ""], "expected a version"),
    (["--security", "gmac,hls"], "expected gmac, lls or none"),
    (["--port", "a", "--optical", "a"], "is named twice"),
    (["--meters", "0"], "0 is not in the range"),
])  # fmt: skip
def test_what_cannot_be_is_named(tmp_path, capsys, options, says):
    assert main(["simulate", "--directory", str(tmp_path / "sim"), *options]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "sim").exists()


def test_a_place_that_is_taken_is_named(tmp_path, capsys, monkeypatch):
    file = tmp_path / "precious"
    file.write_text("file")
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["simulate", "--directory", str(tmp_path / "sim"), "--port", str(file)]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert f"cannot serve {file}: File exists" in capsys.readouterr().err
    assert file.read_text() == "file"


def test_a_directory_that_cannot_be_made_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    file = tmp_path / "file"
    file.write_text("")
    assert main(["simulate", "--directory", str(file / "sim")]) == 1
    assert f"cannot write in {file / 'sim'}: Not a directory" in capsys.readouterr().err


VALUES = {
    "bit-errors": ["1e-4"], "lost-octets": ["0.0001"], "lost-frames": ["0.1"], "late-frames": ["2"],
    "echo": [echo.value for echo in Echo if echo is not Echo.NONE], "turnaround": ["0.016"],
    "jabber": ["5", "5:60", "5:1:9"], "second-master": ["2"], "unplug": ["10", "10:60"], "lost-blocks": ["0.03"],
    "lost-replies": ["0.02"], "restart": ["20"], "silent": ["100:30"], "answers-as": ["18"], "lockout": ["255"],
    "erasing": ["late-reply", "busy-answer"], "bitmap": ["growing", "all-ones"], "a7": ["empty", "another-image"],
    "activation": ["fails", "ignored"],
}  # fmt: skip


def test_every_fault_that_is_listed_changes_something_and_stands_in_the_help(capsys):
    assert main(["simulate", "--help"]) == 0
    told = capsys.readouterr().out
    assert set(VALUES) == simulated_faults.OF_LINES.keys() | simulated_faults.OF_METERS.keys()
    for name, values in VALUES.items():
        assert f"  {name}=" in told
        for value in values:
            of_lines, (first, second) = simulated_lines.read_faults([f"{name}={value}"], 2)
            assert (of_lines != Faults()) == (name in simulated_faults.OF_LINES)
            assert (first != Faults()) == (name in simulated_faults.OF_METERS)
            assert first == second


def test_faults_add_up_and_may_be_those_of_one_meter():
    words = ["bit-errors=1e-4", "lost-octets=1e-4", "jabber=5:1", "jabber=60:1", "2:restart=20", "2:a7=empty"]
    of_lines, (first, second) = simulated_lines.read_faults(words, 2)
    assert of_lines.to_meter == of_lines.to_gateway
    assert (of_lines.to_meter.bit_error_rate, of_lines.to_meter.octet_loss_rate) == (1e-4, 1e-4)
    assert [talk.from_s for talk in of_lines.talks] == [5.0, 60.0]
    assert first == Faults()
    assert second.a7 is A7.EMPTY
    assert second.mishaps[0].nth == 20


def test_the_words_for_kinds_are_those_of_the_simulator():
    for kind, name in ((Erasing, "erasing"), (Bitmap, "bitmap"), (A7, "a7"), (Echo, "echo")):
        known = simulated_faults.OF_METERS | simulated_faults.OF_LINES
        words = {member.name.lower().replace("_", "-") for member in kind}
        assert set(known[name].value.split("|")) <= words
