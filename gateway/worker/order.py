"""Who has the line next. Pure.

Errands come before all of this. Among transfers a higher priority comes first. Among equals

1. a meter that is at work by itself and may have finished (it verifies): one exchange lets it go on;
2. the transfer that is under way: to finish one before the next is begun is the shortest time for the mean meter, and
   the least that is half done when something breaks;
3. another that was begun, the one that waits longest;
4. a meter that was not begun yet, in the order of the Store.

Last of all, whatever their priority, come meters that may well be silent: those that failed to answer, and those that
restart with their new firmware. Each costs the others a time-out; hence they are asked when nobody else can use the
line, or when they have waited for PATIENCE_S.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from gateway.model import JobState

PATIENCE_S = {JobState.WAITING: 900.0, JobState.CONFIRMING: 120.0, JobState.UNCERTAIN: 900.0}
"""Ten silent meters cost the others one part in fifteen of the line; a meter that restarts is usually back when it is
asked, and somebody waits to hear of it."""


class Kind(IntEnum):
    LOOK = 0
    IN_HAND = 1
    BEGUN = 2
    NEW = 3


class Claim(NamedTuple):
    """What somebody would do with the line; the smallest comes first."""

    perhaps_silent: bool
    lowness: int
    """The priority with its sign turned."""
    kind: Kind
    since_s: float
    """When it fell due."""


_AT_WORK = frozenset({JobState.VERIFYING, JobState.AWAITING_ACTIVATION, JobState.ACTIVATING})


def claim(state: JobState, *, priority: int, in_hand: bool, since_s: float, now_s: float) -> Claim:
    """That of a transfer that was begun and is due since `since_s`. `in_hand`: it had the line last."""
    kind = Kind.LOOK if state in _AT_WORK else Kind.IN_HAND if in_hand else Kind.BEGUN
    perhaps_silent = not in_hand and now_s - since_s < PATIENCE_S.get(state, 0.0)
    return Claim(perhaps_silent, -priority, kind, since_s)


def new(priority: int) -> Claim:
    """That of a job which waits to be begun."""
    return Claim(False, -priority, Kind.NEW, 0.0)
