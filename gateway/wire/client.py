"""What a session needs of the link below it, whichever framing carries it: HDLC or the TCP wrapper.

A client is sans-io: it is given the octets that came in and gives the octets to write; time and port are the
caller's. It knows one meter, and drops what others say.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Reaction(NamedTuple):
    """What came of octets that were received."""

    write: bytes = b""
    """To be written now; often nothing."""
    apdu: bytes | None = None
    """A whole APDU of the meter. Should one read bring several, the others come with the next calls of `receive`,
    for which no octets are needed."""
    heard: bool = False
    """The meter said something that counts: the deadline for its answer starts afresh."""


class Cost(NamedTuple):
    """What an exchange costs if nothing is lost."""

    octets: int
    """On the line, both ways."""
    turns: int
    """How often it is the meter's turn."""


class Client(Protocol):
    """One end of a link to one meter. Everything raises only WireError, and LinkLostError where the link is gone."""

    @property
    def connected(self) -> bool:
        """APDUs can be sent."""

    @property
    def disconnected(self) -> bool:
        """There is no link, and none under way up or down."""

    @property
    def unanswered(self) -> bool:
        """The meter is known to have everything that was sent, and nothing of an answer came, not even damaged."""

    def connect(self) -> bytes:
        """Begin afresh, whatever was before: what to write first. Nothing to write: connected already."""

    def send(self, apdu: bytes) -> bytes:
        """What to write now for this APDU; more may follow from `receive`."""

    def cost(self, request: int, answer: int) -> Cost:
        """Of APDUs of so many octets."""

    def receive(self, octets: bytes) -> Reaction:
        """What comes of these octets, in pieces of any size."""

    def drop_arrived(self) -> None:
        """Forget the APDUs that came and were not handed out yet."""

    def timed_out(self) -> bytes:
        """What to write after the meter was silent too long; nothing: this link cannot ask again."""

    def disconnect(self) -> bytes:
        """Begin to end the link: what to write; then `receive` until `disconnected`."""
