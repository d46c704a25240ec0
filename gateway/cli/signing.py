"""Keys and signatures: `image keygen`, `image sign`, and what `--manifest` and `--sign-with` bring along.

`image keygen` and `image sign` need no daemon and no configuration: they belong on a machine without a network.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.completion import PROFILES
from gateway.cli.order_options import read_moment
from gateway.cli.root import Desk, local_options
from gateway.cli.text import say_json
from gateway.durable import replace_durably
from gateway.errors import DiskError, SchemaError

if TYPE_CHECKING:
    from gateway.model import Manifest
    from gateway.signing import Envelope, PrivateKey

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_SUFFIX = ".manifest"

passphrase_option = click.option(
    "--passphrase-file",
    type=_FILE,
    metavar="FILE",
    help="Its first line locks the key; without it, a locked key asks at the terminal.",
)

manifest_option = click.option(
    "--manifest",
    type=_FILE,
    callback=lambda _context, _option, path: None if path is None else read_manifest_file(path),
    metavar="FILE",
    help="The signed manifest of the image, from `image sign`.",
)
"""Gives a ManifestFile or None."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """What `--manifest` names."""

    envelope: dict[str, Any]
    """As it goes along with a command."""
    manifest: Manifest


# -- keygen ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("name", type=_NEW_FILE)
@click.option(
    "--type", "kind", type=click.Choice(["ed25519", "p256"]), default="ed25519", help="Default: ed25519."
)
@click.option("--lock", is_flag=True, help="Ask for a passphrase that the key cannot be used without.")
@passphrase_option
@local_options
@click.pass_obj
def keygen(desk: Desk, /, name: Path, kind: str, lock: bool, passphrase_file: Path | None) -> None:
    """Make a key: NAME.key, which signs and stays where it is, and NAME.pem, which gateways trust.

    Neither is ever overwritten.
    """
    from gateway.signing import KeyKind, generate

    passphrase = _first_line(passphrase_file) if passphrase_file else b""
    if lock and not passphrase_file:
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True).encode()
    key = generate(KeyKind(kind))
    private, public = Path(f"{name}.key"), Path(f"{name}.pem")
    _write_new(private, key.pem(passphrase), mode=0o600)
    try:
        _write_new(public, key.public_pem(), mode=0o644)
    except (click.UsageError, DiskError):
        private.unlink()  # it is ours, and nobody trusts it
        raise
    if desk.as_json:
        say_json({"private": str(private), "public": str(public), "key_id": key.key_id})
    else:
        click.echo(f"{private}  signs; keep it offline{'' if passphrase else ', it is not locked'}")
        click.echo(f"{public}  for trusted_keys, id {key.key_id[:16]}")


# -- sign -----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("image", type=_FILE, required=False)
@click.option("--key", "keys", type=_FILE, multiple=True, metavar="FILE", help="Signs; may be repeated.")
@click.option("--version", "version", help="What a meter reports that runs the image.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    shell_complete=PROFILES,
    help="A meter model that it is for; may be repeated.",
)
@click.option(
    "--sequence", type=click.IntRange(0), help="Rises with each release; gateways never go back behind it."
)
@click.option("--identifier", help="What meters are told the image is called, text or hex:...")
@click.option(
    "--from-version",
    "from_versions",
    multiple=True,
    metavar="GLOB",
    help="A version that it may replace, e.g. '4.0.*'; may be repeated. Default: any.",
)
@click.option("--rollback", is_flag=True, help="Meant to go back: its sequence may be lower.")
@click.option(
    "--not-after",
    callback=read_moment,
    metavar="TIME",
    help="Not to be used from then on, e.g. 2027-06-30T00:00:00Z.",
)
@click.option(
    "--add", "manifest", type=_FILE, metavar="FILE", help="Instead of IMAGE: sign this manifest as well."
)
@click.option(
    "--cms", type=_FILE, metavar="FILE", help="Put this detached CMS signature (DER) into the manifest."
)
@click.option(
    "--payload",
    type=_NEW_FILE,
    metavar="FILE",
    help="Write the octets that a CMS signature is over, to be signed by other tools.",
)
@click.option("--out", type=_NEW_FILE, metavar="FILE", help=f"Default: IMAGE{_SUFFIX}, or the file of --add.")
@passphrase_option
@local_options
@click.pass_obj
def sign(
    desk: Desk,
    /,
    *,
    image: Path | None,
    keys: tuple[Path, ...],
    manifest: Path | None,
    cms: Path | None,
    payload: Path | None,
    out: Path | None,
    passphrase_file: Path | None,
    **said: Any,
) -> None:
    """Say what IMAGE is for, and sign it; or add a signature to a manifest that is there."""
    from dataclasses import replace

    from gateway.signing import sign as signed_by

    if (image is None) is (manifest is None):
        raise click.UsageError("Name IMAGE, or --add a signature to a manifest.")
    if not (keys or cms or payload):
        raise click.UsageError("Nothing signs it: name --key or --cms, or a file for --payload.")
    envelope = _described(image, said) if image else _present(manifest, said)
    signing = [read_key(path, passphrase_file) for path in keys]
    envelope = signed_by(envelope, signing)
    if cms:
        envelope = replace(envelope, cms=cms.read_bytes())
    if payload:
        _write_new(payload, envelope.payload, mode=0o644)
    target = out or manifest or Path(f"{image}{_SUFFIX}")
    _write_envelope(target, envelope, replaces=target == manifest)
    _tell(desk, target, envelope)


def _described(image: Path, said: dict[str, Any]) -> Envelope:
    from gateway.identifiers import identifier_octets
    from gateway.model import Manifest
    from gateway.signing import Envelope
    from gateway.supply.manifest import MANIFEST_TYPE, blocks_of, write_manifest

    missing = [
        f"--{name.rstrip('s')}" for name in ("version", "profiles", "sequence") if said[name] in (None, ())
    ]
    if missing:
        raise click.UsageError(f"A manifest needs {', '.join(missing)}.")
    try:
        identifier = identifier_octets(said["identifier"] or "")
    except ValueError as error:
        raise click.UsageError(f"--identifier: {error}") from None
    with image.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    block_bytes, blocks = blocks_of(image)
    manifest = Manifest(
        sha256=digest,
        size=image.stat().st_size,
        version=said["version"],
        profiles=said["profiles"],
        sequence=said["sequence"],
        identifier=identifier,
        from_versions=said["from_versions"],
        rollback=said["rollback"],
        not_after=datetime.fromisoformat(said["not_after"]) if said["not_after"] else None,
        block_bytes=block_bytes,
        block_sha256=blocks,
    )
    return Envelope(MANIFEST_TYPE, write_manifest(manifest))


def _present(path: Path | None, said: dict[str, Any]) -> Envelope:
    assert path is not None
    if any(value not in (None, (), False) for value in said.values()):
        raise click.UsageError("--add signs a manifest as it is: what it says cannot be changed.")
    envelope, _ = _read(path)
    return envelope


def _tell(desk: Desk, target: Path, envelope: Envelope) -> None:
    from gateway.identifiers import identifier_text
    from gateway.supply.manifest import read_manifest

    manifest = read_manifest(envelope.payload)
    if desk.as_json:
        say_json({
            "manifest": str(target),
            "sha256": manifest.sha256,
            "size": manifest.size,
            "version": manifest.version,
            "profiles": list(manifest.profiles),
            "sequence": manifest.sequence,
            "identifier": identifier_text(manifest.identifier) if manifest.identifier else None,
            "signatures": [signature.key_id for signature in envelope.signatures],
            "cms": bool(envelope.cms),
        })  # fmt: skip
        return
    signatures = [f"key {signature.key_id[:16]}" for signature in envelope.signatures]
    signatures += ["CMS"] if envelope.cms else []
    click.echo(
        f"{target}: version {manifest.version} for {', '.join(manifest.profiles)}, sequence {manifest.sequence};"
        f" signed by {', '.join(signatures) or 'nobody yet'}"
    )


# -- what others need -----------------------------------------------------------------------------------------


def read_manifest_file(path: Path) -> ManifestFile:
    """Raises SchemaError unless the file is a manifest in its envelope; who signed it is the gateway's business."""
    from gateway.signing import envelope_document

    envelope, manifest = _read(path)
    return ManifestFile(envelope_document(envelope), manifest)


