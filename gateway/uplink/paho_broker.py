"""MQTT 5 or 3.1.1 through paho-mqtt, the same over 1.6 and 2.x.

MQTT 5 is spoken until a broker refuses it (MQTT 3.1.1, clause 3.1.2.2; MQTT 5.0, clause 3.1.2.2); from then on, until
the next start, 3.1.1. There a session has no end, a message no properties, an acknowledgement no reason, and
a command that was published as retained while we listened looks like any other.

Each connection gets a paho client of its own: paho keeps what was not acknowledged and sends it again by itself,
beside the outbox that does so too. What paho knows and does not tell is read from its private parts, in the three
functions at the end.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.model import MqttSettings
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed
from gateway.uplink.tls import Tls

_RECEIVE_MAXIMUM = 16
"""How many deliveries the broker may leave unacknowledged here; each waits for a commit."""
_MAX_PACKET_SIZE = 1 << 20
"""Far above the 64 KiB of a command, so that one too large is still answered; far below what memory bears."""
_LONGEST_PACKET_READ = 4 << 20
"""A broker of MQTT 3.1.1 is not told what we take, and one that somebody took over may not care: of a packet that says
it is larger than this the rest is not read."""
_RECEIVE_BUFFER = 128 << 10
"""Of our socket, twice that in Linux: paho empties it up to 100 times before anybody can see what is coming."""
_LARGEST_SESSION_EXPIRY_S = 0xFFFFFFFE
_UNBOUNDED_PACKET_SIZE = 268_435_460
"""The largest packet that MQTT can express (MQTT 5.0, clause 1.5.5)."""
_UNBOUNDED_RECEIVE_MAXIMUM = 0xFFFF
"""What a broker takes that names no limit (MQTT 5.0, clause 3.2.2.3.3)."""
_UNSUPPORTED_VERSION = 0x84
"""Reason code of CONNACK (MQTT 5.0, clause 3.2.2.2); paho gives it for return code 1 of MQTT 3.1.1 as well."""
_UNKNOWN_CLIENT = frozenset({4, 5, 0x86, 0x87})
"""Bad user name or password, and not authorized: of MQTT 3.1.1, and of MQTT 5."""
_NAMES: dict[int, str] = {paho.MQTTv5: "MQTT 5", paho.MQTTv311: "MQTT 3.1.1"}
_OTHER: dict[int, int] = {paho.MQTTv5: paho.MQTTv311, paho.MQTTv311: paho.MQTTv5}
_RETAIN_ONCE = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
"""A retained command is refused once, not at each reconnect."""


class PahoBroker:
    """A `gateway.uplink.broker.Broker` over the network."""

    def __init__(self, settings: MqttSettings, client_id: str, *, keeps_session: bool = True) -> None:
        """Opens nothing. `settings.url` is mqtt:// or mqtts://. `keeps_session`: subscriptions, and what comes while we
        are away, outlive a connection."""
        url = urlsplit(settings.url)
        self._tls = url.scheme == "mqtts"
        self._host = url.hostname or ""
        self._port = url.port or (8883 if self._tls else 1883)
        self._settings = settings
        self._client_id = client_id
        self._keeps_session = keeps_session
        self._protocol: int = paho.MQTTv5
        self._taken_in = False
        self._trouble = ""
        self._client: Any = None
        self._events: list[Event] = []
        self._deliver: Callable[[Delivery], None] | None = None
        self._deliver_error: Exception | None = None

    def connect(self, will: Message | None = None) -> None:
        self.drop()
        self._taken_in, self._trouble = False, ""
        client = self._client = self._new_client(will)
        options: dict[str, Any] = {}
        if self._protocol == paho.MQTTv5:
            options = {"clean_start": not self._keeps_session, "properties": self._connect_properties()}
        try:
            if self._tls:
                client.tls_set_context(Tls(self._settings))
            client.connect(
                self._host, self._port, keepalive=max(1, int(self._settings.keepalive_s)), **options
            )
        except (OSError, UnicodeError) as error:
            self._lose(f"cannot connect to {self._host} port {self._port}: {_why(error)}")

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        if self._client is not None:
            self._deliver = deliver
            spoken = self._protocol
            try:
                result = self._client.loop(timeout_s)
            except Exception as error:
                if error is self._deliver_error:
                    self._lose("a delivery could not be dealt with")
                    raise
                if isinstance(error, OSError):  # paho 1.6 lets those of TLS through
                    self._lose(self._ending(str(error)))
                else:
                    self._lose(f"the broker sent what paho cannot read: {type(error).__name__}: {error}")
            else:
                if result != paho.MQTT_ERR_SUCCESS:
                    if result == paho.MQTT_ERR_PROTOCOL and spoken == paho.MQTTv311 and not self._taken_in:
                        self._refuse_version()  # all that paho tells of its return code 1
                    self._lose(paho.error_string(result))
                elif self._client is not None and _packet_being_read(self._client) > _LONGEST_PACKET_READ:
                    self._lose(f"the broker sends a larger packet than {_LONGEST_PACKET_READ} octets")
        events, self._events = self._events, []
        if any(isinstance(event, Lost) for event in events):
            self._close()
        return events

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> None:
        if self._protocol == paho.MQTTv5:
            options = SubscribeOptions(qos=qos, retainAsPublished=True, retainHandling=_RETAIN_ONCE)
            self._client.subscribe(topic_filter, options=options)
        else:
            self._client.subscribe(topic_filter, qos=qos)

    def publish(self, message: Message) -> int:
        properties = None
        given = {
            "CorrelationData": message.correlation,
            "ResponseTopic": message.response_topic,
            "MessageExpiryInterval": message.expiry_s,
        }
        if any(given.values()) and self._protocol == paho.MQTTv5:
            properties = _properties(
                PacketTypes.PUBLISH, **{name: value for name, value in given.items() if value}
            )
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        mid: int = sent.mid
        return mid

    def congested(self) -> bool:
        return self._client is not None and bool(self._client.want_write())

    def drop(self) -> None:
        self._close()
        self._events.clear()

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
        self.drop()

    def _new_client(self, will: Message | None) -> Any:
        # Left to itself paho answers a refused 3.1.1 with a connection of MQTT 3.1.
        arguments: dict[str, Any] = {
            "client_id": self._client_id, "protocol": self._protocol, "reconnect_on_failure": False
        }  # fmt: skip
        if self._protocol == paho.MQTTv311:
            arguments["clean_session"] = not self._keeps_session
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client: Any = paho.Client(**arguments)
        if self._settings.username:
            client.username_pw_set(self._settings.username, self._settings.password or None)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_log = self._on_log
        client.on_socket_open = _prepare
        return client

    def _connect_properties(self) -> Any:
        expiry_s = self._settings.session_expiry_s if self._keeps_session else 0
        return _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=min(int(expiry_s), _LARGEST_SESSION_EXPIRY_S),
            ReceiveMaximum=_RECEIVE_MAXIMUM,
            MaximumPacketSize=_MAX_PACKET_SIZE,
        )

    def _lose(self, reason: str) -> None:
        """Tell of a loss once: of several reasons the first is the telling one."""
        self._close()
        if not any(isinstance(event, Lost) for event in self._events):
            self._events.append(Lost(reason))

    def _ending(self, why: str) -> str:
        if self._taken_in:
            return f"the connection ended: {why}"
        guess = "does it accept our certificate?" if self._tls else "does it want TLS?"
        return f"the broker ended the connection unanswered ({guess}): {why}"

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None and client.socket() is not None:
            client.socket().close()

    def _refuse_version(self) -> None:
        """The broker does not speak our version: the next connection tries the other one."""
        refused, self._protocol = self._protocol, _OTHER[self._protocol]
        text = f"the broker does not speak {_NAMES[refused]}: {_NAMES[self._protocol]} from now on"
        self._events = [Lost(text)]

    # Callbacks. paho 1.6 gives fewer arguments where 3.1.1 is spoken, and integers for reasons.

    def _on_connect(
        self, client: Any, _userdata: Any, flags: Any, reason: Any, properties: Any = None
    ) -> None:
        if _number(reason) == _UNSUPPORTED_VERSION:
            self._refuse_version()
            return
        if _number(reason):
            text = paho.connack_string(reason) if isinstance(reason, int) else str(reason)
            if _number(reason) in _UNKNOWN_CLIENT:
                text += " (does it know this user name, password, certificate?)"
            self._events.append(Lost(f"the broker refused the connection: {text}"))
            return
        self._taken_in = True
        if hasattr(properties, "ServerKeepAlive"):
            _set_keepalive(client, properties.ServerKeepAlive)
        connected = Connected(
            getattr(properties, "MaximumPacketSize", _UNBOUNDED_PACKET_SIZE),
            getattr(properties, "ReceiveMaximum", _UNBOUNDED_RECEIVE_MAXIMUM),
            keeps_subscription=self._protocol == paho.MQTTv311 and _session_present(flags),
        )
        self._events.append(connected)

    def _on_disconnect(self, _client: Any, _userdata: Any, *rest: Any) -> None:
        # 1.6: (reason) or, with MQTT 5, (reason, properties); 2.x: (flags, reason, properties)
        reason = rest[1] if len(rest) == 3 else rest[0]
        if not any(isinstance(event, Lost) for event in self._events):
            self._events.append(Lost(self._ending(self._trouble or _text(reason))))

    def _on_log(self, _client: Any, _userdata: Any, level: int, text: str) -> None:
        """The one place where paho says why a socket failed: a broker that does not believe our certificate says
        so after the handshake (TLS 1.3, RFC 8446, clause 4.4.2.4)."""
        if level == paho.MQTT_LOG_ERR:
            self._trouble = text

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours; acknowledging rids us of it
        properties = getattr(message, "properties", None)  # paho 1.6 has none with MQTT 3.1.1
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
        self, _client: Any, _userdata: Any, _mid: int, reasons: Sequence[Any], _properties: Any = None
    ) -> None:
        self._events.append(Subscribed(_number(reasons[0])))

    def _on_publish(self, client: Any, _userdata: Any, mid: int, *rest: Any) -> None:
        self._events.append(Acknowledged(mid, _number(rest[0]) if rest else _reason_in_packet(client)))


def _why(error: OSError | UnicodeError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"
    return str(error)


def _prepare(_client: Any, _userdata: Any, opened: socket.socket) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    # A reply and what follows it are small packets: the second would wait until the broker has acknowledged the
    # first, 40 ms or more (Nagle's algorithm, RFC 896, beside delayed acknowledgements, RFC 1122, clause 4.2.3.2).
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


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


def _session_present(flags: Any) -> bool:
    return bool(flags["session present"] if isinstance(flags, dict) else flags.session_present)


def _set_keepalive(client: Any, keepalive_s: int) -> None:
    """Obey the Server Keep Alive (MQTT 5.0, clause 3.2.2.3.14). paho before 2.2 ignores it, and its property
    refuses to be set on a connection."""
    client._keepalive = keepalive_s  # noqa: SLF001


def _packet_being_read(client: Any) -> int:
    """The octets that the packet has which is being read, as it says itself; 0 between packets."""
    length: int = client._in_packet["remaining_length"]  # noqa: SLF001
    return length


def _reason_in_packet(client: Any) -> int:
    """The reason code of the PUBACK being handled (MQTT 5.0, clause 3.4.2.1): paho 1.6 parses and drops it."""
    packet = client._in_packet  # noqa: SLF001
    if packet["command"] & 0xF0 != paho.PUBACK or len(packet["packet"]) < 3:
        return 0
    reason: int = packet["packet"][2]
    return reason
