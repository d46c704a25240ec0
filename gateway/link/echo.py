"""Lines that give back what is sent: two-wire adapters whose receiver stays on, most optical heads.

Whether a line does is not configured, since nobody at a cabinet knows: it shows in what comes back. A copy of what was
written, before anything else, is an echo. The one thing it can be mistaken for is the answer of a meter whose address
is the client's own, for as long as it says the same as we (RR answered by RR, up to 10 octets). So a long copy counts
always, a short one where the line is known to echo or nothing is known of it yet: a conversation begins with frames
whose answers differ (SNRM, DISC, the request of mode E).

A line that damages its echoes, or gives back a part, wedges nothing: the part is dropped where it is long enough to be
known, and else passed over above, where a piece of our own frame is nobody's answer.
"""

from __future__ import annotations

import logging
from collections import deque
from operator import itemgetter

from gateway.clock import Clock
from gateway.link.port import Port

SURE_OCTETS = 12
"""So much of what was written, given back, is no answer of any meter."""
FLAG = b"\x7e"
MOST_WRITES = 4
"""So many writes may be on their way back: an echo may come late, and never after the answer."""

log = logging.getLogger(__name__)


class EchoFilter(Port):
    """A line without the copies of what is written to it: `copies` of them were whole, `broken` were not."""

    def __init__(self, port: Port, name: str, clock: Clock) -> None:
        self.copies = 0
        self.broken = 0
        self._port = port
        self._name = name
        self._clock = clock
        self._echoes: bool | None = None
        """Whether the line does; None: nothing came back yet."""
        self._sent: deque[bytes] = deque(maxlen=MOST_WRITES)
        """What may still come back, the oldest first."""
        self._held = b""
        """What has come back and may be the beginning of a copy."""
        self._copy_end = b""
        """The last octet of the copy that was dropped last."""

    def write(self, octets: bytes) -> None:
        self._port.write(octets)
        self._sent.append(octets)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """As `Port.read`; what may become a copy is held back until it is one, or none, and then comes on top of
        `limit`."""
        end_s = self._clock.monotonic() + timeout_s
        octets = self._port.read(limit, timeout_s)
        while octets:
            if self._sent:
                octets = self._without_copies(self._held + octets)
            if octets:
                return self._with_its_flag(octets) if self._copy_end else octets
            octets = self._port.read(limit, max(0.0, end_s - self._clock.monotonic()))
        return b""

    def discard(self) -> None:
        self._port.discard()
        self._expect_nothing()

    def set_baud(self, baud: int) -> int:
        before = self._port.set_baud(baud)
        self._expect_nothing()
        return before

    def close(self) -> None:
        self._port.close()

    def _expect_nothing(self) -> None:
        self._sent.clear()
        self._held = self._copy_end = b""

    def _without_copies(self, octets: bytes) -> bytes:
        """What is to be handed on; nothing: more has to come first."""
        self._held = b""
        if self._echoes is False:
            head = octets[:SURE_OCTETS]
            for sent in self._sent:
                if sent.startswith(head):
                    break
            else:
                self._sent.clear()  # so it is for almost every answer
        while self._sent and octets:
            nth, alike = max(enumerate(_alike(sent, octets) for sent in self._sent), key=itemgetter(1))
            whole = alike == len(self._sent[nth])
            if alike == len(octets) and not whole:
                self._held = octets
                return b""
            if alike < SURE_OCTETS and not (whole and self._echoes is not False):
                self._echoes = bool(self._echoes)
                self._sent.clear()
                break
            self._note_copy(whole=whole)
            self._copy_end = octets[alike - 1 : alike]
            octets = octets[alike:]
            for _ in range(nth + 1):
                self._sent.popleft()
        return octets

    def _with_its_flag(self, octets: bytes) -> bytes:
        """Adapters cut the last octet off most easily. Then the flag that seemed to end the copy of a frame was the one
        that begins the answer."""
        flag, self._copy_end = self._copy_end, b""
        return flag + octets if flag == FLAG != octets[:1] else octets

    def _note_copy(self, *, whole: bool) -> None:
        self._echoes = True
        if whole:
            self.copies += 1
            if self.copies == 1:
                log.info("%s gives back what is sent: copies are dropped", self._name)
        else:
            self.broken += 1
            if self.broken == 1:
                log.warning(
                    "%s gives back what is sent, cut or damaged: is it wired and seated well?", self._name
                )


def _alike(sent: bytes, octets: bytes) -> int:
    """How many octets at the beginning of both are the same."""
    most = min(len(sent), len(octets))
    if sent[:most] == octets[:most]:
        return most
    return next(place for place in range(most) if sent[place] != octets[place])
