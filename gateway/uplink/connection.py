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
        acknowledged: Callable[[str, int], None] | None = None,
    ) -> None:
        """`qos` is that of the subscriptions. The broker object must keep no session. `acknowledged` is told topic and
        reason of each QoS 1 publication that the broker answers; without it a refusal brings the connection down."""
        self._broker = broker
        self._filters = [(topic_filter, qos) for topic_filter in topic_filters]
        self._acknowledged = acknowledged
        self._clock = clock
        self._back_off = BackOff(clock, random)
        self._phase = _Phase.OFFLINE
        self._since_s = 0.0
        self._max_packet_size = 0
        self._asked = self._unanswered = 0
        """Subscriptions of this connection."""
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
            self._asked = self._unanswered = 0
            self._broker.connect()
        elif self.up:
            self._subscribe()
        told = [
            change
            for event in self._broker.poll(timeout_s, deliver)
            if (change := self._take(event)) is not None
        ]
        late = self._late()
        return [*told, *([self._lose(late)] if late else [])]

    def hear(self, topic_filter: str, *, qos: int) -> None:
        """One subscription more, from now on; at once, if there is a connection."""
        self._filters.append((topic_filter, qos))
        if self.up:
            self._subscribe()

    @property
    def settled(self) -> bool:
        """Connected, and the broker answered every subscription."""
        return self.up and self._unanswered == 0 and self._asked == len(self._filters)

    def publish(self, message: Message) -> None:
        """Send it, if there is a connection."""
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
                self._subscribe()
            case Subscribed(reason) if reason >= REFUSED:
                return self._lose(
                    f"the broker refuses {self._filters[self._asked - self._unanswered][0]}: {reason_text(reason)}"
                )
            case Subscribed():
                self._unanswered -= 1
                if self._unanswered == 0 and not self.up:
                    self._enter(_Phase.UP)
                    return Up(self._max_packet_size)
            case Acknowledged(number, reason):
                _, topic = self._unacknowledged.pop(number, (0.0, ""))
                if self._acknowledged is not None:
                    self._acknowledged(topic, reason)
                elif reason >= REFUSED:
                    return self._lose(f"the broker refuses {topic}: {reason_text(reason)}")
            case _:
                pass
        return None

    def _subscribe(self) -> None:
        """To what was not asked for on this connection yet."""
        for topic_filter, qos in self._filters[self._asked :]:
            self._broker.subscribe(topic_filter, qos=qos)
            self._asked += 1
            self._unanswered += 1

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
