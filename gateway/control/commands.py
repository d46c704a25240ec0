"""One command in, one reply out, wherever it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.control.audit import RejectionLog
from gateway.control.envelope import Envelope, check_age, cmd_id_of, read_document, read_envelope
from gateway.control.schema import check_args
from gateway.control.signed import needs_signature, open_signed, signed_cmd_id
from gateway.control.verbs import VERBS, Verb, Verbs, over_mqtt
from gateway.errors import (
    AuthError,
    BusyError,
    ClockError,
    CommandError,
    GatewayError,
    SchemaError,
    StoreError,
    VerbError,
)
from gateway.model import Command, Config, Reply, ReplyStatus
from gateway.signing import is_envelope
from gateway.store import Store
from gateway.store.commands import failed
from gateway.store.documents import Document
from gateway.supply.images import ImageStore

UNSYNCED = "unsynced"


class OriginKind(Enum):
    MQTT = "mqtt"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a command came from, and where its replies go."""

    kind: OriginKind
    who: str
    """For the audit: "mqtt", or "uid 1000 (pid 4711)"."""
    uid: int | None = None
    """Of a process of this machine, as the kernel says it."""
    retained: bool = False
    reply_topic: str = ""
    """Absolute; of commands over MQTT."""
    correlation: bytes = b""


