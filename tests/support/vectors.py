"""The golden vectors of tests/vectors, as frozen records (tests/vectors/README.md says what they are)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent.parent / "vectors"


@dataclass(frozen=True, slots=True)
class Vector:
    """One vector: octets and what a decoder must find in them."""

    file: str
    """The file it stands in, without suffix: "hdlc", "services" ..."""
    id: str
    kind: str
    """hdlc-frame, hdlc-stream, hdlc-address, hdlc-parameters, wrapper, optical, apdu, axdr-data or raw."""
    what: str
    octets: bytes
    fields: Mapping[str, Any]
    """What a decoder must find; empty for most negatives."""
    keys: Mapping[str, str]
    """Key material, titles and passwords: hex text as it stands in the file."""
    valid: bool
    wrong: str
    """Why it is a negative; empty where it is valid."""
    source: str
    origin: str
    """capture, published, generated or derived."""

    def __str__(self) -> str:
        return self.id


@cache
def all_vectors() -> tuple[Vector, ...]:
    """Every vector of every file, in the order of the files' names."""
    return tuple(
        Vector(
            file=path.stem,
            id=entry["id"],
            kind=entry["kind"],
            what=entry["what"],
            octets=bytes.fromhex(entry["hex"]),
            fields=entry.get("fields", {}),
            keys=entry.get("keys", {}),
            valid=entry["valid"],
            wrong=entry.get("wrong", ""),
            source=entry["source"],
            origin=entry["origin"],
        )
        for path in sorted(_DIRECTORY.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["vector"]
    )


def vectors(*, file: str | None = None, kind: str | None = None, valid: bool | None = None) -> list[Vector]:
    """The vectors of one file, kind and validity; None: of any."""
    return [
        vector
        for vector in all_vectors()
        if (file is None or vector.file == file)
        and (kind is None or vector.kind == kind)
        and (valid is None or vector.valid == valid)
    ]


def vector(vector_id: str) -> Vector:
    """The one vector of that id."""
    return next(found for found in all_vectors() if found.id == vector_id)
