"""Serial devices as sysfs, udev and proc show them: a USB adapter, a UART on the board, and places without a port."""

import os
import pty
from pathlib import Path

import pytest

from gateway.link.devices import SerialDevice, User, serial_devices


def a_tty(root: Path, name: str, device: str, driver: str = "", **attributes: str) -> None:
    """As in sysfs: the tty is a link to below its device, and the driver is a link as well."""
    place = root / "sys/devices" / device
    tty = place / "tty" / name
    tty.mkdir(parents=True)
    (tty / "device").symlink_to(place)
    for attribute, text in attributes.items():
        (tty / attribute).write_text(f"{text}\n")
    if driver:
        (root / "sys/bus/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (place / "driver").symlink_to(root / "sys/bus/drivers" / driver)
    (root / "sys/class/tty").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/tty" / name).symlink_to(tty)
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).touch()


@pytest.fixture
def machine(tmp_path):
    a_tty(tmp_path, "ttyUSB0", "pci0/usb1/1-1/1-1:1.0/ttyUSB0", "ftdi_sio")
    for name, text in (
        ("idVendor", "0403"),
        ("idProduct", "6001"),
        ("serial", "A1B2"),
        ("product", "FT232R"),
    ):
        (tmp_path / "sys/devices/pci0/usb1/1-1" / name).write_text(f"{text}\n")
    by_id = tmp_path / "dev/serial/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-FTDI_FT232R_A1B2-if00-port0").symlink_to("../../ttyUSB0")
    a_tty(tmp_path, "ttyAMA0", "platform/fe201000.serial", "uart-pl011", type="32")
    a_tty(tmp_path, "ttyS0", "platform/serial8250", "serial8250", type="4")
    a_tty(tmp_path, "ttyS1", "platform/serial8251", "serial8250", type="0")
    (tmp_path / "sys/class/tty/tty1").mkdir()
    return tmp_path


def test_every_serial_device_that_is_there_and_no_other(machine):
    assert [device.path for device in serial_devices(machine)] == [
        "/dev/ttyAMA0",
        "/dev/ttyS0",
        "/dev/ttyUSB0",
    ]


def test_a_usb_adapter_is_known_by_what_it_says_of_itself_and_by_its_lasting_name(machine):
    *_, adapter = serial_devices(machine)
    assert adapter == SerialDevice(
        "/dev/ttyUSB0", ("/dev/serial/by-id/usb-FTDI_FT232R_A1B2-if00-port0",), "ftdi_sio", "0403", "6001",
        "A1B2", "FT232R", (),
    )  # fmt: skip


def test_a_uart_on_the_board_has_a_driver_and_nothing_else(machine):
    uart, *_ = serial_devices(machine)
    assert uart == SerialDevice("/dev/ttyAMA0", (), "uart-pl011", "", "", "", "", ())


def test_the_driver_of_a_uart_is_found_behind_the_levels_of_newer_kernels(tmp_path):
    a_tty(tmp_path, "ttyS0", "platform/serial8250/serial8250:0/serial8250:0.0", "port", type="4")
    bus = tmp_path / "sys/bus/serial-base"
    bus.mkdir()
    uart = tmp_path / "sys/devices/platform/serial8250"
    for level in ("serial8250:0", "serial8250:0/serial8250:0.0"):
        (uart / level / "subsystem").symlink_to(bus)
    (tmp_path / "sys/bus/drivers/serial8250").mkdir()
    (uart / "driver").symlink_to(tmp_path / "sys/bus/drivers/serial8250")
    assert [device.driver for device in serial_devices(tmp_path)] == ["serial8250"]


def test_whoever_has_one_open_is_named_once(machine):
    process = machine / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "comm").write_text("minicom\n")
    for number in (3, 4):
        (process / "fd" / str(number)).symlink_to("/dev/ttyUSB0")
    (process / "fd/5").symlink_to("socket:[123]")
    *_, adapter = serial_devices(machine)
    assert adapter.users == (User(4711, "minicom"),)


def test_a_machine_without_any_of_it_has_no_devices(tmp_path):
    assert serial_devices(tmp_path) == []


def test_this_machine_can_be_looked_at_and_its_own_programs_are_seen(tmp_path, machine):
    """The real /proc, with a pty of ours in the place of an adapter."""
    assert isinstance(serial_devices(), list)
    ours, theirs = pty.openpty()
    try:
        from gateway.link.devices import _users

        users = _users(Path("/"))[os.ttyname(theirs)]
    finally:
        os.close(ours)
        os.close(theirs)
    assert os.getpid() in [user.pid for user in users]
