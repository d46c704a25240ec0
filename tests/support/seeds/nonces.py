"""Every message that either side ever seals: no nonce may stand for two of them (NIST SP 800-38D, section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from gateway.simulator import association
from gateway.wire import security

_DEDICATED = frozenset({0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD7, 0xDC})
"""What begins an APDU under a dedicated key."""


class Nonces:
    """What was sealed under which key, title and counter."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self._sealed: dict[tuple[bytes, bytes], bytes] = {}
        self._checking = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts, all of this process is watched."""
        seal, proof, check = security.Protection.seal, security.gmac_proof, security.check_gmac_proof

        def watched_seal(
            self: security.Protection, apdu: bytes, counter: int, *, dedicated: bool | None = None
        ) -> bytes:
            sealed = seal(self, apdu, counter, dedicated=dedicated)
            key = self._dedicated if sealed[0] in _DEDICATED else self._global
            assert key is not None
            note(key.aes.key, self._own_title, counter, apdu)
            return sealed

        def watched_proof(**made_of: Any) -> bytes:
            if not self._checking:
                note(
                    made_of["encryption_key"], made_of["title"], made_of["counter"], b"proof " + made_of["challenge"]
                )  # fmt: skip
            return proof(**made_of)

        def watched_check(proof: bytes, **made_of: Any) -> int:
            self._checking = True  # the proof of the other side is computed, and goes nowhere
            try:
                return check(proof, **made_of)
            finally:
                self._checking = False

        note = self._note
        with (
            mock.patch.object(security.Protection, "seal", watched_seal),
            mock.patch.object(security, "gmac_proof", watched_proof),
            mock.patch.object(security, "check_gmac_proof", watched_check),
            mock.patch.object(association, "gmac_proof", watched_proof),
            mock.patch.object(association, "check_gmac_proof", watched_check),
        ):
            yield

    def _note(self, key: bytes, title: bytes, counter: int, message: bytes) -> None:
        nonce = title + counter.to_bytes(4, "big")
        if self._sealed.setdefault((key, nonce), message) != message:
            self.repeated.append(f"the nonce {nonce.hex()} stands for two messages")
