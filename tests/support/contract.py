"""Every message of every test is held against the contract that is published, wherever it passes: at the outbox, at the
brokers, and where a head-end hears it. A message on a topic that the contract does not know is none of it either.

What does not hold is noted and fails the test at its end: raised at once it would look like a bug of whoever sent it,
in whatever thread that was.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import pytest
from jsonschema import Draft7Validator, ValidationError

from docs.tools._contract import REFERENCE, channel_of, components
from gateway.control import Controller, OriginKind
from gateway.control.signed import open_signed
from gateway.control.verbs import VERBS
from gateway.errors import GatewayError
from gateway.model import ReplyStatus
from gateway.signing import is_envelope
from gateway.store import Store
from gateway.store.documents import Document, reply_document
from gateway.uplink.broker import Message
from gateway.uplink.paho_broker import PahoBroker

broken: list[str] = []
"""What was told in this test, or still in the one before, that is not by the contract."""
held = 0
"""How many messages were looked at."""

anybody: WeakSet[object] = WeakSet()
"""Brokers by which a test says what it likes, as whoever can reach one."""

_EMPTIED = {"campaign", "job", "alarm"}
"""Channels whose retained message is taken back by an empty one."""
_sound: set[tuple[str, int]] = set()
"""What was found to be good: thousands of messages of a simulation differ from others in their numbers alone."""
_DIGITS = bytes.maketrans(b"0123456789", b"1111111111")


@functools.cache
def validator(name: str) -> Draft7Validator:
    """Of one component of the published document."""
    return Draft7Validator({"$ref": REFERENCE + name, "components": {"schemas": components()}})


def hold_message(topic: str, payload: bytes, *, retain: bool = False, qos: int = 1, verb: str = "") -> None:
    """Note what is wrong with a message; `topic` without `{root}/{gateway}/`. `verb`: of the command that a reply is
    to, where it is known."""
    global held  # noqa: PLW0603
    held += 1
    channel = channel_of(topic)
    if channel is None:
        broken.append(f"{topic}: no such topic in the contract")
        return
    if (qos, retain) != (channel.qos, channel.retain):
        broken.append(f"{topic}: QoS {qos}, retain {retain}, expected {channel.qos}, {channel.retain}")
    if not channel.message or (not payload and channel.name in _EMPTIED):
        return
    _hold(f"{channel.message}.{verb}" if verb else channel.message, payload, topic)


def hold_document(name: str, document: Document, where: str) -> None:
    _hold(name, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), where)


def _hold(name: str, payload: bytes, where: str) -> None:
    # A number of as many digits is as good as another, but for 0 and what is negative.
    shape = payload.replace(b":0,", b":zero,").replace(b":0}", b":zero}").translate(_DIGITS)
    if (name, hash(shape)) in _sound:
        return
    try:
        validator(name).validate(json.loads(payload))
    except (ValidationError, ValueError) as error:
        broken.append(
            f"{where}: {getattr(error, 'message', error)} in {payload[:2000].decode(errors='replace')}"
        )
    else:
        _sound.add((name, hash(shape)))


@contextlib.contextmanager
def forgiven() -> Iterator[None]:
    """Where a test plays a gateway that keeps to no contract."""
    known = len(broken)
    yield
    del broken[known:]


# -- where messages pass --------------------------------------------------------------------------------------


def watch_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, in this process."""
    from support.head_end import HeadEnd
    from support.sim_broker import SimBroker
    from support.sim_hub import SimClient

    _around(monkeypatch, Store, "_send", _outbox)
    _around(monkeypatch, Controller, "handle", _handled)
    for broker in (PahoBroker, SimBroker, SimClient):
        _around(monkeypatch, broker, "publish", _published)
        _around(monkeypatch, broker, "connect", _will)
    _around(monkeypatch, HeadEnd, "_hear", _heard)


def _around(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, look: Callable[..., None]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(self: Any, *given: Any, **named: Any) -> Any:
        result = inner(self, *given, **named)
        look(self, result, *given, **named)
        return result

    monkeypatch.setattr(owner, name, outer)


def _outbox(
    store: Any, _: Any, database: Any, topic: str, document: Any, *, retain: bool = False, **__: Any
) -> None:
    beneath = _of_a_gateway(topic) or topic
    verb = ""
    if beneath.startswith("rsp"):
        row = database.execute("SELECT verb FROM commands WHERE cmd_id = ?", (document["cmd_id"],)).fetchone()
        verb = row["verb"] if row and row["verb"] in VERBS else ""
    payload = (
        b"" if document is None else json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    )
    hold_message(beneath, payload, retain=retain, verb=verb)


def _published(broker: Any, _: Any, message: Message) -> None:
    beneath = _of_a_gateway(message.topic)
    if broker in anybody:
        return
    if beneath is not None and not beneath.startswith(
        "cmd/"
    ):  # what a gateway takes is looked at in `_handled`
        hold_message(beneath, message.payload, retain=message.retain, qos=message.qos)


def _will(broker: Any, _: Any, will: Message | None = None) -> None:
    if will is not None:
        _published(broker, None, will)


def _heard(head_end: Any, _: Any, heard: Any) -> None:
    beneath = _of_a_gateway(heard.topic)
    if beneath is not None and not beneath.startswith("cmd/"):  # tests order what they like
        verb = head_end.verb_of(heard)
        verb = verb if verb in VERBS else ""
        hold_message(beneath, heard.payload, retain=heard.retain, qos=heard.qos, verb=verb)


def _handled(controller: Any, reply: Any, raw: bytes, origin: Any, *given: Any, **named: Any) -> None:
    """What the gateway does, the contract must have as a command, and its answer as a reply to it."""
    verb = next(iter(given), named.get("verb"))
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return
    if is_envelope(document):
        try:
            config = controller._verbs.config
            document = open_signed(document, config.commands, gateway_id=config.gateway.id, verb=verb).command
        except GatewayError:
            return
    name = str(verb or document.get("verb")) if isinstance(document, dict) else ""
    if name not in VERBS:
        return
    answer = reply_document(reply)
    hold_document(f"reply.{name}", json.loads(json.dumps(answer)), f"reply to {name} ({origin.kind})")
    if reply.status in (ReplyStatus.ACCEPTED, ReplyStatus.DONE) and origin.kind in OriginKind:
        hold_document(f"command.{name}", document, f"command {name}")


def _of_a_gateway(topic: str) -> str | None:
    """The part of a gateway's topic that the contract has; None for what tests of the shim publish."""
    root, found, rest = topic.partition("mgw/v1/")
    return rest.partition("/")[2] if found and not root else None
