"""MQTT 5 through paho-mqtt, the same over 1.6 and 2.x.

Each connection gets a paho client of its own: paho keeps what was not acknowledged and sends it again by itself,
beside the outbox that does so too. What paho knows and does not tell is read from its private parts, in the two
functions at the end.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.model import MqttSettings
from gateway.uplink.broker import REFUSED, Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed

_RECEIVE_MAXIMUM = 16
"""How many deliveries the broker may leave unacknowledged here; each waits for a commit."""
_MAX_PACKET_SIZE = 1 << 20
"""Far above the 64 KiB of a command, so that one too large is still answered; far below what memory bears."""
_LARGEST_SESSION_EXPIRY_S = 0xFFFFFFFE
_UNBOUNDED_PACKET_SIZE = 268_435_460
"""The largest packet that MQTT can express (MQTT 5.0, clause 1.5.5)."""
_RETAIN_ONCE = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
"""A retained command is refused once, not at each reconnect."""


class PahoBroker:
    """A `gateway.uplink.broker.Broker` over the network."""

    def __init__(self, settings: MqttSettings, client_id: str) -> None:
        """Opens nothing. `settings.url` is mqtt:// or mqtts://."""
        url = urlsplit(settings.url)
        self._tls = url.scheme == "mqtts"
        self._host = url.hostname or ""
        self._port = url.port or (8883 if self._tls else 1883)
        self._settings = settings
        self._client_id = client_id
        self._client: Any = None
        self._events: list[Event] = []
        self._deliver: Callable[[Delivery], None] | None = None
        self._deliver_error: Exception | None = None

    def connect(self, will: Message) -> None:
        self.drop()
        client = self._client = self._new_client(will)
        try:
            if self._tls:
                client.tls_set_context(ssl.create_default_context(cafile=self._settings.ca_file))
            client.connect(
                self._host,
                self._port,
                keepalive=max(1, int(self._settings.keepalive_s)),
                clean_start=False,
                properties=self._connect_properties(),
            )
        except (OSError, UnicodeError) as error:
            self._lose(f"cannot connect to {self._host} port {self._port}: {error}")

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        if self._client is not None:
            self._deliver = deliver
            try:
                result = self._client.loop(timeout_s)
            except Exception as error:
                self._lose(f"the broker sent what paho cannot read: {type(error).__name__}: {error}")
                if error is self._deliver_error:
                    raise
            else:
                if result != paho.MQTT_ERR_SUCCESS:
                    self._lose(paho.error_string(result))
        events, self._events = self._events, []
        if any(isinstance(event, Lost) for event in events):
            self._close()
        return events

    def subscribe(self, topic_filter: str) -> None:
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=_RETAIN_ONCE)
        self._client.subscribe(topic_filter, options=options)

    def publish(self, message: Message) -> int:
        properties = None
        if message.correlation:
            properties = _properties(PacketTypes.PUBLISH, CorrelationData=message.correlation)
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        mid: int = sent.mid
        return mid

    def drop(self) -> None:
        self._close()
        self._events.clear()

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
        self.drop()

    def _new_client(self, will: Message) -> Any:
        arguments: dict[str, Any] = {"client_id": self._client_id, "protocol": paho.MQTTv5}
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client: Any = paho.Client(**arguments)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password or None)
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        return client

    def _connect_properties(self) -> Any:
        return _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=min(int(self._settings.session_expiry_s), _LARGEST_SESSION_EXPIRY_S),
            ReceiveMaximum=_RECEIVE_MAXIMUM,
            MaximumPacketSize=_MAX_PACKET_SIZE,
        )

    def _lose(self, reason: str) -> None:
        """Tell of a loss once: of several reasons the first is the telling one."""
        self._close()
        if not any(isinstance(event, Lost) for event in self._events):
            self._events.append(Lost(reason))

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None and client.socket() is not None:
            client.socket().close()

    # Callbacks, with the arguments that paho 1.6 and 2.x have in common where MQTT 5 is spoken.

    def _on_connect(self, client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if _number(reason) >= REFUSED:
            self._events.append(Lost(f"the broker refused the connection: {_text(reason)}"))
            return
        if hasattr(properties, "ServerKeepAlive"):
            _set_keepalive(client, properties.ServerKeepAlive)
        size = getattr(properties, "MaximumPacketSize", _UNBOUNDED_PACKET_SIZE)
        self._events.append(Connected(size, getattr(properties, "ReceiveMaximum", 0xFFFF)))

    def _on_disconnect(self, _client: Any, _userdata: Any, *rest: Any) -> None:
        reason = rest[-2]  # 1.6: (reason, properties), 2.x: (flags, reason, properties)
        if not any(isinstance(event, Lost) for event in self._events):
            self._events.append(Lost(f"the connection ended: {_text(reason)}"))

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours; acknowledging rids us of it
        properties = message.properties
        delivery = Delivery(
            topic,
            message.payload,
            bool(message.retain),
            getattr(properties, "ResponseTopic", ""),
            getattr(properties, "CorrelationData", b""),
        )
        assert self._deliver is not None, "paho is driven by poll alone"
        try:
            self._deliver(delivery)
        except Exception as error:
            self._deliver_error = error
            raise  # through paho, which then does not acknowledge

    def _on_subscribe(
        self, _client: Any, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        self._events.append(Subscribed(_number(reasons[0])))

    def _on_publish(self, client: Any, _userdata: Any, mid: int, *rest: Any) -> None:
        self._events.append(Acknowledged(mid, _number(rest[0]) if rest else _reason_in_packet(client)))


def _properties(packet_type: int, **values: Any) -> Any:
    properties: Any = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _number(reason: Any) -> int:
    """The number of a reason code, which is an int in some places of paho 1.6."""
    number: int = getattr(reason, "value", reason)
    return number


def _text(reason: Any) -> str:
    return paho.error_string(reason) if isinstance(reason, int) else str(reason)


def _set_keepalive(client: Any, keepalive_s: int) -> None:
    """Obey the Server Keep Alive (MQTT 5.0, clause 3.2.2.3.14). paho before 2.2 ignores it, and its property
    refuses to be set on a connection."""
    client._keepalive = keepalive_s  # noqa: SLF001


def _reason_in_packet(client: Any) -> int:
    """The reason code of the PUBACK being handled (MQTT 5.0, clause 3.4.2.1): paho 1.6 parses and drops it."""
    packet = client._in_packet  # noqa: SLF001
    if packet["command"] & 0xF0 != paho.PUBACK or len(packet["packet"]) < 3:
        return 0
    reason: int = packet["packet"][2]
    return reason
