"""The uplink: an actor that carries commands from the broker to control, and the outbox to the broker.

A command is acknowledged after control has made it durable; an outbox row is deleted after the broker has
acknowledged it. Whatever breaks in between happens again: commands are known by id, rows by what they say.
Reconnecting has its only home here (invariant 11).
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from gateway.board import UPLINK, Board
from gateway.clock import Clock
from gateway.control.commands import Origin, OriginKind
from gateway.errors import Code, GatewayError
from gateway.model import AlarmKind, MqttSettings, OutboxRow, Reply, ReplyStatus, StepReport
from gateway.store import Store
from gateway.store.documents import VERSION, Document, encoded, time_text
from gateway.uplink.back_off import ACKNOWLEDGE_TIMEOUT_S, CONNECT_TIMEOUT_S, BackOff
from gateway.uplink.broker import (
    PACKET_TOO_LARGE,
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
from gateway.uplink.progress import ProgressTeller

_log = logging.getLogger(__name__)

_POLL_S = 0.1
"""The longest a new outbox row waits for its first look."""
_FAREWELL_TIMEOUT_S = 2.0
_WINDOW = 16
"""Outbox rows under way at once; paho holds back from its 21st."""
_FORGET_AFTER_S = 2.0
"""How long rows may stay that the broker has, so that those of a burst go in one commit. A crash meanwhile tells them
again; hence with those under way they are no more than a window."""
_LIFE_SIGN_S = 5.0
_REFUSED_RETRY_S = 60.0
"""When rows that the broker refused are tried again: an operator mends the access rules meanwhile."""
_TOLD_LIMIT = 16
"""How many reasons for being offline, or refusals, are logged until all is well again."""
_STATE_LOOK_S = 10.0
"""How soon a change of the clock's state, or of what the gateway says of itself, is told."""
_OUTBOX_LOOK_S = 2.0
_LONGEST_CORRELATION = 256
_LONGEST_TOPIC = 512
_PLAIN_TOPIC = re.compile(r"[A-Za-z0-9._/-]+")

REFUSED_ALARM = ("alarm", "mqtt_refused")
"""On the Board while the broker refuses what must reach it: topic, reason, message, at."""
STATUS = ("uplink",)
"""On the Board: online, since when it is or is not, reason (of the last failure)."""


