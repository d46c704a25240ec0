"""A head-end that knows when it heard what: one thread, no lock, nothing between the socket and the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from gateway.model import MqttSettings
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Lost, Message, Subscribed
from gateway.uplink.paho_broker import PahoBroker

_POLL_S = 0.05
_PATIENCE_S = 300.0


class Heard(NamedTuple):
    at_s: float
    """Of time.perf_counter()."""
    topic: str
    payload: bytes


class Far:
    """Connected and subscribed when it is entered."""

    def __init__(self, url: str, *filters: str) -> None:
        self.heard: list[Heard] = []
        self.acknowledged = 0
        """Of what it published."""
        self._filters = filters
        self._broker = PahoBroker(MqttSettings(url), "head-end", keeps_session=False)
        self._ready = 0

    def __enter__(self) -> Self:
        self._broker.connect()
        self.until(lambda: self._ready == len(self._filters))
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.disconnect()

    def order(self, topic: str, args: Mapping[str, Any], cmd_id: str) -> None:
        """Publish a command."""
        now = datetime.now(UTC)
        issued, expires = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (now, now + timedelta(hours=1)))
        command = {"v": 1, "cmd_id": cmd_id, "issued": issued, "expires": expires, "args": args}
        self.say(topic, json.dumps(command).encode())

    def say(self, topic: str, payload: bytes, *, correlation: bytes = b"") -> None:
        self._broker.publish(Message(topic, payload, correlation=correlation))

    def on(self, topic: str) -> list[Heard]:
        """What was heard on one topic."""
        return [one for one in self.heard if one.topic == topic]

    def until(self, condition: Callable[[], object], within_s: float = _PATIENCE_S) -> None:
        """Listen until it holds. Raises RuntimeError where it never does, or the connection is lost."""
        deadline_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise RuntimeError("it never came about")
            self.listen()

    def listen(self) -> None:
        """For a moment."""
        for event in self._broker.poll(_POLL_S, self._hear):
            match event:
                case Connected():
                    for topic_filter in self._filters:
                        self._broker.subscribe(topic_filter)
                case Subscribed():
                    self._ready += 1
                case Acknowledged():
                    self.acknowledged += 1
                case Lost(reason):
                    raise RuntimeError(reason)

    def _hear(self, delivery: Delivery) -> None:
        self.heard.append(Heard(time.perf_counter(), delivery.topic, delivery.payload))
