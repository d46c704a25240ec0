"""An MQTT broker in process, on virtual time, with a head-end that remembers everything it was told.

It does what a broker promises and nothing more: a QoS 1 delivery that was not acknowledged comes again, a
publication that was not acknowledged may have arrived. Being away, and losing connections at any moment, are part of
it.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.simulator import VirtualClock
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed

IDLE_POLL_S = 1.0
"""What a poll without anything to exchange costs; a real one takes less, which only costs steps here."""


class SimBroker:
    """Implements `gateway.uplink.broker.Broker` for one gateway. What it holds survives the gateway's crashes."""

    def __init__(self, clock: VirtualClock, chance: random.Random, *, loses: float = 0.0) -> None:
        self.heard: list[Message] = []
        """Everything the head-end received, repetitions included."""
        self.retained: dict[str, Message] = {}
        self.away_until_s = 0.0
        self.idle_poll_s = IDLE_POLL_S
        self._clock = clock
        self._chance = chance
        self.loses = loses
        self._connected = False
        self._subscribed = False
        self._commands: deque[Delivery] = deque()
        self._events: deque[Event] = deque()
        self._mids = 0

    # -- the head-end's side ----------------------------------------------------------------------------------

    def order(self, topic: str, document: dict[str, Any]) -> None:
        """Send a command; the session keeps it until the gateway takes it."""
        self._commands.append(Delivery(topic, json.dumps(document).encode(), retain=False))

    def documents(self, topic: str) -> list[dict[str, Any]]:
        """What was heard on one topic."""
        return [json.loads(message.payload) for message in self.heard if message.topic == topic]

    def snapshot(self, topic: str) -> dict[str, Any] | None:
        """What a head-end that connects now would see on a topic."""
        message = self.retained.get(topic)
        return json.loads(message.payload) if message else None

    @property
    def waiting(self) -> bool:
        """A command was not taken yet."""
        return bool(self._commands)

    # -- the gateway's side -----------------------------------------------------------------------------------

    def connect(self, will: Message) -> None:
        self._events.clear()
        self._connected = self._clock.monotonic() >= self.away_until_s
        self._events.append(Connected(1 << 20, 20) if self._connected else Lost("the broker is away"))

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        if self._connected and (
            self._clock.monotonic() < self.away_until_s or self._chance.random() < self.loses
        ):
            self._connected = False
            self._events.append(Lost("the connection broke"))
        if self._connected and self._subscribed and self._commands:
            deliver(self._commands[0])
            self._commands.popleft()
        elif not self._events:
            self._clock.advance(max(timeout_s, self.idle_poll_s))
        events = list(self._events)
        self._events.clear()
        return events

    def subscribe(self, topic_filter: str) -> None:
        self._subscribed = True
        self._events.append(Subscribed(0))

    def publish(self, message: Message) -> int:
        self._mids += 1
        if self._connected:
            self.heard.append(message)
            if message.retain and message.payload:
                self.retained[message.topic] = message
            elif message.retain:
                self.retained.pop(message.topic, None)
            # The publication arrived; its acknowledgement may be lost with the connection.
            if message.qos and self._chance.random() >= self.loses:
                self._events.append(Acknowledged(self._mids, 0))
        return self._mids

    def drop(self) -> None:
        self._connected = False
        self._events.clear()

    def disconnect(self) -> None:
        self.drop()