class _Phase(Enum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    ONLINE = "online"


@dataclass(frozen=True, slots=True)
class _Sent:
    """A publication under way."""

    topic: str
    row_id: int | None
    at: float


class Uplink:
    """The actor of the connection to the head-end."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        gateway_id: str,
        broker: Broker,
        store: Store,
        board: Board,
        clock: Clock,
        handle: Callable[[bytes, Origin, str], Reply],
        info: Callable[[], Mapping[str, Any]],
        clock_state: Callable[[], str],
        random: Random | None = None,
    ) -> None:
        """`handle` makes a command durable and puts its reply into the outbox; `info` is the data of `info.get`;
        `clock_state` says "synced" or what else the clock is."""
        self._base = f"{settings.root}/{gateway_id}"
        self._outbox_limit_bytes = settings.outbox_limit_bytes
        self._broker = broker
        self._store = store
        self._board = board
        self._clock = clock
        self._handle = handle
        self._info = info
        self._clock_state = clock_state
        self._random = random or Random()  # noqa: S311  # spreads reconnects, keeps no secret
        self._phase = _Phase.OFFLINE
        self._since = clock.monotonic()
        self._back_off = BackOff(clock, self._random)
        self._reasons_told: set[str] = set()
        self._refusals_told: set[str] = set()
        self._session = ""
        self._told_clock = ""
        self._told_info = b""
        self._look_at_state_at = self._look_at_outbox_at = 0.0
        self._outbox_consequence: str | None = None
        """What was told of it in this process."""
        self._limits = Connected(0, 0)
        self._in_flight: dict[int, _Sent] = {}
        self._acknowledged: list[int] = []
        self._forget_at = 0.0
        self._queue: deque[Message] = deque()
        self._position = 0
        self._subscribed = False
        self._asked_at: float | None = None
        """When a subscription was asked for that is not answered yet."""
        self._retry_at: float | None = None
        self._progress = ProgressTeller(self._base)

    def step(self) -> StepReport:
        """Exchange with the broker for at most a moment, or look whether to connect."""
        now = self._clock.monotonic()
        self._board.beat(UPLINK, now)
        try:
            if now >= self._look_at_outbox_at:
                self._look_at_outbox_at = now + _OUTBOX_LOOK_S
                self._look_at_outbox()
            wait_s = self._back_off.next_try_at - now
            if self._phase is _Phase.OFFLINE and wait_s > 0:
                return StepReport(f"offline, trying again in {wait_s:.1f} s", now + min(wait_s, _LIFE_SIGN_S))
            if self._phase is _Phase.OFFLINE:
                self._connect()
            self._exchange(_POLL_S)
            if self._phase is _Phase.ONLINE:
                self._tell()
            self._check_waits()
        except GatewayError as error:
            self._go_offline(f"work for the broker failed: {error}")
        return StepReport(self._phase.value, self._clock.monotonic())

    def close(self) -> None:
        """Say goodbye and disconnect in order, within a few seconds."""
        if self._phase is _Phase.ONLINE:
            deadline = self._clock.monotonic() + _FAREWELL_TIMEOUT_S
            self._queue.append(self._state(online=False))
            with suppress(GatewayError):
                while (self._queue or self._in_flight) and self._clock.monotonic() < deadline:
                    self._send_queue()
                    self._exchange(_POLL_S)
        with suppress(GatewayError):
            self._forget_acknowledged()
        self._broker.disconnect()
        self._phase = _Phase.OFFLINE

    # -- connection -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._session = f"{self._random.getrandbits(64):016x}"
        self._enter(_Phase.CONNECTING)
        self._broker.connect(will=self._state(online=False))

    def _exchange(self, timeout_s: float) -> None:
        for event in self._broker.poll(timeout_s, self._deliver):
            self._take(event)
        if self._clock.monotonic() >= self._forget_at:
            self._forget_acknowledged()

    def _forget_acknowledged(self) -> None:
        """Delete what the broker has."""
        if self._acknowledged:
            self._store.outbox_delete(*self._acknowledged)
            self._acknowledged.clear()

    def _take(self, event: Event) -> None:
        match event:
            case Connected():
                self._limits = event
                self._subscribed = self._subscribed and event.keeps_subscription
                self._in_flight.clear()
                self._enter(_Phase.ONLINE)
                self._begin_pass()
            case Lost(reason):
                self._go_offline(reason)
            case Subscribed(reason) if reason >= REFUSED:
                self._asked_at = None
                self._refused(f"{self._base}/cmd/+", reason)
            case Subscribed():
                self._asked_at = None
                self._subscribed = True
            case Acknowledged(mid, reason):
                sent = self._in_flight.pop(mid, None)
                if sent is not None and reason >= REFUSED:
                    self._refused(sent.topic, reason)
                elif sent is not None and sent.row_id is not None:
                    if not self._acknowledged:
                        self._forget_at = self._clock.monotonic() + _FORGET_AFTER_S
                    self._acknowledged.append(sent.row_id)

    def _check_waits(self) -> None:
        now = self._clock.monotonic()
        if self._phase is _Phase.CONNECTING and now - self._since > CONNECT_TIMEOUT_S:
            self._go_offline("the broker did not answer CONNECT")
        if self._asked_at is not None and now - self._asked_at > ACKNOWLEDGE_TIMEOUT_S:
            self._go_offline("the broker does not answer SUBSCRIBE")
        if any(now - sent.at > ACKNOWLEDGE_TIMEOUT_S for sent in self._in_flight.values()):
            self._go_offline("the broker acknowledges nothing")

    def _go_offline(self, reason: str) -> None:
        if self._phase is _Phase.OFFLINE:
            return
        held_s = self._clock.monotonic() - self._since if self._phase is _Phase.ONLINE else 0.0
        self._back_off.failed(held_s)
        self._asked_at = None
        with suppress(GatewayError):
            self._forget_acknowledged()
        self._broker.drop()
        self._in_flight.clear()
        self._queue.clear()
        self._enter(_Phase.OFFLINE, reason)

    def _enter(self, phase: _Phase, reason: str = "") -> None:
        self._phase = phase
        self._since = self._clock.monotonic()
        if phase is not _Phase.CONNECTING:
            self._tell_operator(online=phase is _Phase.ONLINE, reason=reason)

    def _tell_operator(self, *, online: bool, reason: str) -> None:
        """On the Board, and in the log each reason once: a broker that is away for days gets no line for each
        attempt."""
        known = self._board.values("uplink").get(STATUS, {})
        changed = known.get("online") is not online
        since = time_text(self._clock.now()) if changed else known["since"]
        self._board.post(STATUS, {"online": online, "since": since, "reason": reason})
        if online:
            self._reasons_told.clear()
            _log.info("uplink online")
        elif changed or (reason not in self._reasons_told and len(self._reasons_told) < _TOLD_LIMIT):
            self._reasons_told.add(reason)
            _log.warning("uplink offline: %s", reason)

    # -- down: commands ---------------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        """Runs before the acknowledgement: what it raises makes the broker deliver again."""
        prefix = f"{self._base}/cmd/"
        if not delivery.topic.startswith(prefix) or (delivery.retain and not delivery.payload):
            return  # an empty retained payload takes a retained command back
        correlation = delivery.correlation if len(delivery.correlation) <= _LONGEST_CORRELATION else b""
        origin = Origin(
            OriginKind.MQTT,
            who="mqtt",
            retained=delivery.retain,
            reply_topic=self._reply_topic(delivery.response_topic),
            correlation=correlation,
        )
        self._handle(delivery.payload, origin, delivery.topic.removeprefix(prefix))

    def _reply_topic(self, wished: str) -> str:
        """Where the reply goes: where it was wished, beneath our own `rsp`, for a command must not make us
        publish anywhere else."""
        usual = f"{self._base}/rsp"
        beneath = wished.startswith(f"{usual}/") and len(wished) <= _LONGEST_TOPIC
        return wished if beneath and _PLAIN_TOPIC.fullmatch(wished) else usual

    # -- up: state, outbox, progress --------------------------------------------------------------------------

    def _begin_pass(self) -> None:
        """Go through everything that the broker must have, from the beginning."""
        self._forget_acknowledged()
        self._position = 0
        self._retry_at = None
        if not self._subscribed:
            self._broker.subscribe(f"{self._base}/cmd/+")
            self._asked_at = self._clock.monotonic()
        self._queue.append(self._state(online=True))
        self._queue.append(self._about())

    def _tell(self) -> None:
        now = self._clock.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            self._begin_pass()
        if now >= self._look_at_state_at:
            self._look_at_state_at = now + _STATE_LOOK_S
            if self._clock_state() != self._told_clock:
                self._queue.append(self._state(online=True))
            if encoded(self._info()) != self._told_info:
                self._queue.append(self._about())
        self._send_queue()
        self._send_rows()
        latest = {**self._board.values("progress"), **self._board.values("fetch")}
        for message in self._progress.due(latest, self._clock):
            self._broker.publish(message)

    def _send_queue(self) -> None:
        while self._queue and self._room() > 0:
            self._send(self._queue.popleft())

    def _send_rows(self) -> None:
        under_way = {sent.row_id for sent in self._in_flight.values()}
        room = self._room()
        rows = self._store.outbox_batch(self._position, room) if room > 0 else []
        if len(self._acknowledged) + len(self._in_flight) + len(rows) > _WINDOW:
            self._forget_acknowledged()
        for row in rows:
            self._position = row.id
            if row.id in under_way:
                continue
            message = Message(row.topic, row.payload, row.retain, row.correlation)
            if message.packet_size > self._limits.max_packet_size and self._is_reply(row.topic):
                self._send_shorter(row)
            else:
                self._send(message, row.id)
        everything_arrived = not rows and not self._in_flight and not self._queue
        if everything_arrived and self._retry_at is None and self._subscribed:
            self._board.drop(REFUSED_ALARM)
            if self._refusals_told:
                self._refusals_told.clear()
                _log.info("the broker refuses nothing any more")

    def _send(self, message: Message, row_id: int | None = None) -> None:
        if message.packet_size > self._limits.max_packet_size:
            self._refused(message.topic, PACKET_TOO_LARGE)
            return
        mid = self._broker.publish(message)
        self._in_flight[mid] = _Sent(message.topic, row_id, self._clock.monotonic())

    def _is_reply(self, topic: str) -> bool:
        return topic == f"{self._base}/rsp" or topic.startswith(f"{self._base}/rsp/")

    def _send_shorter(self, row: OutboxRow) -> None:
        """A reply that the broker can never take: say so in its place."""
        limit = self._limits.max_packet_size
        message = f"the reply has {len(row.payload)} octets, the broker takes packets of {limit}"
        reply = Reply(json.loads(row.payload)["cmd_id"], ReplyStatus.FAILED, Code.E_STATE, message)
        self._store.send_reply(reply, row.topic, row.correlation)
        self._store.outbox_delete(row.id)

    def _room(self) -> int:
        return min(_WINDOW, self._limits.receive_maximum) - len(self._in_flight)

    def _refused(self, topic: str, reason: int) -> None:
        """The row stays, those after it go on, and all are tried again after a while. Logged once for each topic
        until the broker takes everything."""
        if self._retry_at is None:
            self._retry_at = self._clock.monotonic() + _REFUSED_RETRY_S
        message = f"the broker refuses {topic}: {reason_text(reason)}"
        if message not in self._refusals_told and len(self._refusals_told) < _TOLD_LIMIT:
            self._refusals_told.add(message)
            _log.warning("%s", message)
        at = time_text(self._clock.now())
        self._board.post(REFUSED_ALARM, {"topic": topic, "reason": reason, "message": message, "at": at})

    def _look_at_outbox(self) -> None:
        """Raise or end the alarm, whether the broker is there or not."""
        consequence = ""
        if self._store.outbox_full():
            consequence = "new campaigns are refused, running ones wait"
        elif self._store.outbox_busy():
            consequence = "new campaigns are refused"
        if consequence == self._outbox_consequence:
            return
        self._outbox_consequence = consequence
        if not consequence:
            self._store.end_alarm(AlarmKind.OUTBOX)
            return
        used, limit = self._store.outbox_bytes(), self._outbox_limit_bytes
        self._store.raise_alarm(
            AlarmKind.OUTBOX, f"{used} of {limit} octets wait for the broker: {consequence}"
        )

    def _about(self) -> Message:
        self._told_info = encoded(self._info())
        return Message(f"{self._base}/info", self._told_info, retain=True)

    def _state(self, *, online: bool) -> Message:
        self._told_clock = self._clock_state()
        document: Document = {
            "v": VERSION,
            "online": online,
            "session": self._session,
            "ts": time_text(self._clock.now()),
            "clock": self._told_clock,
        }
        return Message(f"{self._base}/state", encoded(document), retain=True)
