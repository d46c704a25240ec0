"""From octets to a checked envelope. Pure: what time it is, is an argument.

JSON is taken strictly (gateway/strict_json.py). Everything else that arrives is refused with SchemaError, never another
exception.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.control.schema import check_envelope
from gateway.errors import ExpiredError, SchemaError, VerbError
from gateway.store.commands import LONGEST_LIFE
from gateway.strict_json import read_json

COMMAND_LIMIT_BYTES = 64 * 1024
SKEW = timedelta(minutes=5)
"""How far a sender's clock may be ahead of ours."""

_VERB = re.compile(r"[a-z][a-z._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A command whose outside is right; `args` are not looked at yet."""

    cmd_id: str
    verb: str
    issued: datetime
    expires: datetime
    args: Mapping[str, Any]
    body_sha256: str
    """Over verb and content; white space and the order of names do not matter."""


def read_document(raw: bytes) -> Any:
    """The JSON value in `raw`. Raises SchemaError."""
    return read_json(raw, "command", limit_bytes=COMMAND_LIMIT_BYTES)


def cmd_id_of(document: Any) -> str | None:
    """The id to answer to, of a document that may be wrong otherwise; None where there is none."""
    found = document.get("cmd_id") if isinstance(document, dict) else None
    try:
        check_envelope({**_ANY_ENVELOPE, "cmd_id": found})
    except SchemaError:
        return None
    return str(found)


def read_envelope(document: Any, verb: str | None) -> Envelope:
    """The envelope of a document; `verb`: as it stood in the topic, or None. Raises SchemaError, and
    VerbError for what cannot be a verb."""
    check_envelope(document)
    named = document.get("verb")
    if verb is None and named is None:
        raise SchemaError("verb: missing")
    if verb is not None and named not in (None, verb):
        raise SchemaError(f"verb: found {named!r}, the topic says {verb[:64]!r}")
    verb = str(verb or named)
    if not _VERB.fullmatch(verb):
        raise VerbError(f"{verb[:64]!r} is no verb")
    issued, expires = _moment(document, "issued"), _moment(document, "expires")
    if not issued < expires or expires - issued > LONGEST_LIFE:
        raise SchemaError(f"expires: expected later than `issued`, by at most {LONGEST_LIFE.days} days")
    content = json.dumps({**document, "verb": verb}, sort_keys=True).encode()
    return Envelope(
        cmd_id=document["cmd_id"],
        verb=verb,
        issued=issued,
        expires=expires,
        args=document.get("args", {}),
        body_sha256=hashlib.sha256(content).hexdigest(),
    )


def check_age(envelope: Envelope, now: datetime) -> None:
    """Raises ExpiredError, and SchemaError for a command from the future."""
    if envelope.expires <= now:
        raise ExpiredError(f"the command expired at {envelope.expires:%Y-%m-%dT%H:%M:%SZ}")
    if envelope.issued > now + SKEW:
        raise SchemaError(
            f"issued: {envelope.issued:%Y-%m-%dT%H:%M:%SZ} lies in the future of this gateway's clock"
        )


_ANY_ENVELOPE = {
    "v": 1,
    "cmd_id": "00000000-0000-0000-0000-000000000000",
    "issued": "2026-01-01T00:00:00Z",
    "expires": "2026-01-02T00:00:00Z",
}


def _moment(document: Mapping[str, Any], name: str) -> datetime:
    try:
        return datetime.fromisoformat(document[name])
    except ValueError as error:
        raise SchemaError(f"{name}: {error}") from None
