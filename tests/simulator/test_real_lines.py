"""The same meters in real time: on a pty as a serial device, and behind a TCP port."""

import array
import fcntl
import os
import pty
import random
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.bench import FIRMWARE, LDN, Bench, an_image
from support.patience import PATIENCE_S

from gateway.errors import LinkLostError, PortError
from gateway.link.port import open_port
from gateway.model import Authentication, Framing, MeterKeys, PortKind, PortSettings, Security
from gateway.simulator import (
    NONE,
    Faults,
    MeterSpec,
    Noise,
    PtyLine,
    TcpLine,
    VirtualClock,
    VirtualMeter,
    serve,
    several,
)
from gateway.simulator.pty import _RealLine
from gateway.wire import image_transfer as it
from gateway.wire.hdlc import Address, Frame, FrameReader, FrameType

TIOCGEXCL = 0x80045440

SPEC = MeterSpec(
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
    max_info=300,
    window=3,
    response_s=0.0,
    verify_s=0.05,
    reboot_s=0.2,
)
IMAGE = an_image(8000)
CALM = {"timeout_s": 10.0}
"""On a line that loses nothing, nothing has to be asked again."""


def serial_port(line):
    return open_port(PortSettings("line", PortKind.RS485, device=line.address))


def tcp_port(line, framing=Framing.WRAPPER):
    return open_port(PortSettings("line", PortKind.TCP, address=line.address, framing=framing))


def update(port, meter, **options):
    """A whole update as a bench does it."""
    bench = Bench(port, meter.spec, **CALM, **options).connect().associate()
    assert bench.get(FIRMWARE) == b"1.0.0"
    bench.send_all(IMAGE)
    bench.act(it.VERIFY)
    time.sleep(meter.spec.verify_s)
    assert bench.image(it.STATUS) == 3
    assert bench.act(it.ACTIVATE) == 0
    time.sleep(meter.spec.reboot_s)
    return bench


def test_a_meter_on_a_pty_is_updated_through_a_real_serial_port(tmp_path):
    meter, link = VirtualMeter(SPEC), tmp_path / "line"
    with PtyLine([meter], link_path=link) as line:
        assert line.address == str(link)
        port = serial_port(line)
        bench = update(port, meter)
        bench.connect().associate()
        assert bench.get(FIRMWARE) == b"2.0.0"
        port.close()
    assert meter.image.image == IMAGE
    assert not link.is_symlink()


def test_a_gateway_that_was_killed_finds_the_line_free_and_the_meter_as_it_left_it():
    meter = VirtualMeter(SPEC)
    with PtyLine([meter]) as line:
        port = serial_port(line)
        bench = Bench(port, SPEC, **CALM).connect().associate()
        bench.initiate(IMAGE)
        bench.block(IMAGE, 0)
        held = array.array("i", [1])
        with Path(line.address).open("rb", buffering=0) as device:
            fcntl.ioctl(device, TIOCGEXCL, held)
        assert held[0] == 0, "a pty would stay exclusive for a process that is gone"
        port.close()
        again = serial_port(line)
        bench = Bench(again, SPEC, **CALM, counter=bench.counter).connect().associate()
        assert bench.missing(IMAGE)[0] == 1
        again.close()


def test_a_stale_link_is_replaced_and_a_file_is_not(tmp_path):
    link, file = tmp_path / "line", tmp_path / "file"
    link.symlink_to("/dev/pts/nowhere")
    with serve([VirtualMeter(SPEC)], link_path=link) as line:
        assert Path(line.address).exists()
    file.write_text("precious")
    with pytest.raises(FileExistsError), serve([VirtualMeter(SPEC)], link_path=file):
        pass
    assert file.read_text() == "precious"


def test_a_paced_pty_is_never_faster_than_a_line():
    spec = replace(SPEC, authentication=Authentication.NONE, security=Security.NONE)
    with PtyLine([VirtualMeter(spec)], baud=4800) as line:
        port = Counted(serial_port(line))
        bench = Bench(port, spec, **CALM)
        began_s = time.monotonic()
        bench.connect().associate()
        assert bench.get(LDN)
        assert time.monotonic() - began_s > 0.999 * port.octets * 10 / 4800
        port.close()


class Counted:
    """A port that counts the octets of both directions."""

    def __init__(self, port):
        self._port, self.octets = port, 0
        self.close, self.discard = port.close, port.discard

    def write(self, octets):
        self.octets += len(octets)
        self._port.write(octets)

    def read(self, limit, timeout_s):
        octets = self._port.read(limit, timeout_s)
        self.octets += len(octets)
        return octets


