"""What the uplink needs of MQTT: paho over a network, or a simulated broker.

A broker object is driven by one thread and starts none. Everything that happens to it is told by `poll`, in
order. Acknowledged means what MQTT says it does (OASIS MQTT 5.0 and 3.1.1, clause 4.3.2): a delivery is acknowledged
after `deliver` returned, a publication once its `Acknowledged` was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

REFUSED = 0x80
"""Reason codes from here on are failures (MQTT 5.0, clause 2.4)."""
PACKET_TOO_LARGE = 0x95
NOBODY_HEARS = 0x10
"""Of a publication: no session subscribes to its topic (MQTT 5.0, clause 3.4.2.1)."""
_REASONS = {
    0x87: "not authorized",
    0x90: "topic name invalid",
    PACKET_TOO_LARGE: "packet too large",
    0x97: "quota exceeded",
}
"""MQTT 5.0, clause 2.4: those that an operator may meet."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish at QoS 1, or at QoS 0 where it may be lost. An empty `payload` with `retain` clears."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes = b""
    qos: int = 1
    response_topic: str = ""
    """Where the reply is to go, with `correlation`; both only with MQTT 5."""
    expiry_s: int = 0
    """So long the broker keeps it for somebody who is away, with MQTT 5; 0: for as long as it likes."""

    @property
    def packet_size(self) -> int:
        """Octets of the PUBLISH packet, at most (MQTT 5.0, clause 3.3)."""
        headers = 5 + 2 + 2 + 1 + (3 + len(self.correlation) if self.correlation else 0) + 1
        headers += (3 + len(self.response_topic) if self.response_topic else 0) + (5 if self.expiry_s else 0)
        return headers + len(self.topic.encode()) + len(self.payload)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that came. `retain` as its publisher set it (Retain As Published); with MQTT 3.1.1 only where it was
    retained before we subscribed."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker took us in and said what it can take (MQTT 5.0, clause 3.2.2.3)."""

    max_packet_size: int
    receive_maximum: int
    """How many QoS 1 publications may be unacknowledged."""
    keeps_subscription: bool = False
    """The session was found again, and subscribing anew would bring retained commands each time: MQTT 3.1.1 knows no
    Retain Handling."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no connection any more, or none came about. Nothing that was not acknowledged is kept."""

    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    reason: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker answered the publication `mid`; it has it unless `reason` >= REFUSED. MQTT 3.1.1 cannot refuse."""

    mid: int
    reason: int


Event = Connected | Lost | Subscribed | Acknowledged


class Broker(Protocol):
    """One connection at a time to one MQTT broker."""

    def connect(self, will: Message | None = None) -> None:
        """Begin a new connection; Connected or Lost follows."""

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        """Exchange octets for at most `timeout_s` and tell what happened.

        Whatever `deliver` raises comes out of here after the connection was dropped: the delivery was not
        acknowledged and comes again.
        """

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        """With Retain As Published where MQTT 5 is spoken; Subscribed follows."""

    def publish(self, message: Message) -> int:
        """Send, and return the number that its Acknowledged will carry (none follows at QoS 0)."""

    def congested(self) -> bool:
        """Octets wait for the network: what is published now only waits longer."""

    def drop(self) -> None:
        """End the connection without a farewell: the broker publishes the Will. No Lost follows."""

    def disconnect(self) -> None:
        """End the connection in order: the broker forgets the Will. No Lost follows."""


def reason_text(reason: int) -> str:
    """A reason code for people."""
    return f"{_REASONS.get(reason, 'reason')} 0x{reason:02X}"
