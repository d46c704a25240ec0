"""The images that a gateway keeps: `image add`, `ls`, `show` and `rm`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import click

from gateway.cli.bars import bar
from gateway.cli.client import Document, GatewayClient
from gateway.cli.completion import DIGESTS, FILES, SHOWN_DIGITS
from gateway.cli.groups import Group
from gateway.cli.order_options import given
from gateway.cli.root import Desk, InterruptedWatchError, shared_options
from gateway.cli.serve import serve
from gateway.cli.signing import ManifestFile, keygen, manifest_option, sign
from gateway.cli.text import safe, say_json, table
from gateway.errors import NotFoundError
from gateway.words import moment

_DIGITS = re.compile(r"[0-9a-f]{1,64}")
_URL = re.compile(r"[a-z]+:", re.IGNORECASE)
_FETCH_TIMEOUT_S = 7 * 86_400.0
"""The gateway gives up long before."""
_HEAD = ("IMAGE", "SIZE", "HERE", "VERSION", "LAST USED", "NEEDED BY")


def hand_over(client: GatewayClient, file: Path, manifest: ManifestFile | None) -> Document:
    """The daemon reads the file itself, from our descriptor: it needs no right to the path."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        opened.seek(0)
        args = {"sha256": digest, **envelope_of(manifest)}
        data: Document = client.ask("image.add", args, file=opened.fileno())["data"]
    return data


def envelope_of(manifest: ManifestFile | None) -> Document:
    """As arguments of a command have it."""
    return {"manifest": manifest.envelope} if manifest else {}


@click.group(cls=Group)
def image() -> None:
    """Images that the gateway keeps."""


image.add_command(serve)
image.add_command(keygen)
image.add_command(sign)


# -- add ------------------------------------------------------------------------------------------------------


@image.command("add")
@click.argument("source", metavar="FILE|URL", shell_complete=FILES)
@click.option("--sha256", help="Of an image that is fetched: its digest, where no manifest says it.")
@click.option(
    "--size", type=click.IntRange(min=1), help="Of an image that is fetched: its bytes, where known."
)
@manifest_option
@shared_options
@click.pass_obj
def add(
    desk: Desk, /, source: str, sha256: str | None, size: int | None, manifest: ManifestFile | None
) -> None:
    """Hand FILE over to the gateway, or have it fetch the image at URL; and print its SHA-256."""
    if _URL.match(source) and not Path(source).exists():
        data = _fetch(desk, source, sha256, size, manifest)
    else:
        if sha256 or size:
            raise click.UsageError("--sha256 and --size are for images that are fetched: FILE says it itself")
        with desk.connect() as client:
            data = hand_over(client, _readable(source), manifest)
    if desk.as_json:
        say_json(data)
        return
    click.echo(f"{data['sha256']}  {data['size']} bytes")
    if signed := data.get("manifest"):
        by = ", ".join(signed["signed_by"]) or "nobody was asked for"
        click.echo(f"version {signed['version']}, signed by {safe(by)}")


def _readable(name: str) -> Path:
    kind = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
    file: Path = kind.convert(name, None, click.get_current_context())
    return file


def _fetch(
    desk: Desk, url: str, sha256: str | None, size: int | None, manifest: ManifestFile | None
) -> Document:
    digest = sha256 or (manifest and manifest.manifest.sha256)
    if not digest:
        raise click.UsageError(
            "an image that is fetched needs --sha256 or --manifest: what comes is held against it"
        )
    args = {"sha256": digest, "url": url, **given({"size": size}), **envelope_of(manifest)}
    try:
        watched = bar(desk, f"fetch {digest[:SHOWN_DIGITS]}", lambda other: _looked(other, digest))
        with desk.connect() as client, watched:
            data: Document = client.await_done("image.fetch", args, timeout_s=_FETCH_TIMEOUT_S)["data"]
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer waiting; the daemon goes on with the fetch to its end"
        ) from None
    return data


def _looked(client: GatewayClient, sha256: str) -> tuple[int, int | None, str] | None:
    listed = client.ask("image.list")["data"]["images"]
    return next(((one["here"], one["size"], _here(one)) for one in listed if one["sha256"] == sha256), None)


# -- look and remove ------------------------------------------------------------------------------------------


_digest_argument = click.argument("digest", metavar="SHA256", shell_complete=DIGESTS)


@image.command("ls")
@shared_options
@click.pass_obj
def ls(desk: Desk) -> None:
    """All images, whole or in part, with what needs them."""
    with desk.connect() as client:
        data = client.ask("image.list")["data"]
    if desk.as_json:
        say_json(data)
        return
    rows = [
        (
            one["sha256"][:SHOWN_DIGITS],
            one["size"] or "?",
            "whole" if one["complete"] else one["here"],
            one["manifest"]["version"] if one["manifest"] else "",
            moment(one["used_at"]),
            ", ".join(one["needed_by"]),
        )
        for one in data["images"]
    ]
    click.echo(table(rows, head=_HEAD) or "there is no image here")
    click.echo(f"{data['used']} of {data['quota']} bytes are used")


@image.command("show")
@_digest_argument
@shared_options
@click.pass_obj
def show(desk: Desk, /, digest: str) -> None:
    """One image: SHA256 may be the first digits, as `image ls` shows them."""
    with desk.connect() as client:
        one = _named(client, digest)
    if desk.as_json:
        say_json(one)
        return
    manifest: dict[str, Any] = one["manifest"] or {}
    rows = [
        ("sha256", one["sha256"]),
        ("here", _here(one)),
        ("last used", moment(one["used_at"])),
        ("needed by", ", ".join(one["needed_by"]) or "no open campaign"),
        ("version", manifest.get("version", "no manifest says it")),
    ]
    if manifest:
        rows += [
            ("profiles", ", ".join(manifest["profiles"])),
            ("sequence", manifest["sequence"]),
            ("good until", moment(manifest["not_after"]) if manifest["not_after"] else "no end"),
        ]
    click.echo(table(rows))


@image.command("rm")
@_digest_argument
@shared_options
@click.pass_obj
def rm(desk: Desk, /, digest: str) -> None:
    """Forget an image that no open campaign needs: SHA256 may be its first digits."""
    with desk.connect() as client:
        data = client.ask("image.delete", {"sha256": _named(client, digest)["sha256"]})["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(f"image {data['sha256']} is removed")


def _named(client: GatewayClient, digest: str) -> Document:
    """The one image whose digest begins so. Raises NotFoundError; click.UsageError where there are several."""
    begun = digest.lower()
    if not _DIGITS.fullmatch(begun):
        raise click.UsageError(f"{digest!r}: expected hex digits of a SHA-256")
    listed = client.ask("image.list")["data"]["images"]
    found: list[Document] = [one for one in listed if one["sha256"].startswith(begun)]
    if not found:
        raise NotFoundError(f"no image {digest} is here")
    if len(found) > 1:
        raise click.UsageError(f"{digest}: {len(found)} images begin so, expected more digits")
    return found[0]


def _here(one: Document) -> str:
    if one["complete"]:
        return f"whole, {one['size']} bytes"
    return f"{one['here']} of {one['size'] or 'unknown'} bytes"
