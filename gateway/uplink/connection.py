"""A connection to a broker that is kept up by whoever polls it, with its subscriptions, and nothing that outlives it.

For what is published and heard beside commands and outbox, which `uplink` alone carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from gateway.clock import Clock
from gateway.uplink.back_off import ACKNOWLEDGE_TIMEOUT_S, CONNECT_TIMEOUT_S, BackOff
from gateway.uplink.broker import (
    REFUSED,
    Acknowledged,
    Broker,
    Connected,
    Delivery,
    Event,
    Lost,
    Message,
    Subscribed,
    reason_text,
)

_FAREWELL_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and subscribed to everything."""

    max_packet_size: int


@dataclass(frozen=True, slots=True)
class Down:
    """Not connected, or refused what was asked for; tried again after a while."""

    reason: str


class _Phase(Enum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    UP = "up"


class Connection:
    """Driven by one thread; opens nothing before the first `poll`."""

    def __init__(
        self,
        broker: Broker,
        topic_filters: Sequence[str],
        *,
        qos: int,
        clock: Clock,
        random: Random | None = None,
    ) -> None:
        """`qos` is that of the subscriptions. The broker object must keep no session."""
        self._broker = broker
        self._filters = topic_filters
        self._qos = qos
        self._clock = clock
        self._back_off = BackOff(clock, random)
        self._phase = _Phase.OFFLINE
        self._since_s = 0.0
        self._max_packet_size = 0
        self._unanswered = 0
        """Subscriptions."""
        self._unacknowledged: dict[int, tuple[float, str]] = {}
        """Since when, and on which topic, by number."""

    @property
    def up(self) -> bool:
        return self._phase is _Phase.UP

    @property
    def congested(self) -> bool:
        """What is published now would only wait."""
        return self._broker.congested()

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Up | Down]:
        """Exchange octets for at most `timeout_s`, connect where that is due, and tell what became of it."""
        if self._phase is _Phase.OFFLINE:
            wait_s = self._back_off.next_try_at - self._clock.monotonic()
            if wait_s > 0:
                self._clock.sleep(min(wait_s, timeout_s))
                return []
            self._enter(_Phase.CONNECTING)
            self._unanswered = len(self._filters)
            self._broker.connect()
        told = [
            change
            for event in self._broker.poll(timeout_s, deliver)
            if (change := self._take(event)) is not None
        ]
        late = self._late()
        return [*told, *([self._lose(late)] if late else [])]

    def publish(self, message: Message) -> None:
        """Send it, if there is a connection. What the broker refuses at QoS 1 brings the connection down."""
        if not self.up:
            return
        number = self._broker.publish(message)
        if message.qos:
            self._unacknowledged[number] = (self._clock.monotonic(), message.topic)

    def close(self) -> None:
        """Disconnect in order, once what was published has arrived; within seconds."""
        deadline_s = self._clock.monotonic() + _FAREWELL_TIMEOUT_S
        while self.up and self._unacknowledged and self._clock.monotonic() < deadline_s:
            self.poll(0.1, lambda _: None)
        self._broker.disconnect()
        self._enter(_Phase.OFFLINE)

    def _take(self, event: Event) -> Up | Down | None:
        match event:
            case Lost(reason) if self._phase is not _Phase.OFFLINE:
                return self._lose(reason)
            case Connected(max_packet_size):
                self._max_packet_size = max_packet_size
                for topic_filter in self._filters:
                    self._broker.subscribe(topic_filter, qos=self._qos)
            case Subscribed(reason) if reason >= REFUSED:
                return self._lose(
                    f"the broker refuses {self._filters[-self._unanswered]}: {reason_text(reason)}"
                )
            case Subscribed():
                self._unanswered -= 1
                if self._unanswered == 0:
                    self._enter(_Phase.UP)
                    return Up(self._max_packet_size)
            case Acknowledged(number, reason):
                _, topic = self._unacknowledged.pop(number, (0.0, ""))
                if reason >= REFUSED:
                    return self._lose(f"the broker refuses {topic}: {reason_text(reason)}")
            case _:
                pass
        return None

    def _late(self) -> str:
        """What has not come in its time."""
        now_s = self._clock.monotonic()
        if self._phase is _Phase.CONNECTING and now_s - self._since_s > CONNECT_TIMEOUT_S:
            return "the broker did not answer CONNECT or SUBSCRIBE"
        if any(now_s - at_s > ACKNOWLEDGE_TIMEOUT_S for at_s, _ in self._unacknowledged.values()):
            return "the broker acknowledges nothing"
        return ""

    def _lose(self, reason: str) -> Down:
        self._back_off.failed(self._clock.monotonic() - self._since_s if self.up else 0.0)
        self._broker.drop()
        self._unacknowledged.clear()
        self._enter(_Phase.OFFLINE)
        return Down(reason)

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._since_s = self._clock.monotonic()
