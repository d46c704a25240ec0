"""Why the image of an order is believed: its manifest, and what follows from it for the order."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.errors import (
    FirmwareError,
    PolicyError,
    SchemaError,
    SignatureError,
    StateError,
    UncheckedError,
)
from gateway.identifiers import identifier_octets, identifier_text
from gateway.model import Campaign, FirmwareSettings, IdentifierSource, Meter, Trust
from gateway.signing import read_envelope
from gateway.store import Store
from gateway.supply.manifest import envelope_of, envelope_text
from gateway.supply.trust import Proof, check_image, check_policy, prove

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judge:
    """What manifests are judged by at this moment."""

    firmware: FirmwareSettings
    store: Store
    now: datetime
    clock_trusted: bool

    def of_order(self, image: Mapping[str, Any]) -> Provenance:
        """Of the image that an order names: its own manifest, or the one that was kept with the image.

        Raises SchemaError, SignatureError, DigestError and SizeError.
        """
        sha256, size = image["sha256"], image.get("size")
        if "manifest" in image:
            text = envelope_text(read_envelope(image["manifest"], "args.image.manifest"))
        else:
            text = self.store.manifest_of_image(sha256) or ""
        return Provenance(text, self._proven(text, sha256, size)) if text else self._without_any()

    def of_file(self, args: Mapping[str, Any]) -> Provenance:
        """Of a file that is handed over, with what is said of it. Raises SchemaError, SignatureError, DigestError and
        SizeError."""
        if "manifest" not in args:
            return Provenance()
        text = envelope_text(read_envelope(args["manifest"], "args.manifest"))
        return Provenance(text, self._proven(text, args.get("sha256", ""), args.get("size")))

    def of_campaign(self, campaign: Campaign) -> Provenance:
        """Of an order that was accepted before, as its own manifest would be judged now. Raises what `of_order`
        raises."""
        text = self.store.manifest(campaign.manifest) if campaign.manifest else None
        if text is None:
            return self._without_any()
        return Provenance(text, self._proven(text, campaign.sha256, campaign.image_size))

    def check_again(self, campaign: Campaign, profiles: Collection[str]) -> None:
        """Whether an order that was accepted before would be taken now for meters of these profiles. Raises what
        `of_order` raises, and PolicyError."""
        proof = self.of_campaign(campaign).proof
        if proof:
            self.check(proof, profiles)

    def stop_untrusted(self) -> None:
        """Stop open campaigns whose image nobody who is trusted now stands for: at start, and when the configuration
        changed. Dates are not looked at again: that the time was right, was judged when they were accepted.

        Where nobody can look who signed, none is stopped: those that it may concern are held (`Store.unproven`)."""
        lenient = replace(self, clock_trusted=False)
        held: set[str] = set()
        for campaign in self.store.open_campaigns() if self.firmware.trust is Trust.SIGNED else ():
            try:
                lenient.of_campaign(campaign)
            except UncheckedError as error:
                log.error("campaign %s: %s. %s", campaign.id, error.message, error.advice)  # noqa: TRY400
                held.add(campaign.id)
                # Nobody waits for openssl a second time: it may hang.
                lenient = replace(lenient, firmware=replace(self.firmware, trusted_root=b""))
            except (FirmwareError, SchemaError) as error:
                if held:
                    held.add(campaign.id)
                    continue
                with suppress(StateError):  # it is being cancelled already
                    self.store.withdraw_campaign(campaign.id, error.code, error.message)
        self.store.hold_unproven(frozenset(held))

    def check(self, proof: Proof, profiles: Collection[str]) -> None:
        """Raises PolicyError unless the image may go into meters of these profiles now."""
        check_policy(proof, profiles, self.store.floors(), self.now, clock_trusted=self.clock_trusted)

    def _without_any(self) -> Provenance:
        if self.firmware.trust is Trust.SIGNED:
            raise SignatureError(
                'no manifest covers this image: [firmware] trust = "signed" wants a signed one'
            )
        return Provenance()

    def _proven(self, text: str, sha256: str, size: int | None) -> Proof:
        proof = self._prove(text)
        check_image(proof.manifest, sha256, size)
        return proof

    def _prove(self, text: str) -> Proof:
        return prove(envelope_of(text), self.firmware, self.now, clock_trusted=self.clock_trusted)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The manifest of an image, proven as far as it has to be; or none, where none is needed."""

    envelope: str = ""
    proof: Proof | None = None

    def fields(self) -> dict[str, Any]:
        """What of a Campaign comes from here alone."""
        if self.proof is None:
            return {}
        manifest = self.proof.manifest
        return {
            "signed_by": self.proof.signed_by,
            "profiles": manifest.profiles,
            "from_versions": manifest.from_versions,
        }

    def floors(self, meters: Sequence[Meter]) -> dict[str, int]:
        """What sequence floors rise to when the order for these meters is accepted; nothing unsigned raises one."""
        if self.proof is None or not self.proof.signed_by:
            return {}
        return {meter.profile.name: self.proof.manifest.sequence for meter in meters}

    def sha256(self, ordered: str) -> str:
        return self.proof.manifest.sha256 if self.proof else ordered

    def size(self, ordered: int | None) -> int | None:
        return self.proof.manifest.size if self.proof else ordered

    def expect_version(self, ordered: str | None) -> str:
        """The order's, else the manifest's."""
        return ordered or (self.proof.manifest.version if self.proof else "")

    @property
    def covered_until(self) -> datetime | None:
        return self.proof.manifest.not_after if self.proof else None

    def identifier(self, ordered: str | None, meters: Sequence[Meter]) -> bytes:
        """The order's or the manifest's, which must not differ; none where every profile knows it by itself. Raises
        SchemaError and PolicyError."""
        signed = self.proof.manifest.identifier if self.proof else b""
        if ordered is None:
            if not signed and any(meter.profile.identifier is IdentifierSource.GIVEN for meter in meters):
                raise SchemaError("args: found no 'identifier', expected one, since no manifest names it")
            return signed
        try:
            octets = identifier_octets(ordered)
        except ValueError as error:
            raise SchemaError(f"args.identifier: {error}") from None
        if signed and octets != signed:
            raise PolicyError(
                f"args.identifier: found {ordered!r}, the manifest says {identifier_text(signed)!r}"
            )
        return octets

    def check_firmware_object(self, ordered: str | None, meters: Sequence[Meter]) -> None:
        """Versions are compared with `from_versions` where the profile reads them, not where the order would like to:
        else whoever orders could choose an object that happens to fit. Raises PolicyError."""
        if self.proof is None or not self.proof.manifest.from_versions or not ordered:
            return
        if any(meter.profile.firmware_object != ordered for meter in meters):
            raise PolicyError(
                f"args.firmware_object: found {ordered}, but the manifest has from_versions: the profile says where"
                " versions are read"
            )
