"""Orders with an operator's signature: a DSSE envelope over gateway id, verb and command, in place of the command.

The signature is over which gateway, which verb and which command, its id and its times included: at another gateway, or
under another topic, it is worth nothing, and the same order again is answered from what is stored, like any other,
until it has expired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gateway.control.envelope import COMMAND_LIMIT_BYTES, cmd_id_of, read_document
from gateway.errors import AuthError, SchemaError
from gateway.model import CommandSettings
from gateway.signing import Envelope, PrivateKey, envelope_document, key_label, read_envelope, sign, signers

COMMAND_TYPE = "application/vnd.meter-gateway.command+json"
"""The payloadType of its envelope."""


@dataclass(frozen=True, slots=True)
class SignedCommand:
    """What was in the envelope, and whose it is."""

    command: Any
    signed_by: str
    """For the audit: each key, as `key_label` has it."""


def sign_command(
    gateway_id: str, verb: str, command: Mapping[str, Any], keys: Iterable[PrivateKey]
) -> dict[str, Any]:
    """What to publish in place of `command`. Raises SchemaError: it would be too big."""
    content = {"gateway": gateway_id, "verb": verb, "command": command}
    payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    document = envelope_document(sign(Envelope(COMMAND_TYPE, payload), keys))
    if len(json.dumps(document, separators=(",", ":"))) > COMMAND_LIMIT_BYTES:
        raise SchemaError(f"signed, this command would have more than {COMMAND_LIMIT_BYTES} octets")
    return document


def needs_signature(verb: str, settings: CommandSettings) -> bool:
    """Whether [commands] signed_verbs has it: then it comes over MQTT signed or not at all."""
    return any(fnmatchcase(verb, pattern) for pattern in settings.signed_verbs)


def open_signed(
    document: Any, settings: CommandSettings, *, gateway_id: str, verb: str | None
) -> SignedCommand:
    """The command in an envelope, if operators signed it for this gateway and `verb` (from the topic; None: it says
    so itself). Raises AuthError, and SchemaError for what is no envelope, or holds no command."""
    envelope = read_envelope(document, "envelope")
    if envelope.payload_type != COMMAND_TYPE:
        raise AuthError(f"the envelope holds {envelope.payload_type[:80]!r}, expected {COMMAND_TYPE!r}")
    found = signers(envelope, settings.trusted_keys)
    if len(found) < settings.threshold or not found:
        raise AuthError(
            f"the command is signed by {len(found)} of the trusted keys, expected {settings.threshold} different ones"
        )
    content = read_document(envelope.payload)
    if not isinstance(content, dict) or content.keys() != {"gateway", "verb", "command"}:
        raise SchemaError("payload: expected an object with gateway, verb and command")
    if content["gateway"] != gateway_id:
        raise AuthError(
            f"the command was signed for gateway {_shown(content['gateway'])}, this is {gateway_id!r}"
        )
    command = content["command"]
    named = command.get("verb", content["verb"]) if isinstance(command, dict) else content["verb"]
    if not named == content["verb"] == (content["verb"] if verb is None else verb):
        raise AuthError(
            f"the command was signed for verb {_shown(content['verb'])}, and stands under another one"
        )
    if isinstance(command, dict):
        command = {**command, "verb": content["verb"]}
    return SignedCommand(command, ", ".join(key_label(key.name, key.spki) for key in found))


def signed_cmd_id(document: Any) -> str | None:
    """The id to answer to, of an envelope that nobody believes; None where it cannot be read."""
    try:
        content = read_document(read_envelope(document, "envelope").payload)
    except SchemaError:
        return None
    return cmd_id_of(content.get("command")) if isinstance(content, dict) else None


def _shown(value: Any) -> str:
    return repr(value)[:80]
