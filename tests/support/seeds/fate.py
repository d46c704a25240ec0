"""What happens in one seed: which meters there are, what is ordered, and everything that goes wrong, until it heals.

A seed chooses which kinds of faults it has at all, most of them few: what one kind breaks is not hidden behind another.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from support.quirks import HEAD
from support.seeds.meters import Drawn, drawn_head, drawn_meter

from gateway.model import Window
from gateway.simulator import NONE, Faults, Head, Noise, Talk
from gateway.simulator.clock import EPOCH

EXPECTED_VERSION = "2.0.0"
_STARTS = (
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 28, 19, 0, tzinfo=UTC),  # clocks in Europe are set forward in this night
    datetime(2026, 10, 24, 18, 30, tzinfo=UTC),  # and back
    datetime(2027, 6, 14, 9, 41, 7, tzinfo=UTC),
)
_ZONES = ("UTC", "Europe/Helsinki", "America/New_York", "Asia/Kolkata")
_LATER = ("campaign.pause", "campaign.resume", "campaign.cancel", "campaign.approve", "campaign.retry")


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that somebody does: a command, or one of "stop" (in order), "power" (of the gateway), "reboot" (of a
    meter)."""

    at_s: float
    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClockChange:
    """From then on the gateway's time of day is so far from the true one; trusted or not."""

    at_s: float
    off_s: float
    trusted: bool


@dataclass(frozen=True, slots=True)
class Fate:
    """One seed. Times are seconds since the beginning of its world."""

    seed: int
    start: datetime
    image: bytes
    other_image: bytes
    meters: tuple[Drawn, ...]
    baud: int
    line_faults: Mapping[str, Faults]
    heads: Mapping[str, Head]
    windows: Mapping[str, Window]
    deeds: tuple[Deed, ...]
    """In their order."""
    broker_loses: float
    broker_away: tuple[tuple[float, float], ...]
    power_fails_at: frozenset[int]
    """Numbers of commits."""
    disk_full_at: frozenset[int]
    clock: tuple[ClockChange, ...]
    heals_at_s: float
    """From then on nothing goes wrong any more, and an operator lets everything go on."""
    calm: bool
    """Nothing of all that disturbs anybody: each meter is what it is, and that alone counts."""

    @property
    def wrapper_ports(self) -> frozenset[str]:
        return frozenset(drawn.sim.port for drawn in self.meters if drawn.sim.port.startswith("lan"))


def drawn(seed: int) -> Fate:
    """The fate of a seed."""
    chance = random.Random(f"{seed} fate")
    calm = chance.random() < 0.2
    wild = frozenset() if calm else _kinds(chance)
    image, other_image = _image(chance), _image(chance)
    start = chance.choice(_STARTS)
    meters, heads = _meters(chance, image, start)
    windows = _windows(chance, start) if "windows" in wild or "clock" in wild else {}
    horizon_s = chance.choice(
        [300.0, 300.0, 3600.0, 86400.0] if windows or "clock" in wild else [300.0, 900.0]
    )
    orders = _orders(chance, meters, (image, other_image), windows, start, calm=calm)
    others = _other_deeds(chance, meters, orders, wild, horizon_s)
    return Fate(
        seed=seed, start=start, image=image, other_image=other_image, meters=meters, heads=heads,
        baud=chance.choice([1200, 9600, 9600, 115200]),
        line_faults=_line_faults(chance, meters, wild),
        windows=windows,
        deeds=tuple(sorted([*orders, *others], key=lambda deed: deed.at_s)),
        broker_loses=chance.choice([0.02, 0.1]) if "broker loses" in wild else 0.0,
        broker_away=_spans(chance, horizon_s) if "broker away" in wild else (),
        power_fails_at=_commits(chance, [1, 3, 6]) if "power" in wild else frozenset(),
        disk_full_at=_full(chance) if "disk" in wild else frozenset(),
        clock=_clock(chance, horizon_s) if "clock" in wild else (),
        heals_at_s=max([horizon_s, *(deed.at_s for deed in (*orders, *others))]) + 60.0,
        calm=calm,
    )  # fmt: skip


def _kinds(chance: random.Random) -> frozenset[str]:
    kinds = {
        "noise": 0.4, "cuts": 0.15, "unplugged": 0.12, "talk": 0.1, "windows": 0.3, "operator": 0.4, "errands": 0.3,
        "stops": 0.2, "reboots": 0.2, "broker loses": 0.3, "broker away": 0.2, "power": 0.4, "disk": 0.15,
        "clock": 0.15,
    }  # fmt: skip
    return frozenset(kind for kind, often in kinds.items() if chance.random() < often)


def _image(chance: random.Random) -> bytes:
    head = bytes((len(HEAD),)) + HEAD
    return head + chance.randbytes(chance.choice([1950, 1950, 3050, 8150]) - len(head))


# -- the field ------------------------------------------------------------------------------------------------


