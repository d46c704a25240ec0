"""What of a manifest is believed: who signed it, and whether it may be used here and now.

Pure but for the openssl command of CMS signatures. Nothing of a manifest's content counts before its signatures do, so
nothing that is not signed can raise a floor or spend anything else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.errors import (
    DigestError,
    PolicyError,
    SchemaError,
    SignatureError,
    SizeError,
    UncheckedError,
)
from gateway.model import FirmwareSettings, Manifest, Profile, Trust
from gateway.signing import Envelope, key_label, signers
from gateway.supply.cms import cms_signers
from gateway.supply.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_TYPE, read_manifest


@dataclass(frozen=True, slots=True)
class Proof:
    """A manifest, and who stands for it."""

    manifest: Manifest
    signed_by: tuple[str, ...] = ()
    """Each different key, as `key_label` has it. Empty where signatures are not looked at."""


def prove(envelope: Envelope, settings: FirmwareSettings, now: datetime, *, clock_trusted: bool) -> Proof:
    """The manifest in `envelope`, if it is signed as [firmware] wants; trust = "digest" looks at no signature.

    Raises SignatureError, UncheckedError where a signature that it needs cannot be looked at, and SchemaError for a
    payload that is no manifest.
    """
    if envelope.payload_type != MANIFEST_TYPE:
        raise SignatureError(f"the envelope holds {envelope.payload_type[:80]!r}, expected {MANIFEST_TYPE!r}")
    if len(envelope.payload) > MANIFEST_LIMIT_BYTES:
        raise SchemaError(
            f"a manifest has at most {MANIFEST_LIMIT_BYTES} octets, this one {len(envelope.payload)}"
        )
    signed_by: tuple[str, ...] = ()
    if settings.trust is Trust.SIGNED:
        signed_by = _signed_by(envelope, settings, now if clock_trusted else None)
    return Proof(read_manifest(envelope.payload), signed_by)


def check_image(manifest: Manifest, sha256: str, size: int | None) -> None:
    """Raises DigestError and SizeError unless the manifest is of this image; "" and None: not said."""
    if sha256 not in ("", manifest.sha256):
        raise DigestError(f"the manifest is of image {manifest.sha256}, found {sha256}")
    if size not in (None, manifest.size):
        raise SizeError(f"the manifest says {manifest.size} octets, found {size}")


def check_policy(
    proof: Proof, profiles: Collection[str], floors: Mapping[str, int], now: datetime, *, clock_trusted: bool
) -> None:
    """Raises PolicyError unless the image may be put now into meters of these profiles. `floors`: the highest sequence
    that was accepted for each profile; they bind those who sign, so without signatures they are not looked at."""
    manifest = proof.manifest
    others = sorted(set(profiles) - set(manifest.profiles))
    if others:
        raise PolicyError(
            f"the manifest is for profiles {', '.join(manifest.profiles)}, ordered is also {', '.join(others)}"
        )
    if clock_trusted and manifest.not_after is not None and now >= manifest.not_after:
        raise PolicyError(f"the manifest was good until {manifest.not_after:%Y-%m-%dT%H:%M:%SZ}")
    if manifest.rollback or not proof.signed_by:
        return
    for profile in sorted(profiles):
        if manifest.sequence < floors.get(profile, 0):
            raise PolicyError(
                f"the manifest has sequence {manifest.sequence}, but {floors[profile]} was accepted before for profile"
                f" {profile}: only a manifest that says rollback goes back"
            )


def what_it_means(settings: FirmwareSettings, profiles: Collection[Profile]) -> str:
    """What an operator should know of how firmware is trusted here, as a sentence; empty where all is well."""
    if settings.trust is Trust.DIGEST:
        return (
            '[firmware] trust = "digest": whoever may order an update decides what firmware is right; signatures are'
            " not looked at"
        )
    if not settings.trusted_keys and not settings.trusted_root:
        return "[firmware] names neither trusted_keys nor trusted_root: every image is refused"
    unmatched = ", ".join(sorted(profile.name for profile in profiles if profile.match is None))
    if unmatched:
        return (
            f"profiles without `match`: {unmatched}; that their meters are of the model that an image was signed for is"
            " only what the configuration says"
        )
    return ""


def _signed_by(envelope: Envelope, settings: FirmwareSettings, at: datetime | None) -> tuple[str, ...]:
    if not settings.trusted_keys and not settings.trusted_root:
        raise SignatureError(
            "[firmware] names neither trusted_keys nor trusted_root: no signature can be believed"
        )
    names = {key.spki: key.name for key in signers(envelope, settings.trusted_keys)}
    why = ""
    if len(names) < settings.threshold and envelope.cms and settings.trusted_root:
        try:
            found = cms_signers(envelope.cms, envelope.payload, settings.trusted_root, at=at)
            names |= {signer.spki: signer.name for signer in found if signer.spki not in names}
        except UncheckedError:
            raise
        except SignatureError as error:
            why = f"; {error.message}"
    if len(names) < settings.threshold:
        raise SignatureError(
            f"the manifest is signed by {len(names)} of the trusted keys, expected {settings.threshold} different"
            f" ones{why}"
        )
    return tuple(key_label(name, spki) for spki, name in names.items())
