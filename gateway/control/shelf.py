"""The images that are here, as orders see them: `image.add`, `image.fetch`, `image.list`, `image.delete`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.control.orders import check_source
from gateway.control.provenance import Judge, Provenance
from gateway.errors import DiskError, SchemaError, StateError
from gateway.model import Command, Config, Errand, Reply, ReplyStatus
from gateway.store import Store
from gateway.store.commands import SUPPLIER_ERRANDS
from gateway.store.documents import Document, time_text
from gateway.supply.images import ImageStore
from gateway.supply.manifest import envelope_of, read_manifest
from gateway.supply.room import Holding

_CHUNK_BYTES = 256 * 1024


class Shelf:
    """Each method does one verb; where it raises, nothing was changed."""

    def __init__(self, store: Store, images: ImageStore) -> None:
        self._store = store
        self._images = images

    def add(self, command: Command, descriptor: int, judge: Judge) -> Reply:
        """Store the file behind `descriptor`. Raises SchemaError, SignatureError, SizeError, DigestError, DiskError."""
        source = judge.of_file(command.args)
        image = self._images.add(
            _chunks(descriptor),
            expect_sha256=source.sha256(command.args.get("sha256", "")),
            expect_size=source.size(_size(command)),
        )
        if source.envelope:
            self._store.keep_manifest(image.sha256, source.envelope)
        return _done(command, {"sha256": image.sha256, "size": image.size, **_signed(source)})

    def fetch(self, command: Command, config: Config, judge: Judge) -> Reply:
        """Have the supplier fetch an image that no campaign wants yet; answered again when it is here. Raises
        SchemaError, SignatureError, SizeError, DigestError, PolicyError, BusyError."""
        args = command.args
        source = judge.of_file(args)
        size = source.size(_size(command))
        check_source(args["url"], size, config)
        if source.envelope:
            self._store.keep_manifest(args["sha256"], source.envelope)
        wanted = {"sha256": args["sha256"], "url": args["url"], **({"size": size} if size else {})}
        return self._store.add_errand(
            command, Errand(command.cmd_id, command.verb, SUPPLIER_ERRANDS, "", wanted)
        )

    def list(self, command: Command) -> Reply:
        """Images and parts of images, each with the open campaigns that need it. Raises DiskError."""
        needed = self._store.needed_images()
        holdings = self._images.holdings()
        data = {
            "images": [self._document(one, needed.get(one.sha256, ())) for one in holdings],
            "quota": self._images.quota_bytes,
            "used": sum(one.octets for one in holdings),
        }
        return _done(command, data)

    def delete(self, command: Command) -> Reply:
        """Raises NotFoundError, StateError (an open campaign needs it), BusyError (it is being received)."""
        sha256 = command.args["sha256"]
        if campaigns := self._store.needed_images().get(sha256):
            raise StateError(f"campaign {', '.join(campaigns)} needs the image {sha256}")
        self._images.remove(sha256)
        return _done(command, {"sha256": sha256})

    def _document(self, holding: Holding, needed_by: Sequence[str]) -> Document:
        envelope = self._store.manifest_of_image(holding.sha256)
        return {
            "sha256": holding.sha256,
            "size": holding.size,
            "here": holding.here,
            "complete": holding.complete,
            "used_at": time_text(datetime.fromtimestamp(holding.used_at, UTC)),
            "needed_by": list(needed_by),
            "manifest": _said(envelope) if envelope else None,
        }


def _said(envelope: str) -> Document:
    """What the manifest says. Whether its signatures count, is judged at each order."""
    manifest = read_manifest(envelope_of(envelope).payload)
    return {
        "version": manifest.version,
        "sequence": manifest.sequence,
        "profiles": list(manifest.profiles),
        "not_after": time_text(manifest.not_after),
    }


def _signed(source: Provenance) -> Document:
    if source.proof is None:
        return {"manifest": None}
    manifest = source.proof.manifest
    return {
        "manifest": {
            "version": manifest.version,
            "sequence": manifest.sequence,
            "signed_by": list(source.proof.signed_by),
        }
    }


def _size(command: Command) -> int | None:
    return int(command.args["size"]) if "size" in command.args else None


def _done(command: Command, data: dict[str, Any]) -> Reply:
    return Reply(command.cmd_id, ReplyStatus.DONE, data=data)


def _chunks(descriptor: int) -> Iterator[bytes]:
    """The bytes of a regular file from its beginning; others (pipes, devices) could keep us waiting for ever."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SchemaError("image.add: expected the descriptor of a regular file")
        offset = 0
        while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
            offset += len(chunk)
            yield chunk
    except OSError as error:
        raise DiskError(
            f"the file cannot be read: {error.strerror}", detail=f"errno {error.errno}"
        ) from error