def _meters(
    chance: random.Random, image: bytes, start: datetime
) -> tuple[tuple[Drawn, ...], dict[str, Head]]:
    """Their clocks are right."""
    clock_off_s = (start - EPOCH).total_seconds()
    meters: list[Drawn] = []
    heads: dict[str, Head] = {}
    for number in range(1, chance.choice([1, 2, 3, 4, 5, 8]) + 1):
        kind = chance.choices(["bus1", "bus2", "bus-all", "lan", "probe"], [4, 2, 2, 1, 1])[0]
        port = f"{kind}{number}" if kind in ("lan", "probe") else kind
        meter = drawn_meter(chance, number, port, image)
        faults = replace(meter.sim.faults, clock_off_s=meter.sim.faults.clock_off_s + clock_off_s)
        meters.append(replace(meter, sim=replace(meter.sim, faults=faults)))
        if kind == "probe":
            heads[port] = drawn_head(chance)
    return tuple(meters), heads


def _line_faults(chance: random.Random, meters: tuple[Drawn, ...], wild: frozenset[str]) -> dict[str, Faults]:
    ports = sorted({drawn.sim.port for drawn in meters})
    return {port: _faults_of_line(chance, wild) for port in ports}


def _faults_of_line(chance: random.Random, wild: frozenset[str]) -> Faults:
    if chance.random() < 0.3:
        return NONE
    level = chance.choice([0.005, 0.02]) if "noise" in wild else 0.0
    rate = chance.choice([0.0, 1e-5, 1e-4]) if "noise" in wild else 0.0
    noise = Noise(
        bit_error_rate=rate, octet_loss_rate=rate, lost=level, damaged=level, octet_lost=level, octet_doubled=level,
        doubled=level, delayed=level, delay_s=2.0,
    )  # fmt: skip
    cuts = tuple(chance.randint(1, 8000) for _ in range(chance.choice([1, 3]))) if "cuts" in wild else ()
    out = _spans(chance, 600.0) if "unplugged" in wild else ()
    talks = (
        (Talk(from_s=chance.uniform(0, 200), for_s=chance.choice([1.0, 30.0, 300.0])),)
        if "talk" in wild
        else ()
    )
    return Faults(to_meter=noise, to_gateway=noise, cuts_at_octet=cuts, unplugged=out, talks=talks)


def _spans(chance: random.Random, horizon_s: float) -> tuple[tuple[float, float], ...]:
    spans: list[tuple[float, float]] = []
    at_s = 0.0
    for _ in range(chance.choice([1, 1, 2])):
        from_s = at_s + chance.uniform(0.0, horizon_s / 2)
        at_s = from_s + chance.choice([2.0, 40.0, 600.0])
        spans.append((from_s, at_s))
    return tuple(spans)


def _commits(chance: random.Random, counts: list[int]) -> frozenset[int]:
    return frozenset(
        int(chance.choice([40, 120, 400]) ** chance.random()) + 1 for _ in range(chance.choice(counts))
    )


def _full(chance: random.Random) -> frozenset[int]:
    """Spells in which nothing can be written, as they are when another program fills the disk and is stopped."""
    return frozenset(
        number
        for first in _commits(chance, [1, 2])
        for number in range(first, first + chance.choice([1, 5, 40]))
    )


def _clock(chance: random.Random, horizon_s: float) -> tuple[ClockChange, ...]:
    changes = []
    at_s = 0.0
    for _ in range(chance.choice([1, 2, 4])):
        at_s += chance.uniform(1.0, horizon_s / 2)
        off_s = chance.choice(
            [0.0, 0.0, 60.0, -60.0, 3 * 3600.0, -3 * 3600.0, 30 * 3600.0, -56 * 365 * 86400.0]
        )
        changes.append(ClockChange(at_s, off_s, trusted=off_s > -1e6 and chance.random() < 0.7))
    return tuple(changes)


# -- hours ----------------------------------------------------------------------------------------------------


def _windows(chance: random.Random, start: datetime) -> dict[str, Window]:
    zone = chance.choice(_ZONES)
    return {name: _window(chance, name, start, zone) for name in ("night", "dawn")}


def _window(chance: random.Random, name: str, start: datetime, zone: str) -> Window:
    """It opens within hours, but never in one that changes of daylight saving time leave out or repeat."""
    opens = (start + timedelta(seconds=chance.uniform(0, 4 * 3600))).astimezone(ZoneInfo(zone))
    opens_at = time(opens.hour if not 1 <= opens.hour <= 3 else 4, opens.minute)
    lasts_s = chance.choice([400.0, 900.0, 3600.0, 5 * 3600.0, 24 * 3600.0])
    days = frozenset(range(7)) - frozenset(chance.sample(range(7), chance.choice([0, 0, 2])))
    return Window(
        name, days, opens_at, lasts_s, zone,
        cutoff_s=chance.choice([0.0, lasts_s / 4]), drain_s=chance.choice([0.0, 30.0, lasts_s / 8]),
        exceptions=frozenset({opens.date()} if chance.random() < 0.1 else ()),
    )  # fmt: skip


# -- orders ---------------------------------------------------------------------------------------------------


