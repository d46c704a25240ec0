"""Serial devices as machines have them: what is no line at all, what a driver can do, what is said of it once."""

import array
import fcntl
import logging
import os
import pty
import termios
import tty

import pytest
import serial

from gateway.errors import Code, PortError
from gateway.link import tuning
from gateway.link.port import open_port
from gateway.model import PortKind, PortSettings


@pytest.fixture
def device():
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(tuning, "_said", set())


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "gateway.link.tuning")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("kind", ["file", "pipe", "/dev/null", "directory", "nothing"])
def test_what_is_no_serial_device_is_an_error_of_the_port(tmp_path, kind):
    path = str(tmp_path / "line") if kind != "/dev/null" else kind
    match kind:
        case "file":
            (tmp_path / "line").write_text("precious")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            (tmp_path / "line").mkdir()
    with pytest.raises(PortError, match=f"cannot open {path}: ") as caught:
        open_port(PortSettings("bus", PortKind.RS485, device=path))
    assert caught.value.code is Code.T_PORT
    if kind not in ("directory", "nothing"):
        assert caught.value.message.endswith("it is no serial device")
    if kind == "file":
        assert (tmp_path / "line").read_text() == "precious"


@pytest.mark.parametrize("taken", ["lock", "exclusive use"])
def test_a_line_that_another_program_holds_is_an_error_of_the_port_until_it_lets_go(taken):
    """Both ways to hold a device. Exclusive use keeps out everybody but root, who has to ask."""
    main, other = pty.openpty()
    name = os.ttyname(other)
    if taken == "lock":
        fcntl.flock(other, fcntl.LOCK_EX)
    else:
        fcntl.ioctl(other, termios.TIOCEXCL)
    with pytest.raises(PortError, match="another program holds it") as caught:
        open_port(PortSettings("line", PortKind.RS485, device=name))
    assert caught.value.code is Code.T_PORT
    assert caught.value.message.startswith(f"cannot open {name}: ")
    fcntl.flock(other, fcntl.LOCK_UN)
    fcntl.ioctl(other, termios.TIOCNXCL)
    for _ in range(2):  # and we let go as well, though somebody still has it open
        open_port(PortSettings("line", PortKind.RS485, device=name)).close()
    os.close(main)
    os.close(other)


def test_what_a_line_does_not_have_is_said_once_and_does_no_harm(device, said):
    for _ in range(3):
        port = open_port(PortSettings("bus", PortKind.RS485, device=device))
        assert port.set_baud(19200) == 9600
        port.close()
    low_latency, rs485 = said()
    assert low_latency.startswith(f"{device}: no low-latency mode: ")
    assert rs485.startswith(
        f"{device}: the driver does not switch the RS-485 transmitter, the adapter has to: "
    )


def test_a_head_on_a_line_without_modem_lines_is_used_all_the_same(device, said):
    for _ in range(2):
        port = open_port(PortSettings("probe", PortKind.OPTICAL, device=device, mode_e=True))
        assert port.set_baud(9600) == 300
        port.close()
    assert [words for words in said() if "DTR and RTS cannot be raised" in words] == said()[1:]


class Driver:
    """A serial driver with RS-485 of its own, as boards have it, under pyserial's own Serial on a pty."""

    def __init__(self, monkeypatch, flags=0, refuses=False):
        self.flags = flags
        self._refuses = refuses
        self._ioctl = fcntl.ioctl
        monkeypatch.setattr("fcntl.ioctl", self.ioctl)

    def ioctl(self, descriptor, request, argument=0, *more):
        if request == 0x542E:
            argument[0] = self.flags
        elif request == 0x542F:
            if self._refuses:
                raise OSError(22, "Invalid argument")
            self.flags = argument[0]
        else:
            return self._ioctl(descriptor, request, argument, *more)
        return 0


ENABLED, RTS_ON_SEND, RTS_AFTER_SEND = 1, 2, 4


def test_a_driver_that_can_switches_the_transmitter(device, said, monkeypatch):
    driver = Driver(monkeypatch)
    port = open_port(PortSettings("bus", PortKind.RS485, device=device))
    assert driver.flags == ENABLED | RTS_ON_SEND
    port.set_baud(19200)
    assert driver.flags == ENABLED | RTS_ON_SEND
    port.close()
    assert said()[-1] == f"{device}: the driver switches the RS-485 transmitter by RTS"


def test_a_board_that_is_set_up_keeps_its_polarity(device, said, monkeypatch):
    driver = Driver(monkeypatch, flags=ENABLED | RTS_AFTER_SEND)
    open_port(PortSettings("bus", PortKind.RS485, device=device)).close()
    assert driver.flags == ENABLED | RTS_AFTER_SEND
    assert said()[-1] == f"{device}: the driver switches the RS-485 transmitter, as the board is set up"


def test_a_driver_that_refuses_leaves_a_line_that_works(device, said, monkeypatch):
    """pyserial keeps a setting that failed, and fails with it at every other one."""
    Driver(monkeypatch, refuses=True)
    port = open_port(PortSettings("bus", PortKind.RS485, device=device))
    assert port.set_baud(19200) == 9600
    assert port.set_baud(300) == 19200
    port.close()
    assert "the driver refuses RS-485 mode" in said()[-1]


def test_an_optical_head_is_not_switched(device, monkeypatch):
    driver = Driver(monkeypatch)
    open_port(PortSettings("probe", PortKind.OPTICAL, device=device)).close()
    assert driver.flags == 0


def test_a_head_gets_its_power_from_dtr_and_rts(monkeypatch):
    raised = []

    class Head:
        def set_low_latency_mode(self, wanted):
            raised.append("low latency")

        dtr = property(None, lambda self, up: raised.append(("DTR", up)))
        rts = property(None, lambda self, up: raised.append(("RTS", up)))

    tuning.tune(Head(), PortSettings("probe", PortKind.OPTICAL, device="/dev/ttyUSB0"))
    assert raised == ["low latency", ("DTR", True), ("RTS", True)]


def test_the_word_asked_of_the_driver_is_the_one_that_pyserial_asks():
    assert tuning.TIOCGRS485 == serial.serialposix.TIOCGRS485
    assert array.array("i", [0] * 8).itemsize * 8 == 32
