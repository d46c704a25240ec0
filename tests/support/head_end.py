"""The other side of the broker: what a utility's head-end does with commands and replies."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from support.patience import PATIENCE_S

from gateway.tls import client_context


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    retain: bool
    correlation: bytes
    qos: int = 1

    @property
    def document(self) -> Any:
        return json.loads(self.payload)


class HeadEnd:
    """A client of a broker on loopback that hears `topics`, with a session that outlives the broker. In its own
    thread; connects again by itself."""

    def __init__(
        self, port: int, *topics: str, client_id: str = "head-end", tls: Mapping[str, Path] | None = None
    ) -> None:
        """`tls`: `ca_file`, `cert_file` and `key_file`, as a gateway names them."""
        self._topics = topics
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._taken: set[int] = set()
        self._verbs: dict[str, str] = {}
        """Of the commands that were sent here, by their ids."""
        self._connected = False
        arguments: dict[str, Any] = {"client_id": client_id, "protocol": paho.MQTTv5}
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client: Any = paho.Client(**arguments)
        self._client = client
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.reconnect_delay_set(1, 1)
        if tls:
            self._client.tls_set_context(client_context(**tls))
        properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=3600)
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)

    def __enter__(self) -> Self:
        self._client.loop_start()
        self._wait(lambda: self._connected, "was never connected")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str = "",
        correlation: bytes = b"",
    ) -> None:
        """Send, and wait until the broker has it."""
        self._wait(lambda: self._connected, "was never connected")
        self._note_verb(topic, payload)
        properties = _properties(PacketTypes.PUBLISH)
        if response_topic:
            properties.ResponseTopic = response_topic
        if correlation:
            properties.CorrelationData = correlation
        mid = self._client.publish(topic, payload, qos, retain, properties).mid
        # Not by paho's own wait, which raises where the connection was lost just now: it sends again by itself.
        self._wait(lambda: mid in self._taken, f"the broker never took {topic}")
        self._taken.discard(mid)

    def heard(self, topic: str = "") -> list[Heard]:
        """Everything heard so far, or what came on one topic."""
        with self._changed:
            return [heard for heard in self._heard if topic in ("", heard.topic)]

    def wait_for(self, topic: str, count: int = 1) -> list[Heard]:
        """What came on `topic`, as soon as it is at least `count`."""
        self._wait(lambda: len(self.heard(topic)) >= count, f"never heard {count} on {topic}")
        return self.heard(topic)

    def wait_for_reply(self, cmd_id: str | None, correlation: bytes) -> Heard:
        """The first reply to that id with that correlation data, on whatever topic."""

        def replies() -> list[Heard]:
            return [
                heard
                for heard in self.heard()
                if "/rsp" in heard.topic
                and (heard.document["cmd_id"], heard.correlation) == (cmd_id, correlation)
            ]

        self._wait(lambda: bool(replies()), f"never heard a reply to {cmd_id}, {correlation!r}")
        return replies()[0]

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while not condition():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise AssertionError(f"{otherwise}; heard: {[heard.topic for heard in self._heard]}")
                self._changed.wait(left_s)

    def _on_connect(self, client: Any, *_: Any) -> None:
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        client.subscribe([(topic, options) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        with self._changed:
            self._connected = True
            self._changed.notify_all()

    def _on_disconnect(self, *_: Any) -> None:
        with self._changed:
            self._connected = False

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        heard = Heard(message.topic, message.payload, bool(message.retain), correlation, message.qos)
        with self._changed:
            # The broker repeats what we had not acknowledged before a connection was lost. What the gateway sends
            # twice comes as another message, without the flag (MQTT 5.0, clause 3.3.1.1).
            if not (message.dup and heard in self._heard):
                self._hear(heard)
            self._changed.notify_all()

    def _hear(self, heard: Heard) -> None:
        self._heard.append(heard)

    def verb_of(self, heard: Heard) -> str:
        """Of the command that this is a reply to; "" where it is none, or to nothing that was sent here."""
        if "/rsp" not in heard.topic:
            return ""
        return self._verbs.get(str(heard.document.get("cmd_id")), "")

    def _note_verb(self, topic: str, payload: bytes) -> None:
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            self._verbs[str(json.loads(payload).get("cmd_id"))] = topic.partition("/cmd/")[2]

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, *_: Any) -> None:
        with self._changed:
            self._taken.add(mid)
            self._changed.notify_all()


def _properties(packet_type: int, **values: Any) -> Any:
    properties: Any = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
