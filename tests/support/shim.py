"""The shim over paho, driven by hand: what it was delivered and told, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from support import contract
from support.patience import PATIENCE_S

from gateway.model import MqttSettings
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed
from gateway.uplink.paho_broker import PahoBroker

E = TypeVar("E", Connected, Lost, Subscribed, Acknowledged)
WILL = Message("up/state", b"gone", retain=True)


class Ours:
    """A shim with what it was delivered and told."""

    def __init__(
        self, url: str, *, client_id: str = "mgw-test", keeps_session: bool = True, **settings: Any
    ) -> None:
        self.broker = PahoBroker(MqttSettings(url, **settings), client_id, keeps_session=keeps_session)
        contract.anybody.add(self.broker)
        self.delivered: list[Delivery] = []
        self.events: list[Event] = []
        self.deliver: Callable[[Delivery], None] = self.delivered.append

    def connect(self, topic_filter: str = "") -> Connected:
        self.broker.connect(WILL)
        connected = self.wait(Connected)
        if topic_filter:
            self.broker.subscribe(topic_filter)
            self.wait(Subscribed)
        return connected

    def wait(self, kind: type[E]) -> E:
        """The next event of that kind."""
        self.wait_until(lambda: any(isinstance(event, kind) for event in self.events))
        found = next(event for event in self.events if isinstance(event, kind))
        self.events.remove(found)
        return found

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"only {self.events} and {self.delivered}"
            self.events += self.broker.poll(0.05, self.deliver)

    def poll_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.events += self.broker.poll(0.05, self.deliver)