class LateLine(_RealLine):
    """A line whose thread is woken late each time, by up to 3 ms; a gateway on it answers each answer at once."""

    address = "nowhere"

    def __init__(self, spec, requests):
        self.clock = VirtualClock()
        super().__init__(
            [VirtualMeter(spec)], framing=Framing.HDLC, baud=115200, faults=NONE, seed=0, clock=self.clock
        )
        self._chance, self._requests, self._answer = random.Random(1), list(requests), b""
        self.octets = 0

    def _read(self, timeout_s):
        if self._answer.endswith(b"\x7e") and len(self._answer) > 1 and FrameReader().feed(self._answer):
            self._answer = b""
            if not self._requests:
                self._stopping.set()
                return b""
            request = self._requests.pop()
            self.octets += len(request)
            return request
        self.clock.advance(timeout_s + self._chance.uniform(0.0, 0.003))
        return b""

    def _write(self, octets):
        self.octets += len(octets)
        self._answer += octets

    def run(self):
        """How long it took until the last answer was handed over, and how many octets that were."""
        self._answer = b"\x7e\xa0\x08\x02\x23\x03\x93\x3e\x74\x7e"  # anything that lets it begin
        self._run()
        return self.clock.monotonic(), self.octets

    def _open(self): ...

    def _close(self): ...


def test_a_paced_line_is_exact_however_late_its_thread_is_woken():
    spec = MeterSpec(response_s=0.0)
    snrm = Frame(spec.address, Address(1), FrameType.SNRM, poll_final=True).encode()
    took_s, octets = LateLine(spec, [snrm] * 2000).run()
    assert took_s == pytest.approx(octets * 10 / 115200, rel=1e-3)


# -- an adapter that is pulled out ----------------------------------------------------------------------------


def test_an_adapter_pulled_out_of_a_pty_takes_its_link_along_and_comes_back_as_another_device(tmp_path):
    link = tmp_path / "usb-FTDI_1-if00"
    meter = VirtualMeter(SPEC)
    with PtyLine([meter], link_path=link) as line:
        port, device = serial_port(line), link.readlink()
        bench = Bench(port, SPEC).connect().associate()
        bench.initiate(IMAGE)
        bench.block(IMAGE, 0)
        line.unplug()
        assert not link.is_symlink()
        with pytest.raises(PortError, match=r"gone|cannot"):
            bench.block(IMAGE, 1)
        with pytest.raises(PortError, match="cannot open"):
            serial_port(line)
        port.close()
        others = pty.openpty()  # somebody else gets the old name meanwhile
        line.plug()
        for descriptor in others:
            os.close(descriptor)
        assert link.readlink() != device
        again = serial_port(line)
        bench = Bench(again, SPEC, counter=bench.counter).connect().associate()
        assert bench.missing(IMAGE)[0] == 1
        again.close()
    assert not link.is_symlink()


def test_an_adapter_is_pulled_out_at_its_time():
    with PtyLine([VirtualMeter(SPEC)], faults=Faults(unplugged=((0.3, 1e9),))) as line:
        port = serial_port(line)
        with pytest.raises(PortError, match=r"gone|cannot read"):
            port.read(1, 60.0)
        port.close()


def test_a_noisy_pty_with_several_meters():
    noise = Noise(lost=0.02, damaged=0.02)
    meters = [VirtualMeter(spec) for spec in several(SPEC, 3)]
    with serve(meters, faults=Faults(to_meter=noise, to_gateway=noise), seed=11) as line:
        port = serial_port(line)
        for meter in meters:
            bench = Bench(port, meter.spec, timeout_s=0.2, patience=200).connect().associate()
            bench.send_all(IMAGE[:3000])
            bench.disconnect()
            assert meter.image.image == IMAGE[:3000]
        port.close()


def test_a_meter_behind_the_tcp_wrapper_is_updated_and_hangs_up_while_it_boots():
    meter = VirtualMeter(SPEC)
    with TcpLine([meter]) as line:
        port = tcp_port(line)
        bench = update(port, meter, framing=Framing.WRAPPER)
        with pytest.raises(LinkLostError):
            port.read(4096, PATIENCE_S)
        bench.connect().associate()
        assert bench.get(FIRMWARE) == b"2.0.0"
        port.close()
    assert meter.image.image == IMAGE


def test_hdlc_behind_a_tcp_converter():
    meter = VirtualMeter(SPEC)
    with serve([meter], tcp_port=0, framing=Framing.HDLC) as line:
        port = tcp_port(line, Framing.HDLC)
        update(port, meter)
        port.close()
    assert meter.image.image == IMAGE
    with pytest.raises(PortError):
        tcp_port(line).write(b"anybody there?")


def test_a_new_tcp_connection_replaces_a_dead_one():
    meter = VirtualMeter(SPEC)
    with TcpLine([meter]) as line:
        first = tcp_port(line)
        Bench(first, SPEC, framing=Framing.WRAPPER, **CALM).connect().associate()
        second = tcp_port(line)
        bench = Bench(second, SPEC, framing=Framing.WRAPPER, counter=1000, **CALM).connect().associate()
        assert bench.get(LDN)
        with pytest.raises(LinkLostError):
            first.read(4096, PATIENCE_S)
        second.close()
        host, port = line.address.split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
            raw.settimeout(PATIENCE_S)
            assert raw.recv(100) == b""


def test_a_line_can_be_stopped_and_started_again():
    meter = VirtualMeter(SPEC)
    line = TcpLine([meter])
    line.stop()
    for counter in (100, 200):
        with line:
            port = tcp_port(line)
            assert (
                Bench(port, SPEC, framing=Framing.WRAPPER, counter=counter, **CALM)
                .connect()
                .associate()
                .get(LDN)
            )
            port.close()
