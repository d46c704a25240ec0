"""Which machine this is: facts that stay with the hardware when a card is copied into another gateway.

The machine id is on the card itself, so a copy of the card has it too. What a copy cannot take along is the serial
number of the board (ARM boards have it in the device tree) and the addresses burned into built-in network
interfaces (PCs keep their serial numbers for root). Every fact is kept as a keyed hash, as
sd_id128_get_machine_app_specific(3) does with the machine id, so that the state tells nobody what it was.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from pathlib import Path

from gateway.model import Machine

_APPLICATION = b"meter-gateway/machine/1"
_DIGEST_OCTETS = 16
_PERMANENT = "0"
"""In `addr_assign_type`: NET_ADDR_PERM of the kernel's netdevice.h, an address that the hardware has."""


def this_machine(root: Path = Path("/")) -> Machine:
    """What can be found out without privileges; `root`: where its file system is."""
    machine_id = _text(root / "etc/machine-id")
    board = _text(root / "sys/firmware/devicetree/base/serial-number").strip("\0 ")
    return Machine(
        board=_digests([board] if board.strip("0") else []),
        interfaces=_digests(_burned_in(root / "sys/class/net")),
        machine_id=_digests([machine_id] if machine_id else []),
    )


def _burned_in(interfaces: Path) -> Iterator[str]:
    """Addresses of interfaces that are built in: adapters on USB come and go."""
    for interface in sorted(interfaces.iterdir()) if interfaces.is_dir() else ():
        bus = (interface / "device" / "subsystem").resolve().name
        address = _text(interface / "address")
        if bus in ("subsystem", "usb") or _text(interface / "addr_assign_type") != _PERMANENT:
            continue
        if address.strip("0:"):
            yield address


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _digests(facts: Iterator[str] | list[str]) -> tuple[str, ...]:
    return tuple(hmac.digest(fact.encode(), _APPLICATION, "sha256")[:_DIGEST_OCTETS].hex() for fact in facts)