def read_key(path: Path, passphrase_file: Path | None = None) -> PrivateKey:
    """The private key in a file that nobody else may read. Raises click.UsageError, in words."""
    from gateway.signing import read_private_key

    if path.stat().st_mode & 0o077:
        raise click.UsageError(f"{path} can be read by others: chmod 600 {path}")
    pem = path.read_bytes()
    passphrase = _first_line(passphrase_file) if passphrase_file else b""
    if not passphrase and b"ENCRYPTED" in pem and sys.stdin.isatty():
        passphrase = click.prompt(f"Passphrase of {path.name}", hide_input=True).encode()
    try:
        return read_private_key(pem, passphrase if b"ENCRYPTED" in pem else b"")
    except ValueError as error:
        raise click.UsageError(f"{path} cannot be used to sign: {error}") from None


def _read(path: Path) -> tuple[Envelope, Manifest]:
    from gateway.supply.manifest import MANIFEST_TYPE, envelope_of, read_manifest

    try:
        envelope = envelope_of(path.read_bytes())
        if envelope.payload_type != MANIFEST_TYPE:
            raise SchemaError(f"it holds {envelope.payload_type[:80]!r}, expected {MANIFEST_TYPE!r}")
        return envelope, read_manifest(envelope.payload)
    except SchemaError as error:
        raise SchemaError(f"{path} is no manifest: {error.message}") from None


def _first_line(path: Path) -> bytes:
    line = path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise click.UsageError(f"{path} begins with an empty line, expected a passphrase")
    return line


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    """A file that was not there, with these rights from its first moment, durable; none where it finds no room."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise click.UsageError(f"{path} is there already, and is not overwritten.") from None
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error


def _write_envelope(path: Path, envelope: Envelope, *, replaces: bool) -> None:
    from gateway.supply.manifest import envelope_text

    content = f"{envelope_text(envelope)}\n".encode()
    if not replaces:
        _write_new(path, content, mode=0o644)
        return
    try:
        replace_durably(path, content)
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}") from error
