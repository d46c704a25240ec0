"""Manifests: what is said of an image, as octets that can be signed, and back.

The form is schemas/manifest.json. What is signed are the octets as they came; only when it is known who signed them are
they read, and then strictly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import SchemaError
from gateway.identifiers import identifier_octets, identifier_text
from gateway.model import Manifest
from gateway.signing import Envelope, envelope_document, read_envelope
from gateway.strict_json import hold, read_json
from gateway.supply.source import BlockDigests

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MANIFEST_TYPE = "application/vnd.meter-gateway.manifest+json"
"""The payloadType of its envelope."""
MANIFEST_LIMIT_BYTES = 32 * 1024
"""In base64, and that once more in a signed order, it has to fit into a command of 64 KiB."""
ENVELOPE_LIMIT_BYTES = 96 * 1024
"""With 16 signatures and a CMS signature with its certificates; more than a command takes."""

FIRST_BLOCK_BYTES = 16 * 1024
_MOST_BLOCKS = 256
"""More digests would not fit; blocks become larger instead."""


def read_manifest(payload: bytes) -> Manifest:
    """The manifest that these octets are. Raises SchemaError."""
    what = "manifest"
    document = read_json(payload, what, limit_bytes=MANIFEST_LIMIT_BYTES)
    hold(_validator(), document, what)
    blocks = tuple(document.get("block_sha256", ()))
    block_bytes = document.get("block_bytes", 0)
    if block_bytes and len(blocks) != -(-document["size"] // block_bytes):
        raise SchemaError(
            f"{what}.block_sha256: found {len(blocks)} digests, {document['size']} octets are"
            f" {-(-document['size'] // block_bytes)} blocks of {block_bytes}"
        )
    return Manifest(
        sha256=document["sha256"],
        size=document["size"],
        version=document["version"],
        profiles=tuple(document["profiles"]),
        sequence=document["sequence"],
        identifier=_identifier(document, what),
        from_versions=tuple(document.get("from_versions", ())),
        rollback=document.get("rollback", False),
        not_after=_moment(document, what),
        block_bytes=block_bytes,
        block_sha256=blocks,
    )


def write_manifest(manifest: Manifest) -> bytes:
    """Octets to be signed. Raises SchemaError where `read_manifest` would."""
    document: dict[str, Any] = {
        "v": 1,
        "sha256": manifest.sha256,
        "size": manifest.size,
        "version": manifest.version,
        "profiles": list(manifest.profiles),
        "sequence": manifest.sequence,
        "rollback": manifest.rollback,
        "from_versions": list(manifest.from_versions),
    }
    if manifest.identifier:
        document["identifier"] = identifier_text(manifest.identifier)
    if manifest.not_after:
        document["not_after"] = f"{manifest.not_after.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if manifest.block_bytes:
        document |= {"block_bytes": manifest.block_bytes, "block_sha256": list(manifest.block_sha256)}
    payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    read_manifest(payload)
    return payload


def blocks_of(image: Path) -> tuple[int, tuple[str, ...]]:
    """Octets in a block, and the digest of each, in numbers that fit a manifest. Raises OSError."""
    block_bytes = FIRST_BLOCK_BYTES
    while block_bytes * _MOST_BLOCKS < image.stat().st_size:
        block_bytes *= 2
    return block_bytes, tuple(hashlib.sha256(block).hexdigest() for block in _pieces(image, block_bytes))


def block_digests(envelope: str) -> BlockDigests | None:
    """What the manifest in an envelope that was believed before says of blocks, if anything."""
    manifest = read_manifest(envelope_of(envelope).payload)
    return BlockDigests(manifest.block_bytes, manifest.block_sha256) if manifest.block_bytes else None


def envelope_text(envelope: Envelope) -> str:
    """An envelope as it is kept: in a file, beside an image, with a campaign."""
    return json.dumps(envelope_document(envelope), separators=(",", ":"))


def envelope_of(text: str | bytes, what: str = "envelope") -> Envelope:
    """The envelope of a text, with a payload that nobody has looked at yet. Raises SchemaError."""
    raw = text.encode() if isinstance(text, str) else text
    return read_envelope(read_json(raw, what, limit_bytes=ENVELOPE_LIMIT_BYTES), what)


def _identifier(document: dict[str, Any], what: str) -> bytes:
    try:
        return identifier_octets(document.get("identifier", ""))
    except ValueError as error:
        raise SchemaError(f"{what}.identifier: {error}") from None


def _moment(document: dict[str, Any], what: str) -> datetime | None:
    text = document.get("not_after")
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        raise SchemaError(f"{what}.not_after: {text!r}: no such time") from None


def _pieces(path: Path, octets: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(octets):
            yield piece


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = files("gateway.supply").joinpath("schemas/manifest.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))
