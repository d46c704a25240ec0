"""What `meter-gateway simulate` serves, and the configuration of a gateway for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from gateway.cli import simulated_faults, virtual
from gateway.cli.virtual import Site
from gateway.model import Authentication, Framing, MeterKeys, Security
from gateway.simulator import NONE, Faults, MeterSpec, PtyLine, TcpLine, VirtualMeter
from gateway.simulator.optical import Head, OpticalPty
from gateway.wire.hdlc import Address
from gateway.wire.mode_e import BAUDS

T = TypeVar("T")

_FIRST_ADDRESS = 17
_PASSWORD = b"12345678"


class Place(NamedTuple):
    """Where a line is served: a link to a pty, behind an optical head or not, or a TCP port."""

    baud: int
    link: Path | None = None
    tcp_port: int = 0
    head: bool = False

    @property
    def text(self) -> str:
        return str(self.link or f"TCP port {self.tcp_port}")


def places(
    links: Sequence[Path], tcp_ports: Sequence[int], heads: Sequence[Path], *, baud: int
) -> list[Place]:
    """All lines, in the order of the ports. ValueError where two are one, or there is no such rate."""
    if baud and baud not in BAUDS:
        raise ValueError(f"--baud {baud}: expected 0 or one of {', '.join(map(str, BAUDS))}")
    found = [Place(baud, link.absolute()) for link in links]
    found += [Place(baud, tcp_port=port) for port in tcp_ports]
    found += [Place(baud or max(BAUDS), link.absolute(), head=True) for link in heads]
    texts = [place.text for place in found if place.link or place.tcp_port]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise ValueError(f"{twice} is named twice")
    return found


def read_faults(words: Sequence[str], count: int) -> tuple[Faults, list[Faults]]:
    """The faults of the lines, and those of each of `count` meters. ValueError where one cannot be understood."""
    of_lines, of_meters = NONE, [NONE] * count
    for word in words:
        name, equals, value = word.partition("=")
        number, colon, rest = name.rpartition(":")
        if not equals:
            raise ValueError(f"--fault {word}: expected NAME=VALUE")
        if rest in simulated_faults.OF_LINES and not colon:
            of_lines = simulated_faults.apply(of_lines, simulated_faults.OF_LINES, rest, value)
            continue
        if rest in simulated_faults.OF_LINES:
            raise ValueError(f"--fault {word}: {rest} is a fault of lines, it has no meter")
        if colon and not (number.isascii() and number.isdigit() and 1 <= int(number) <= count):
            raise ValueError(f"--fault {word}: expected the number of a meter, 1 to {count}")
        known = (
            simulated_faults.OF_METERS if colon else simulated_faults.OF_LINES | simulated_faults.OF_METERS
        )
        for i in range(count) if not colon else (int(number) - 1,):
            of_meters[i] = simulated_faults.apply(of_meters[i], known, rest, value)
    return of_lines, of_meters


def specs(
    places: Sequence[Place],
    many: Sequence[int],
    *,
    broadcast: bool,
    same_address: bool,
    verify_s: Sequence[float],
    reboot_s: Sequence[float],
    runs: Sequence[str],
    becomes: Sequence[str],
    security: Sequence[str],
) -> list[list[MeterSpec]]:
    """The meters of each place, `many` there; each takes the next of every list. With `broadcast` those of a bus are
    one group."""
    of_group = virtual.common_keys() if broadcast else None
    made = virtual.meters(sum(many), version="", new_version="", verify_s=0.0, reboot_s=0.0)
    found: list[list[MeterSpec]] = []
    i = 0
    for place, count in zip(places, many, strict=True):
        found.append([])
        for here in range(count):
            spec = replace(
                made[i],
                address=_address(place, 0 if same_address and place.link else here),
                verify_s=_nth(verify_s, i), reboot_s=_nth(reboot_s, i),
                version=_nth(runs, i), new_version=_nth(becomes, i),
            )  # fmt: skip
            if of_group and place.link and not place.head:
                spec = virtual.taking_broadcasts(spec, of_group)
            found[-1].append(_secured(spec, _nth(security, i)))
            i += 1
    return found


def _nth(values: Sequence[T], i: int) -> T:
    return values[i % len(values)]


def _address(place: Place, here: int) -> Address:
    """On a line by their lower addresses, behind the wrapper by their wPorts."""
    return Address(1, _FIRST_ADDRESS + here) if place.link else Address(1 + here)


def _secured(spec: MeterSpec, level: str) -> MeterSpec:
    match level:
        case "lls":
            keys = MeterKeys(password=_PASSWORD)
            return replace(spec, authentication=Authentication.LLS, security=Security.NONE, keys=keys)
        case "none":
            return replace(spec, authentication=Authentication.NONE, security=Security.NONE, keys=MeterKeys())
        case _:
            return spec


def line(
    place: Place, specs: Sequence[MeterSpec], of_each: Sequence[Faults], faults: Faults, seed: int
) -> AbstractContextManager[PtyLine | TcpLine]:
    """The line with its meters, to be started. Faults of lines are those of serial lines."""
    meters = [
        VirtualMeter(spec, faults=mine, seed=seed + i)
        for i, (spec, mine) in enumerate(zip(specs, of_each, strict=True))
    ]
    if place.link is None:
        return TcpLine(meters, framing=Framing.WRAPPER, port=place.tcp_port, baud=place.baud, seed=seed)
    if place.head:
        return OpticalPty(meters, Head(baud=place.baud), link_path=place.link, seed=seed)
    return PtyLine(meters, link_path=place.link, baud=place.baud, faults=faults, seed=seed)


def site(place: Place, address: str, known: Sequence[MeterSpec], number: int) -> Site:
    """The port as a gateway is told of it, with the meters that it knows."""
    if place.link is None:
        port = {"name": f"tcp-{number + 1}", "kind": "tcp", "address": address, "framing": "wrapper"}
        return Site(port, known)
    kind = "optical" if place.head else "rs485"
    settings = {"name": f"{kind}-{number + 1}", "kind": kind, "device": address, "baud": place.baud or 9600}
    return Site(settings | ({"mode_e": True} if place.head else {}), known)


def write(home: Path, sites: Sequence[Site]) -> Path:
    """gateway.toml and keys.toml of a gateway of its own, and simulated.toml for another one. The first one's path."""
    sections: dict[str, dict[str, object]] = {
        "gateway": {
            "system_title": virtual.SYSTEM_TITLE.hex(),
            "state_dir": str(home / "state"),
            "control_socket": str(home / "control.sock"),
            "require_synced_clock": False,
        },
        "firmware": {"trust": "digest"},
    }
    (home / "simulated.toml").write_text(virtual.described(sites), "utf-8")
    return virtual.write(home, sites, sections)
