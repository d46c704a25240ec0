"""Utilities and operators that sign, and whoever would like to: with the `cryptography` library and by the words of the
specification, not with the gateway's own code."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.desk import IMAGE, SHA256

from gateway.model import TrustedKey

MANIFEST_TYPE = "application/vnd.meter-gateway.manifest+json"
COMMAND_TYPE = "application/vnd.meter-gateway.command+json"


@dataclass(frozen=True)
class Signatory:
    """Somebody with a key: Ed25519, or P-256."""

    name: str
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey = field(
        default_factory=ed25519.Ed25519PrivateKey.generate
    )

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self.key.sign(message)

    @property
    def trusted(self) -> TrustedKey:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return TrustedKey(
            f"{self.name}.pem", self.key.public_key().public_bytes(serialization.Encoding.DER, form)
        )

    def write(self, directory: Path) -> Path:
        """Its public key as a file."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        path = directory / f"{self.name}.pem"
        path.write_bytes(self.key.public_key().public_bytes(serialization.Encoding.PEM, form))
        return path


class Certified:
    """Somebody with a certificate that is its own root and for code signing, at any time of this program."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        self._certificate = (
            x509.CertificateBuilder(subject, subject, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2125, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def root(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def enveloped(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """With a detached CMS signature and no other."""
        octets = json.dumps(payload).encode()
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        builder = pkcs7.PKCS7SignatureBuilder(octets).add_signer(
            self._certificate, self._key, hashes.SHA256()
        )
        made = builder.sign(serialization.Encoding.DER, options)
        return {**enveloped(octets), "cms": base64.b64encode(made).decode()}


def p256(name: str) -> Signatory:
    return Signatory(name, ec.generate_private_key(ec.SECP256R1()))


def manifest(image: bytes = IMAGE, **changes: Any) -> dict[str, Any]:
    """A good one for `image`, but for `changes`; a change to None takes the field away."""
    whole = {
        "v": 1,
        "sha256": hashlib.sha256(image).hexdigest() if image is not IMAGE else SHA256,
        "size": len(image),
        "identifier": "X3-4.1.7",
        "version": "4.1.7",
        "profiles": ["acme-x3"],
        "sequence": 12,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def enveloped(
    payload: Mapping[str, Any] | bytes, *by: Signatory, kind: str = MANIFEST_TYPE
) -> dict[str, Any]:
    """A DSSE envelope, signed by all of them."""
    octets = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    message = b" ".join(
        [b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(octets)).encode(), octets]
    )
    return {
        "payloadType": kind,
        "payload": base64.b64encode(octets).decode(),
        "signatures": [
            {"keyid": signatory.name, "sig": base64.b64encode(signatory.sign(message)).decode()}
            for signatory in by
        ],
    }
