"""DSSE v1 envelopes (secure-systems-lab/dsse, protocol.md and envelope.md 1.0.2).

A signature is over the Pre-Authentication Encoding of the payload's type and the payload's octets, as they are: nothing
is canonicalised, and nothing of the payload is parsed before it is known who signed it. Key ids are hints: each
signature is tried with each trusted key, and what counts is how many different keys fit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import SchemaError
from gateway.model import TrustedKey
from gateway.signing.keys import PrivateKey, verify

SIGNATURES_LIMIT = 16
"""In one envelope: with as many trusted keys, 256 verifications at most."""
_CMS_LIMIT_BYTES = 24 * 1024
"""A signature, and certificates up to the root."""
_SIGNATURE_LIMIT_BYTES = 128
_KEY_ID_LIMIT = 256
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True, slots=True)
class Signature:
    octets: bytes
    key_id: str = ""
    """What the signer calls its key. Not authenticated; for people."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Octets, what they are, and signatures that nobody has checked yet."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()
    cms: bytes = b""
    """A detached CMS signature (RFC 5652) over the payload's octets alone, in DER; not of DSSE, which lets an envelope
    have further fields."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-Authentication Encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def is_envelope(document: Any) -> bool:
    """Whether a JSON document means to be an envelope, right or wrong."""
    return isinstance(document, dict) and "payloadType" in document


def read_envelope(document: Any, what: str) -> Envelope:
    """The envelope of a JSON document; `what` names it in complaints. Fields that are not known are ignored, as DSSE
    wants. Raises SchemaError."""
    if not isinstance(document, dict):
        raise SchemaError(f"{what}: found no object, expected a DSSE envelope")
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or len(signatures) > SIGNATURES_LIMIT:
        raise SchemaError(f"{what}.signatures: expected a list of at most {SIGNATURES_LIMIT} signatures")
    return Envelope(
        payload_type=_text(document, "payloadType", what),
        payload=_octets(document, "payload", what),
        signatures=tuple(
            _read_signature(signature, f"{what}.signatures.{place}")
            for place, signature in enumerate(signatures)
        ),
        cms=_octets(document, "cms", what, limit_bytes=_CMS_LIMIT_BYTES) if "cms" in document else b"",
    )


def envelope_document(envelope: Envelope) -> dict[str, Any]:
    """The JSON document of an envelope."""
    document: dict[str, Any] = {
        "payloadType": envelope.payload_type,
        "payload": base64.b64encode(envelope.payload).decode(),
        "signatures": [
            {"keyid": signature.key_id, "sig": base64.b64encode(signature.octets).decode()}
            for signature in envelope.signatures
        ],
    }
    return {**document, "cms": base64.b64encode(envelope.cms).decode()} if envelope.cms else document


def sign(envelope: Envelope, keys: Iterable[PrivateKey]) -> Envelope:
    """The envelope with a signature of each key, in place of its earlier one. Raises SchemaError: too many."""
    message = pae(envelope.payload_type, envelope.payload)
    made = {key.key_id: Signature(key.sign(message), key.key_id) for key in keys}
    kept = tuple(signature for signature in envelope.signatures if signature.key_id not in made)
    if len(kept) + len(made) > SIGNATURES_LIMIT:
        raise SchemaError(f"signatures: an envelope has at most {SIGNATURES_LIMIT}")
    return replace(envelope, signatures=(*kept, *made.values()))


def signers(envelope: Envelope, trusted: Sequence[TrustedKey]) -> tuple[TrustedKey, ...]:
    """Those trusted keys that signed this envelope, each once, however often it signed and whatever it calls itself."""
    message = pae(envelope.payload_type, envelope.payload)
    different = {key.spki: key for key in trusted}
    return tuple(
        key
        for key in different.values()
        if any(verify(key.spki, signature.octets, message) for signature in envelope.signatures)
    )


def _read_signature(document: Any, what: str) -> Signature:
    if not isinstance(document, dict):
        raise SchemaError(f"{what}: expected an object")
    key_id = document.get("keyid") or ""
    if not isinstance(key_id, str) or len(key_id) > _KEY_ID_LIMIT:
        raise SchemaError(f"{what}.keyid: expected a text of at most {_KEY_ID_LIMIT} characters")
    return Signature(_octets(document, "sig", what, limit_bytes=_SIGNATURE_LIMIT_BYTES), key_id)


def _text(document: Mapping[str, Any], name: str, what: str) -> str:
    found = document.get(name)
    if not isinstance(found, str):
        raise SchemaError(f"{what}.{name}: expected a text")
    return found


def _octets(document: Mapping[str, Any], name: str, what: str, *, limit_bytes: int | None = None) -> bytes:
    """Standard or URL-safe base64, but not both in one."""
    text = _text(document, name, what)
    if not _BASE64.fullmatch(text):
        raise SchemaError(f"{what}.{name}: expected base64")
    try:
        octets = base64.b64decode(text.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except binascii.Error:
        raise SchemaError(f"{what}.{name}: expected base64") from None
    if limit_bytes is not None and len(octets) > limit_bytes:
        raise SchemaError(f"{what}.{name}: expected at most {limit_bytes} octets, found {len(octets)}")
    return octets