class Controller:
    """Takes commands from any thread. `info` is what the gateway says of itself."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        images: ImageStore,
        board: Board,
        clock: Clock,
        version: str,
        clock_state: Callable[[], str],
        reload: Callable[[], None],
    ) -> None:
        """`clock_state` says "synced", "unsynced", or "unchecked" where nobody wants to know. `reload` tells whoever
        reads the configuration that an errand for it is in the Store."""
        self._store = store
        self._clock = clock
        self._clock_state = clock_state
        self._log = RejectionLog(clock)
        self._verbs = Verbs(
            config,
            store=store,
            images=images,
            board=board,
            clock=clock,
            version=version,
            reload=reload,
            clock_trusted=self._clock_is_trusted,
        )

    def use(self, config: Config) -> None:
        """From the next command on. When this returns, what was ordered for meters of the old one is in the Store."""
        self._verbs.use(config)

    def stop_untrusted(self) -> None:
        """At start and after `use`: open campaigns with an image that would not be believed now are stopped. Raises
        StoreError."""
        self._verbs.stop_untrusted()

    def _clock_is_trusted(self) -> bool:
        return self._clock_state() != UNSYNCED

    def info(self) -> Document:
        """Versions, verbs, ports and limits."""
        return self._verbs.info()

    def look(self, verb: str, args: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The data of a verb that only looks, for whoever shows it in this process. Raises GatewayError."""
        assert not VERBS[verb].changes
        now = self._clock.now()
        command = Command("", verb, args or {}, issued=now, expires=now, body_sha256="", who="")
        return VERBS[verb].act(self._verbs, command, None).data

    def tidy(self) -> None:
        """What is to be done now and then. Called by whoever serves the control socket."""
        self._verbs.traces.expire()

    def handle(
        self, raw: bytes, origin: Origin, verb: str | None = None, descriptor: int | None = None
    ) -> Reply:
        """Do what `raw` orders, or refuse it; durable when this returns.

        Over MQTT every reply, whatever it says, is in the outbox when this returns: the caller only acknowledges
        the message. Over the socket the caller sends it; a reply that says "accepted" to a read is followed by
        another one in the Store (`Store.reply_of`).

        `verb`: from the topic. `descriptor`: the file that came along; it stays the caller's. Raises nothing but
        StoreError: nothing is durable, do not acknowledge.
        """
        try:
            document = read_document(raw)
        except SchemaError as error:
            return self._refuse(None, error, origin)
        cmd_id = signed_cmd_id(document) if is_envelope(document) else cmd_id_of(document)
        try:
            if origin.retained:
                raise SchemaError(
                    "a retained command is never done: publish commands without the retain flag"
                )
            envelope, origin = self._opened(document, origin, verb)
            known = self._store.stored_reply(envelope.cmd_id, envelope.body_sha256)
        except StoreError:
            raise
        except GatewayError as error:
            return self._refuse(cmd_id, error, origin)
        if known is not None:
            return self._send(known, origin)
        return self._handle_new(envelope, origin, descriptor)

    def _opened(self, document: Any, origin: Origin, verb: str | None) -> tuple[Envelope, Origin]:
        """The command, and who gave it, with the operators that signed it. One that should be signed and is not is
        never remembered: whoever can publish could use up the ids of others. Raises SchemaError, VerbError and
        AuthError."""
        config = self._verbs.config
        if is_envelope(document):
            signed = open_signed(document, config.commands, gateway_id=config.gateway.id, verb=verb)
            origin = replace(origin, who=f"{origin.who}, signed by {signed.signed_by}")
            return read_envelope(signed.command, verb), origin
        envelope = read_envelope(document, verb)
        if origin.kind is OriginKind.MQTT and needs_signature(envelope.verb, config.commands):
            raise AuthError(f"{envelope.verb} over MQTT must be signed by an operator (signed_verbs)")
        return envelope, origin

    def _handle_new(self, envelope: Envelope, origin: Origin, descriptor: int | None) -> Reply:
        command = _command(envelope, origin)
        remember = origin.kind is OriginKind.MQTT
        try:
            verb = self._allowed(envelope, origin)
            remember = remember or verb.changes
            check_args(verb.name, envelope.args)
            reply = verb.act(self._verbs, command, descriptor)
        except StoreError:
            raise
        except GatewayError as error:
            reply = failed(command.cmd_id, error, ReplyStatus.REJECTED)
            self._log.rejected(verb=envelope.verb, cmd_id=command.cmd_id, who=origin.who, error=error)
        # A read over the socket costs the disk nothing, and is answered afresh each time. What was accepted was stored
        # by its verb, and may have ended since: who asked hears of both, in order.
        if not remember or reply.status is ReplyStatus.ACCEPTED:
            return reply
        try:
            return self._store.record(command, reply)
        except CommandError as error:
            return self._refuse(command.cmd_id, error, origin)

    def _allowed(self, envelope: Envelope, origin: Origin) -> Verb:
        """The verb, if it may be done now and from there. Raises VerbError, SchemaError, AuthError, ClockError,
        BusyError, ExpiredError."""
        name = envelope.verb
        verb = VERBS.get(name)
        if verb is None:
            raise VerbError(f"there is no verb {name!r}")
        config = self._verbs.config
        if origin.kind is OriginKind.MQTT and not over_mqtt(name, config):
            raise AuthError(f"{name} is not allowed over MQTT")
        if verb.changes and origin.kind is OriginKind.MQTT and not self._clock_is_trusted():
            raise ClockError(
                f"{name} over MQTT needs a synchronised clock: how old the command is, cannot be told"
            )
        if origin.kind is OriginKind.MQTT and not verb.changes and self._store.outbox_full():
            raise BusyError("too many messages wait for the broker")
        if self._clock_is_trusted():
            check_age(envelope, self._clock.now())
        return verb

    def _refuse(self, cmd_id: str | None, error: GatewayError, origin: Origin) -> Reply:
        """Refuse what cannot be stored: it has no id, or that of another command."""
        self._log.rejected(verb="", cmd_id=cmd_id, who=origin.who, error=error)
        return self._send(failed(cmd_id, error, ReplyStatus.REJECTED), origin)

    def _send(self, reply: Reply, origin: Origin) -> Reply:
        if origin.reply_topic:
            self._store.send_reply(reply, origin.reply_topic, origin.correlation)
        return reply


def _command(envelope: Envelope, origin: Origin) -> Command:
    return Command(
        cmd_id=envelope.cmd_id,
        verb=envelope.verb,
        args=envelope.args,
        issued=envelope.issued,
        expires=envelope.expires,
        body_sha256=envelope.body_sha256,
        who=origin.who,
        uid=origin.uid,
        reply_topic=origin.reply_topic,
        correlation=origin.correlation,
    )
