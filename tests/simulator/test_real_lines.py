"""The same meters in real time: on a pty as a serial device, and behind a TCP port."""

import array
import fcntl
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
from gateway.simulator import Faults, MeterSpec, Noise, PtyLine, TcpLine, VirtualMeter, serve, several
from gateway.wire import image_transfer as it

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


def test_a_paced_pty_takes_as_long_as_a_line():
    spec = replace(SPEC, authentication=Authentication.NONE, security=Security.NONE)
    with PtyLine([VirtualMeter(spec)], baud=4800) as line:
        port = serial_port(line)
        bench = Bench(port, spec, **CALM)
        began_s = time.monotonic()
        bench.connect()
        # SNRM of 34 octets, UA of 32: see that both are paid for.
        assert time.monotonic() - began_s > 0.8 * 66 * 10 / 4800
        bench.associate()
        assert bench.get(LDN)
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
