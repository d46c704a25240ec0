"""Which of the images that are here make room for another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holding:
    """What is here of one digest."""

    sha256: str
    size: int | None
    """Octets of the whole image; None: nobody has said yet."""
    here: int
    """Octets of it that are here and durable."""
    complete: bool
    """It has its name: its digest was right."""
    octets: int
    """That its files use, or may use before they are whole."""
    used_at: float
    """When it was received or last ordered, in seconds of the system's clock."""
    needed: bool
    """An open campaign is for it, or it is being received."""


def to_remove(holdings: Iterable[Holding], missing: int) -> tuple[Holding, ...] | None:
    """Those that nobody needs and nobody used for the longest time, `missing` octets together; None where all of them
    are not enough: then none has to go."""
    chosen: list[Holding] = []
    for holding in _idle(holdings):
        if missing <= 0:
            break
        chosen.append(holding)
        missing -= holding.octets
    return tuple(chosen) if missing <= 0 else None


def beyond(holdings: Collection[Holding], limit: int) -> tuple[Holding, ...]:
    """Those that nobody needs and that are too many, the least recently used of them."""
    return tuple(_idle(holdings)[: max(0, len(holdings) - limit)])


def _idle(holdings: Iterable[Holding]) -> list[Holding]:
    """Those that nobody needs, the least recently used first."""
    unneeded = (holding for holding in holdings if not holding.needed)
    return sorted(unneeded, key=lambda holding: (holding.used_at, holding.sha256))
