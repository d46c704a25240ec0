"""An MQTT broker in process, on virtual time, with several clients: what goes at QoS 0 may be lost, connections may
break, the broker may be away, and a line may be slow."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from gateway.simulator import VirtualClock
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed


class SimHub:
    def __init__(
        self,
        clock: VirtualClock,
        chance: random.Random,
        *,
        loses: float = 0.0,
        breaks: float = 0.0,
        octets_per_s: float = 1e6,
        max_packet_size: int = 1 << 20,
    ) -> None:
        """`loses`: of what goes at QoS 0, so much. `breaks`: so likely at each poll of a client. `octets_per_s`: of the
        line to each client."""
        self.clock = clock
        self.chance = chance
        self.loses = loses
        self.breaks = breaks
        self.octets_per_s = octets_per_s
        self.max_packet_size = max_packet_size
        self.away = False
        self.refuses = 0
        """The reason that every subscription is answered with."""
        self.published: list[tuple[float, Message]] = []
        self.clients: list[SimClient] = []

    def client(self, meanwhile: Callable[[], object] | None = None) -> SimClient:
        """A connection. `meanwhile` lets others act while this one waits, and time passes; without it none does."""
        self.clients.append(SimClient(self, meanwhile))
        return self.clients[-1]

    def gets(self) -> list[float]:
        """When each `get` came."""
        return [at_s for at_s, message in self.published if message.topic.endswith("/get")]

    def pass_on(self, message: Message) -> None:
        self.published.append((self.clock.monotonic(), message))
        if message.qos == 0 and self.chance.random() < self.loses:
            return
        for client in self.clients:
            client.hear(message)


class SimClient:
    """Implements `gateway.uplink.broker.Broker`."""

    def __init__(self, hub: SimHub, meanwhile: Callable[[], object] | None) -> None:
        self._hub = hub
        self._meanwhile = meanwhile
        self._connected = False
        self._filters: list[str] = []
        self._queue: deque[Delivery] = deque()
        self._events: deque[Event] = deque()
        self._mids = 0

    def hear(self, message: Message) -> None:
        if self._connected and any(_matches(one, message.topic) for one in self._filters):
            self._queue.append(Delivery(message.topic, message.payload, retain=False))

    def connect(self, will: Message | None = None) -> None:
        self.drop()
        self._connected = not self._hub.away
        away = Lost("the broker is away")
        self._events.append(Connected(self._hub.max_packet_size, 20) if self._connected else away)

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        broken = self._hub.away or self._hub.chance.random() < self._hub.breaks
        if self._connected and broken:
            self.drop()
            self._events.append(Lost("the connection broke"))
        if self._meanwhile is not None:
            self._meanwhile()
            if not self._queue and not self._events:
                self._hub.clock.advance(timeout_s)
        if self._queue:
            delivery = self._queue.popleft()
            if self._meanwhile is not None:
                self._hub.clock.advance(len(delivery.payload) / self._hub.octets_per_s)
            deliver(delivery)
        events = list(self._events)
        self._events.clear()
        return events

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        self._filters.append(topic_filter)
        self._events.append(Subscribed(self._hub.refuses or qos))

    def publish(self, message: Message) -> int:
        assert self._connected
        assert message.packet_size <= self._hub.max_packet_size
        self._mids += 1
        if message.qos:
            self._events.append(Acknowledged(self._mids, 0))
        self._hub.pass_on(message)
        return self._mids

    def congested(self) -> bool:
        return False

    def drop(self) -> None:
        self._connected = False
        self._filters.clear()
        self._queue.clear()
        self._events.clear()

    def disconnect(self) -> None:
        self.drop()


def _matches(topic_filter: str, topic: str) -> bool:
    """MQTT 5.0, clause 4.7.1, for `+` alone."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        one in ("+", level) for one, level in zip(wanted, levels, strict=True)
    )
