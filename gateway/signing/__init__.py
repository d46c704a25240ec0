"""Signatures of operators and utilities: DSSE envelopes, and the keys that sign and check them. Pure.

`dsse` (the envelope, and who signed it), `keys` (Ed25519 and ECDSA P-256). What is signed, and what follows from it,
is not known here.
"""

from gateway.signing.dsse import (
    SIGNATURES_LIMIT,
    Envelope,
    Signature,
    envelope_document,
    is_envelope,
    read_envelope,
    sign,
    signers,
)
from gateway.signing.keys import (
    KeyKind,
    PrivateKey,
    generate,
    key_id,
    key_label,
    read_private_key,
    read_public_key,
)

__all__ = [
    "SIGNATURES_LIMIT", "Envelope", "KeyKind", "PrivateKey", "Signature", "envelope_document", "generate",
    "is_envelope", "key_id", "key_label", "read_envelope", "read_private_key", "read_public_key", "sign", "signers",
]  # fmt: skip
