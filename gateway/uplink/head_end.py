"""The other side of `uplink`: commands to gateways over a broker, their replies, and what gateways tell.

One connection serves any number of gateways. A command is sent again, word for word, whenever the connection was lost
meanwhile: the gateway knows it by its id, does it once, and answers again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from gateway.clock import Clock
from gateway.errors import SchemaError
from gateway.model import ReplyStatus
from gateway.strict_json import read_json
from gateway.uplink.broker import Broker, Delivery, Message
from gateway.uplink.connection import Connection, Down, Up

Document = dict[str, Any]

_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_DOCUMENT = 4 << 20
_TOPICS_LIMIT = 200_000
"""Of which the last payload is kept: ten thousand meters have one each, and progress."""
_STATUSES = {status.value for status in ReplyStatus}


@dataclass(slots=True)
class Question:
    """A command that is under way, and what came back so far."""

    gateway: str
    message: Message
    replies: list[Document] = field(default_factory=list)
    broker_said: int | None = None
    """Reason code of the acknowledgement; None: there was none yet. MQTT 3.1.1 says 0 to everything."""


class HeadEnd:
    """Driven by one thread: `step` exchanges with the broker, everything else only looks."""

    def __init__(
        self, broker: Broker, *, root: str, name: str, clock: Clock, random: Random | None = None
    ) -> None:
        """`name` is ours alone: replies come beneath it."""
        self.states: dict[str, Document] = {}
        """By gateway: what it says of its connection, or its Will says in its place."""
        self.told: dict[tuple[str, str], bytes] = {}
        """By gateway and topic beneath it: the last payload of everything else that is heard."""
        self.changed: set[tuple[str, str]] = set()
        """What of it came since somebody emptied this."""
        self.deliveries = 0
        self.failed_tries = 0
        """To connect, in a row, and why the last one failed."""
        self.trouble = ""
        self._root = root
        self._name = name
        self._connection = Connection(
            broker, [], qos=1, clock=clock, random=random, acknowledged=self._acknowledged
        )
        self._sessions: dict[str, object] = {}
        """Of gateways that were heard to be online on this connection: before it they may have come and gone."""
        self._heard: set[str] = set()
        self._questions: dict[str, Question] = {}
        """By cmd_id."""
        self._unacknowledged: dict[str, Question] = {}
        """By topic: a gateway is asked the same verb once at a time."""

    @property
    def up(self) -> bool:
        """Connected, and everything that was to be heard is heard."""
        return self._connection.settled

    def hear(self, gateway: str, *topics: str, qos: int = 0) -> None:
        """Subscribe to topics of one gateway, or "+" for all of them. What is retained there follows.

        What is retained comes again with each connection. Of what comes all at once a broker drops what is above its
        limit (mosquitto: 1000 messages), at QoS 1 counted for itself: that is for the few that may not be missed."""
        for topic in topics:
            self._hear(f"{self._root}/{gateway}/{topic}", qos=qos)

    def ask(self, gateway: str, verb: str, cmd_id: str, command: Document, *, expiry_s: int) -> Question:
        """Send a command, signed or not, on a connection that is up; `expiry_s`: so long the broker may keep it."""
        # Where MQTT 3.1.1 is spoken anywhere on the way, by a bridge too, no response topic arrives at the gateway:
        # everybody's replies come on one then.
        mine = f"rsp/{self._name}"
        for topic in (mine, "rsp"):
            self._hear(f"{self._root}/{gateway}/{topic}", qos=1)
        message = Message(
            f"{self._root}/{gateway}/cmd/{verb}",
            json.dumps(command, ensure_ascii=False, separators=(",", ":")).encode(),
            correlation=UUID(cmd_id).bytes,
            response_topic=f"{self._root}/{gateway}/{mine}",
            expiry_s=expiry_s,
        )
        question = self._questions[cmd_id] = self._unacknowledged[message.topic] = Question(gateway, message)
        self._connection.publish(message)
        return question

    def forget(self, cmd_id: str) -> None:
        """Nobody waits for more replies to it."""
        self._questions.pop(cmd_id, None)

    def step(self, timeout_s: float) -> list[str]:
        """Exchange with the broker for at most so long; news of the connection, for people."""
        news = []
        for change in self._connection.poll(timeout_s, self._deliver):
            match change:
                case Up():
                    self.failed_tries = 0
                    if self.trouble:
                        news.append("connected to the broker again")
                    self.trouble = ""
                    for question in self._questions.values():
                        self._connection.publish(question.message)
                case Down(reason):
                    self.failed_tries += 1
                    self._sessions.clear()
                    if reason != self.trouble:
                        news.append(f"no connection to the broker: {reason}")
                    self.trouble = reason
        return news

    def close(self) -> None:
        """Disconnect in order."""
        self._connection.close()

    def _hear(self, topic_filter: str, *, qos: int) -> None:
        if topic_filter not in self._heard:
            self._heard.add(topic_filter)
            self._connection.hear(topic_filter, qos=qos)

    # -- what comes -------------------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        gateway, _, topic = delivery.topic.removeprefix(f"{self._root}/").partition("/")
        if not _GATEWAY.fullmatch(gateway) or not topic:
            return
        self.deliveries += 1
        if topic == "rsp" or topic.startswith("rsp/"):
            self._take_reply(gateway, delivery)
        elif topic == "state":
            self._take_state(gateway, delivery.payload)
        elif not delivery.payload:
            self.told.pop((gateway, topic), None)
            self.changed.add((gateway, topic))
        elif (gateway, topic) in self.told or len(self.told) < _TOPICS_LIMIT:
            self.told[gateway, topic] = delivery.payload
            self.changed.add((gateway, topic))

    def _take_reply(self, gateway: str, delivery: Delivery) -> None:
        reply = document_of(delivery.payload)
        if reply.get("status") not in _STATUSES or not isinstance(reply.get("data"), dict):
            return
        cmd_id = reply.get("cmd_id")
        if cmd_id is None and len(delivery.correlation) == 16:  # the gateway could not read whose it was
            cmd_id = str(UUID(bytes=delivery.correlation))
        question = self._questions.get(cmd_id) if isinstance(cmd_id, str) else None
        if question is not None and question.gateway == gateway and reply not in question.replies:
            question.replies.append(reply)

    def _take_state(self, gateway: str, payload: bytes) -> None:
        """Unless it is the Will of an older connection than the one that is known to be there."""
        state = document_of(payload)
        if not isinstance(state.get("online"), bool):
            return
        if state["online"]:
            self._sessions[gateway] = state.get("session")
        elif self._sessions.get(gateway, state.get("session")) != state.get("session"):
            return
        self.states[gateway] = state
        self.changed.add((gateway, "state"))

    def _acknowledged(self, topic: str, reason: int) -> None:
        question = self._unacknowledged.pop(topic, None)
        if question is not None:
            question.broker_said = reason


def document_of(payload: bytes) -> Document:
    """The JSON object in `payload`; an empty one where there is none that can be read."""
    try:
        document = read_json(payload, "document", limit_bytes=_LONGEST_DOCUMENT)
    except SchemaError:
        return {}
    return document if isinstance(document, dict) else {}
