"""What happened to a virtual meter, in order: what tests and demonstrations look at."""

from __future__ import annotations

from collections import Counter, deque
from enum import StrEnum
from typing import NamedTuple

EVENTS_KEPT = 100_000


class What(StrEnum):
    """The kinds of events. `number` of an `Event` says more: it stands in brackets."""

    LINK = "link"
    """A client connected by SNRM (its SAP)."""
    ASSOCIATED = "associated"
    """An association is open, after HLS where there is one (SAP of the client)."""
    REJECTED = "rejected"
    """An AARQ was rejected (AARE diagnostic)."""
    SECURITY = "security"
    """A protected message was refused: tag, policy or counter (the counter it carried)."""
    GET = "get"
    """An attribute of class 18 was read (attribute)."""
    INITIATE = "initiate"
    """Method 1 was taken (image size)."""
    BLOCK = "block"
    """A block was acknowledged with success, kept or not (block number)."""
    BROADCAST = "broadcast"
    """A frame to all stations was heard (1: it had a block for this meter, 0: it was discarded)."""
    VERIFY = "verify"
    """Method 3 was invoked (a6 before)."""
    VERIFIED = "verified"
    """Verification ended (a6 after)."""
    ACTIVATE = "activate"
    """Method 4 was invoked (a6 before)."""
    ACTIVATED = "activated"
    """The meter is back after activation (a6 after)."""
    SCHEDULED = "scheduled"
    """Its schedule was written (times in it)."""
    REFUSED = "refused"
    """A method of class 18 was refused (its action-result)."""
    REBOOT = "reboot"
    """The meter went down (how often until now)."""


class Event(NamedTuple):
    at_s: float
    what: What
    number: int


class History:
    """The newest events, and how often each kind happened since the meter was made; a reboot forgets nothing."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.blocks: Counter[int] = Counter()
        """How often each block arrived and was acknowledged, over all transfers."""
        self._counts = dict.fromkeys(What, 0)

    def note(self, at_s: float, what: What, number: int = 0) -> None:
        self.events.append(Event(at_s, what, number))
        self._counts[what] += 1
        if what is What.BLOCK:
            self.blocks[number] = self.blocks.get(number, 0) + 1

    def count(self, what: What) -> int:
        """How often `what` happened."""
        return self._counts[what]

    @property
    def initiates(self) -> int:
        return self._counts[What.INITIATE]

    @property
    def verifies(self) -> int:
        return self._counts[What.VERIFY]

    @property
    def activations(self) -> int:
        return self._counts[What.ACTIVATE]