def _orders(
    chance: random.Random,
    meters: tuple[Drawn, ...],
    images: tuple[bytes, bytes],
    windows: Mapping[str, Window],
    start: datetime,
    *,
    calm: bool,
) -> list[Deed]:
    """Each meter stands in one order that suits it; sometimes there are more orders, of anything for anybody."""
    groups: dict[str, list[Drawn]] = {}
    for number, meter in enumerate(meters):
        key = f"alone {number}" if meter.order else chance.choice("ab")
        groups.setdefault(key, []).append(meter)
    orders = []
    for number, group in enumerate(groups.values()):
        extras = {} if calm else _extras(chance, windows, start, group)
        orders.append(_submit(chance, f"c{number}", group, images[0], dict(group[0].order) | extras))
    for number in range(0 if calm else chance.choice([0, 0, 1, 2])):
        group = chance.sample(meters, chance.randint(1, len(meters)))
        extras = _extras(chance, windows, start, group)
        orders.append(_submit(chance, f"d{number}", group, chance.choice(images), extras, late=True))
    return orders


def _submit(
    chance: random.Random,
    name: str,
    group: list[Drawn],
    image: bytes,
    extras: dict[str, Any],
    *,
    late: bool = False,
) -> Deed:
    sha256 = hashlib.sha256(image).hexdigest()
    args = {
        "campaign_id": name, "identifier": "FW", "expect_version": EXPECTED_VERSION,
        "image": {"sha256": sha256, "url": "http://127.0.0.1/fw.bin", "size": len(image)},
        "targets": [meter.sim.id for meter in group],
    }  # fmt: skip
    return Deed(
        chance.uniform(0.0, 400.0) if late else chance.uniform(0.0, 5.0), "campaign.submit", args | extras
    )


def _extras(
    chance: random.Random, windows: Mapping[str, Window], start: datetime, group: list[Drawn]
) -> dict[str, Any]:
    meters = len(group)
    extras: dict[str, Any] = {"delivery": chance.choice(["unicast", "auto"])}
    if windows and chance.random() < 0.8:
        extras["window"] = "night"
    whens = ["immediately", "immediately", "immediately", "manual", "at"] + ["window"] * (2 * bool(windows))
    if all(meter.sim.profile.activation_schedule for meter in group):
        whens += ["meter", "meter"]
    when = chance.choice(whens)
    if when == "at":
        at = start + timedelta(seconds=chance.choice([20.0, 600.0, 20_000.0]))
        extras["activation"] = {"when": "at", "at": _text(at)}
    elif when == "meter":
        at = start + timedelta(seconds=chance.choice([620, 900, 1800, 20_000]))
        extras["activation"] = {"when": "meter", "at": _text(at)}
    elif when == "window":
        extras["activation"] = {"when": "window", "window": "dawn"}
    elif when == "manual":
        extras["activation"] = {"when": "manual"}
    if meters > 1 and chance.random() < 0.4:
        extras["canary"] = 1
        if chance.random() < 0.5:
            extras["canary_soak"] = chance.choice(["1min", "2h"])
    if meters > 1 and chance.random() < 0.3:
        extras["wave"] = chance.choice([1, 2])
    if chance.random() < 0.3:
        extras["max_failures"] = chance.choice([0, 1])
    if chance.random() < 0.3:
        extras["priority"] = chance.randint(0, 9)
    if when != "meter" and chance.random() < 0.1:
        extras["not_after"] = _text(start + timedelta(seconds=chance.choice([60.0, 400.0, 90_000.0])))
    if chance.random() < 0.1:
        extras["dry_run"] = True
    if chance.random() < 0.1:
        extras["take_over"] = True
    return extras


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _other_deeds(
    chance: random.Random,
    meters: tuple[Drawn, ...],
    orders: list[Deed],
    wild: frozenset[str],
    horizon_s: float,
) -> list[Deed]:
    deeds: list[Deed] = []

    def moment() -> float:
        return float(horizon_s ** chance.random())

    if "operator" in wild:
        for _ in range(chance.choice([1, 3, 6])):
            name = chance.choice(orders).args["campaign_id"]
            deeds.append(Deed(moment(), chance.choice(_LATER), {"campaign_id": name}))
    if "errands" in wild:
        deeds += [_errand(chance, moment(), meters) for _ in range(chance.choice([1, 3, 8]))]
    if "stops" in wild:
        deeds += [Deed(moment(), chance.choice(["stop", "power"])) for _ in range(chance.choice([1, 3]))]
    if "reboots" in wild:
        for _ in range(chance.choice([1, 3])):
            deeds.append(Deed(moment(), "reboot", {"meter": chance.choice(meters).sim.id}))
    return deeds


def _errand(chance: random.Random, at_s: float, meters: tuple[Drawn, ...]) -> Deed:
    sim = chance.choice(meters).sim
    match chance.choice(["probe", "probe", "hold", "scan", "release"]):
        case "hold":
            return Deed(at_s, "port.hold", {"port": sim.port, "for": chance.choice(["5s", "2min"])})
        case "release":
            return Deed(at_s, "port.release", {"port": sim.port})
        case "scan":
            return Deed(at_s, "port.scan", {"port": sim.port})
        case _:
            return Deed(at_s, "meter.probe", {"meter": sim.id})
