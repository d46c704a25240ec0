"""What is asked of the gateway, what it answers, and what waits for the broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.errors import Code


class ReplyStatus(StrEnum):
    ACCEPTED = "accepted"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Command:
    """A checked command envelope with what is needed to answer it later."""

    cmd_id: str
    verb: str
    args: Mapping[str, Any]
    issued: datetime
    expires: datetime
    body_sha256: str
    """Over verb and envelope as received: tells a repetition from a conflict."""
    who: str
    """Who asked: "mqtt", or "uid 1000 (pid 4711)"."""
    uid: int | None = None
    """Of the process that asked over the control socket, as the kernel says it; None: nobody here."""
    reply_topic: str = ""
    """Absolute MQTT topic for the replies; empty: asked over the control socket."""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    cmd_id: str | None
    status: ReplyStatus
    code: Code | None = None
    message: str = ""
    retryable: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Errand:
    """What somebody waits for: a read, done by the worker of the port before the next block, or the gateway's own
    (`port` is "")."""

    cmd_id: str
    verb: str
    port: str
    meter_id: str
    args: Mapping[str, Any]
    who: str = ""
    """Who asked, as in `Command`."""
    local: bool = False
    """Asked at this machine and not over the broker: it may try a meter that is parked."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that must reach the broker, in order of `id`."""

    id: int
    topic: str
    """Absolute."""
    payload: bytes
    retain: bool
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What an actor did, as a sentence, and when it wants to be called again: at a monotonic time (seconds),
    or None: when its bell rings."""

    sentence: str
    wake_at: float | None
