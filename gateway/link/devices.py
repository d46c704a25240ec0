"""The serial devices of this machine: what udev and sysfs say of them, and who has them open.

Read are /sys/class/tty, /dev/serial/by-id and /proc (Linux: Documentation/ABI/testing/sysfs-tty, proc(5)). Nothing is
opened: a device may be in use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_UNKNOWN_UART = "0"
"""In `type`: the driver has a place for a port, and no port is there (setserial(8), PORT_UNKNOWN)."""


@dataclass(frozen=True, slots=True)
class User:
    """A program that has a device open."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class SerialDevice:
    """One serial device; of what is no USB adapter, vendor, product, serial and name are empty."""

    path: str
    """As the kernel names it; it may be another after the next plugging in."""
    by_id: tuple[str, ...]
    """Names that stay."""
    driver: str
    vendor: str
    """4 hex digits, as is `product`."""
    product: str
    serial: str
    name: str
    """What the adapter calls itself."""
    users: tuple[User, ...]
    """Those that this process may see: root sees all, others their own."""


def serial_devices(root: Path = Path("/")) -> list[SerialDevice]:
    """All of them, by path."""
    names, users = _names_by_id(root), _users(root)
    devices = []
    for entry in sorted((root / "sys/class/tty").glob("*/device")):
        tty = entry.parent
        if _text(tty / "type") == _UNKNOWN_UART:
            continue
        path = f"/dev/{tty.name}"
        hardware = _hardware(entry.resolve())
        usb = _usb_parent(hardware, root)
        vendor, product, serial, name = (
            _text(usb / what) if usb else "" for what in ("idVendor", "idProduct", "serial", "product")
        )
        devices.append(
            SerialDevice(
                path,
                tuple(names.get(path, ())),
                _driver(hardware),
                vendor,
                product,
                serial,
                name,
                tuple(users.get(path, ())),
            )
        )
    return devices


def _names_by_id(root: Path) -> Mapping[str, list[str]]:
    names = defaultdict(list)
    for link in sorted((root / "dev/serial/by-id").glob("*")):
        names[f"/dev/{link.resolve().name}"].append(f"/dev/serial/by-id/{link.name}")
    return names


def _hardware(device: Path) -> Path:
    """What the tty belongs to; newer kernels have two levels of their own between a UART and its ports."""
    while device.name and (device / "subsystem").resolve().name == "serial-base":
        device = device.parent
    return device


def _driver(device: Path) -> str:
    driver = device / "driver"
    return driver.resolve().name if driver.exists() else ""


def _usb_parent(device: Path, root: Path) -> Path | None:
    """The USB device that a tty is a part of, some levels above it."""
    for parent in (device, *device.parents):
        if parent == root / "sys":
            return None
        if (parent / "idVendor").exists():
            return parent
    return None


def _users(root: Path) -> Mapping[str, list[User]]:
    """By path of what they have open. Processes come and go meanwhile, and most are nobody's business but root's."""
    users = defaultdict(list)
    for process in (root / "proc").glob("[0-9]*"):
        user = User(int(process.name), _text(process / "comm"))
        for path in set(_opened(process)):
            users[path].append(user)
    return users


def _opened(process: Path) -> Iterator[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            path = str(descriptor.readlink())
        except OSError:
            continue
        if path.startswith("/dev/"):
            yield path


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
