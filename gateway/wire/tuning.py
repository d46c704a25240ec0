"""How the link to a meter is used, and what to make of it when a meter takes less than it agreed to.

The profile of a meter says at most so much, and SNRM and UA agree on what both sides claim. Some meters claim more than
they can: they lose frames above some length, or all but the first of a window, or fall silent on either; others answer
later than a line's time-out. Then the next association is proposed less, step by step. Short frames passed, or there
would be no association: what is lost is lost for its length, or for the company it came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SHORTER_INFO = (1024, 512, 250, 128)
"""Below 256 octets of frame some meters count the length in one octet; 128 every meter takes (IEC 62056-46)."""
SHORT_INFO = 128
FEW, OF_FEW = 5, 8
"""So many of the latest exchanges in which frames of ours are lost are a habit and no noise; each costs a time-out."""
MANY, OF_MANY = 10, 24
"""The same for answers that come late, or are lost: at most every second exchange shows it, since the answer to what
was asked again keeps the next one waiting."""
LONGEST_WAIT_S = 30.0


class Limits(NamedTuple):
    """What is proposed to a meter, and how long it has to answer."""

    max_info: int
    """Octets of information in a frame, both ways."""
    window: int
    """Frames, both ways."""
    snrm_parameters: bool
    """Proposed at all; without, 128 octets and a window of 1 hold."""
    wait_s: float
    """Until it is asked again, beyond the time on the line."""


class Request(NamedTuple):
    """The frames of a request, as they went."""

    longest_info: int
    together: int
    """How many in one window."""

    @property
    def demanding(self) -> bool:
        """More than each meter takes."""
        return self.longest_info > SHORT_INFO or self.together > 1


class Slow(NamedTuple):
    """An exchange that was answered, though not before the meter was asked again."""

    number: int
    """Exchanges are counted."""
    repeated: bool
    """A frame of ours had been lost; else the answer only took its time, or was lost itself."""
    took_s: float
    """From the end of the request to the end of the answer."""


def gentler(limits: Limits, request: Request) -> Limits | None:
    """The next step after `request` was lost: frames one by one, then shorter ones. None: there is none."""
    if request.together > 1:
        return limits._replace(window=1)
    shorter = [info for info in SHORTER_INFO if info < request.longest_info]
    return limits._replace(max_info=shorter[0], window=1) if shorter else None


def habit(latest: Sequence[Slow], exchanges: int) -> tuple[Slow, ...]:
    """The slow ones of one kind among the latest of so many exchanges, where they are a habit; else nothing."""
    for repeated, most, of in ((True, FEW, OF_FEW), (False, MANY, OF_MANY)):
        found = tuple(slow for slow in latest if slow.repeated is repeated and slow.number > exchanges - of)
        if len(found) >= most:
            return found
    return ()


def patient(limits: Limits, slow: Sequence[Slow]) -> Limits | None:
    """A time-out in which those answers would have come. None: it is long enough, or none is."""
    needed_s = max(one.took_s for one in slow) * 1.25
    if not limits.wait_s < needed_s <= LONGEST_WAIT_S:
        return None
    return limits._replace(wait_s=round(needed_s, 1) + 0.1)
