"""What is counted of a conversation with one meter, from its first octet to the last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts since it was made, whichever sessions they came of. Whoever does a thing counts it."""

    octets_out: int = 0
    octets_in: int = 0
    exchanges: int = 0
    """APDUs that were sent for an answer."""
    polls: int = 0
    """Frames that asked again after silence."""
    timeouts: int = 0
    """Waits for an answer in which nothing came that ended them."""
    damaged: int = 0
    """Frames, and what could have been one, whose checks failed."""
    masters: int = 0
    """Frames to meters that were not ours: another master sent them."""
    foreign: int = 0
    """Sound frames of others, or to others, that were dropped."""
    stranger: str = ""
    """The address that the last of those came from."""
    sessions: int = 0
    """Associations that were opened."""
    busy_s: float = 0.0
    """So long octets moved, or an answer was awaited."""
    heard_at_s: float | None = None
    """When the meter answered last, monotonic."""
