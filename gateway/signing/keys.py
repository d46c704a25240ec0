"""Ed25519 (RFC 8032) and ECDSA over NIST P-256 with SHA-256 (FIPS 186-5): keys in PEM, signatures made and checked.

Of the library for it only what is needed is imported, where it is needed: it takes 60 ms on a PC.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_RAW_P256_BYTES = 64


class KeyKind(StrEnum):
    ED25519 = "ed25519"
    P256 = "p256"


class PrivateKey:
    """Signs. Raises ValueError for a key of another kind."""

    def __init__(self, key: object) -> None:
        self._key = _known_private(key)
        self.key_id = key_id(self._spki())

    def sign(self, message: bytes) -> bytes:
        """64 octets with Ed25519; DER (r, s) with P-256."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(message)

    def pem(self, passphrase: bytes = b"") -> bytes:
        """PKCS #8, locked where there is a passphrase."""
        from cryptography.hazmat.primitives import serialization as s

        lock = s.BestAvailableEncryption(passphrase) if passphrase else s.NoEncryption()
        return self._key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, lock)

    def public_pem(self) -> bytes:
        """What goes into `trusted_keys`."""
        from cryptography.hazmat.primitives import serialization as s

        return self._key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)

    def _spki(self) -> bytes:
        from cryptography.hazmat.primitives import serialization as s

        return self._key.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)


def generate(kind: KeyKind) -> PrivateKey:
    """A new key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    match kind:
        case KeyKind.ED25519:
            return PrivateKey(ed25519.Ed25519PrivateKey.generate())
        case KeyKind.P256:
            return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def read_private_key(pem: bytes, passphrase: bytes = b"") -> PrivateKey:
    """Raises ValueError, in words: no key in PEM, locked and no passphrase or a wrong one, or of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return PrivateKey(load_pem_private_key(pem, passphrase or None))
    except TypeError:
        reason = "it is locked by a passphrase" if not passphrase else "it is not locked by a passphrase"
        raise ValueError(reason) from None
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def read_public_key(pem: bytes) -> bytes:
    """The SubjectPublicKeyInfo (RFC 5280) in DER of a public key in PEM: equal for equal keys, whatever the file looks
    like. Raises ValueError unless it is an Ed25519 or P-256 key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as s

    try:
        key = _known_public(s.load_pem_public_key(pem))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    return key.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)


def key_id(spki: bytes) -> str:
    """What a key is called: the SHA-256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(spki).hexdigest()


def key_label(name: str, spki: bytes) -> str:
    """A key as people are told of it: a name, and how its id begins."""
    return f"{name} ({key_id(spki)[:16]})"


def verify(spki: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key made that signature over `message`. Of P-256 either form is taken: DER, as openssl writes it, or
    r and s of 32 octets each, as in the example of the DSSE specification."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = _known_public(load_der_public_key(spki))
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message)
            return True
        if len(signature) == _RAW_P256_BYTES:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            signature = utils.encode_dss_signature(r, s)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _known_private(key: object) -> EllipticCurvePrivateKey | Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    match key:
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise ValueError("it is neither an Ed25519 nor a P-256 key")


def _known_public(key: object) -> EllipticCurvePublicKey | Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    match key:
        case ed25519.Ed25519PublicKey():
            return key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case _:
            raise ValueError("it is neither an Ed25519 nor a P-256 key")
