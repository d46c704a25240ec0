"""Which of the images that are here make room for another one."""

from __future__ import annotations

from collections.abc import Iterable
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
    for holding in sorted(holdings, key=lambda holding: (holding.used_at, holding.sha256)):
        if missing <= 0:
            break
        if not holding.needed:
            chosen.append(holding)
            missing -= holding.octets
    return tuple(chosen) if missing <= 0 else None
