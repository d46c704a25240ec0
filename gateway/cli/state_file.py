"""An exported state as a file: a compressed tar with `state.json` and the images that its open campaigns want."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from gateway.clock import SystemClock
from gateway.daemon.machine import this_machine
from gateway.durable import sync_directory
from gateway.errors import DiskError, SchemaError, StateError
from gateway.model import Config
from gateway.store import Store, export
from gateway.store.binding import COUNTER_STEP
from gateway.store.documents import Document
from gateway.supply.images import ImageStore

_STATE = "state.json"
_IMAGES = "images/"


def write(config: Config, file: Path) -> Document:
    """Export the state to `file`, new or in the place of another; what is in it, in short. Raises GatewayError."""
    state_dir = config.gateway.state_dir
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as target:
            os.fchmod(target.fileno(), 0o600)
            with as_owner_of(state_dir):
                document = {"gateway": _base(config), **export.exported(state_dir)}
                missing = _pack(target, document, state_dir / "images")
            os.fsync(target.fileno())
        partial.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}", detail=f"errno {error.errno}") from error
    finally:
        partial.unlink(missing_ok=True)
    return {**_counts(document), "images_missing": sorted(missing)}


def read(config: Config, file: Path) -> Document:
    """Import the state in `file`; what was in it, in short, and where what was here went. Raises GatewayError."""
    state_dir = config.gateway.state_dir
    with _open(file) as archive, as_owner_of(state_dir):
        document = _state(archive)
        if document.get("gateway") != _base(config):
            theirs, ours = document.get("gateway"), _base(config)
            raise StateError(
                f"it is the state of {theirs!r}, this is {ours!r} (root and id in the configuration)"
            )

        def bring(wanted: frozenset[str]) -> frozenset[str]:
            return _unpack(archive, wanted, state_dir / "images", config.firmware.quota_bytes)

        done = export.imported(document, state_dir, bring=bring, now=datetime.now(UTC))
    aside = str(done.set_aside) if done.set_aside else None
    return {**_counts(document), "images_missing": sorted(done.missing), "set_aside": aside}


def adopt(config: Config, *, who: str) -> Document:
    """Bind the state to this machine; how many counters were raised by how much. Raises GatewayError."""
    with as_owner_of(config.gateway.state_dir), closing(_store(config)) as store:
        return {"counters": len(store.adopt(this_machine(), who=who)), "step": COUNTER_STEP}


@contextmanager
def as_owner_of(directory: Path) -> Iterator[None]:
    """Do as the daemon does, where root does its work: what is made belongs to whom it will have to open it."""
    owner = directory.stat() if directory.exists() else None
    if owner is None or os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _store(config: Config) -> Store:
    return Store(
        config.gateway.state_dir,
        gateway_id=config.gateway.id if config.mqtt else "",
        root=config.mqtt.root if config.mqtt else "",
        clock=SystemClock(),
    )


def _base(config: Config) -> str:
    """Where its messages go: the topics of what is in the outbox begin so."""
    return f"{config.mqtt.root}/{config.gateway.id}" if config.mqtt else ""


def _counts(document: Document) -> Document:
    tables = document["tables"]
    kinds = ("campaigns", "jobs", "events", "parked", "holds", "windows")
    numbers = {kind: len(document[kind]) for kind in ("counters", "floors")}
    return {kind: len(tables[kind]) for kind in kinds} | numbers


def _pack(target: BinaryIO, document: Document, images: Path) -> set[str]:
    """The digests of images that it should have and has not. An ImageStore is the daemon's alone, hence the files."""
    missing = set()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        _put(archive, _STATE, json.dumps(document, indent=1).encode())
        for sha256 in sorted(export.needed_images(document)):
            image = images / sha256
            content = image.read_bytes() if image.exists() else b""
            if hashlib.sha256(content).hexdigest() == sha256:
                _put(archive, _IMAGES + sha256, content)
            else:  # not fetched yet, or damaged
                missing.add(sha256)
    return missing


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o600
    archive.addfile(entry, io.BytesIO(content))


@contextmanager
def _open(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with file.open("rb") as source, closing(tarfile.open(fileobj=source, mode="r:gz")) as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise SchemaError(f"{file} is no whole exported state: {error}") from error
    except OSError as error:
        raise DiskError(f"{file}: {error}", detail=f"errno {error.errno}") from error


def _state(archive: tarfile.TarFile) -> Document:
    with suppress(KeyError, ValueError):
        document: Any = json.loads(_bytes(archive, _STATE))
        if isinstance(document, dict):
            return document
    raise SchemaError(f"no exported state: it has no {_STATE}")


def _unpack(
    archive: tarfile.TarFile, wanted: frozenset[str], directory: Path, quota_bytes: int
) -> frozenset[str]:
    """Store the images that are in it, by their digests; which of `wanted` are here then."""
    images = ImageStore(directory, quota_bytes, needed=lambda: wanted)
    for sha256 in sorted(wanted):
        with suppress(KeyError):
            images.add([_bytes(archive, _IMAGES + sha256)], expect_sha256=sha256)
    return frozenset(sha256 for sha256 in wanted if images.has(sha256))


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    """Raises KeyError where there is none."""
    content = archive.extractfile(name)
    if content is None:
        raise KeyError(name)
    return content.read()
