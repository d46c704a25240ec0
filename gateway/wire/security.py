"""Ciphering of APDUs with security suite 0 (AES-128-GCM), and the proofs of HLS mechanism 5 (Green Book "Cryptographic
algorithms for DLMS/COSEM" and "Information security"; NIST SP 800-38D).

A ciphered APDU is tag, [system title,] length, security control, invocation counter, contents. The contents are the
ciphertext (or, authenticated only, the plaintext) and a tag of 12 octets; encrypted only, there is no tag. The IV is
the sender's system title and counter, so a title, key and counter together must never repeat: counters are given by
the caller, a fresh one for every message, and nothing here counts.

Raises `SecurityError` where key, tag, counter or policy is wrong, `WireError` where octets mean nothing.
"""

from __future__ import annotations

import hmac
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from gateway.errors import SecurityError, WireError
from gateway.wire.axdr import encode_length
from gateway.wire.reader import Reader

TAG_OCTETS = 12
TITLE_OCTETS = 8
KEY_OCTETS = 16
MAX_COUNTER = 0xFFFF_FFFF


class SecurityControl(NamedTuple):
    """The octet that says how an APDU is protected."""

    suite: int = 0
    authenticated: bool = False
    encrypted: bool = False
    broadcast: bool = False
    """The global broadcast key is meant, not the unicast one."""
    compressed: bool = False

    def to_octet(self) -> int:
        return (
            self.suite
            | self.authenticated << 4
            | self.encrypted << 5
            | self.broadcast << 6
            | self.compressed << 7
        )

    @classmethod
    def from_octet(cls, octet: int) -> SecurityControl:
        return cls(
            octet & 0x0F, bool(octet & 0x10), bool(octet & 0x20), bool(octet & 0x40), bool(octet & 0x80)
        )


class Sealed(NamedTuple):
    """A ciphered APDU, taken apart and not deciphered; nothing of it is to be believed yet."""

    tag: int
    plain_tag: int | None
    """What the tag promises inside; None for the general forms, which may hold anything."""
    dedicated: bool
    title: bytes
    """The sender's, as the general forms carry it; empty: the one of the association."""
    control: SecurityControl
    counter: int
    contents: bytes

    @classmethod
    def parse(cls, octets: bytes) -> Sealed:
        """Take a ciphered APDU apart; WireError if it is none."""
        reader = Reader(octets)
        tag = reader.u8()
        if tag in _GENERAL:
            plain_tag, dedicated, title = None, tag == _GENERAL_DED, reader.counted()
        elif tag in _PLAIN:
            (plain_tag, dedicated), title = _PLAIN[tag], b""
        else:
            raise WireError(f"{tag:02x} begins no ciphered APDU")
        if len(title) not in (0, TITLE_OCTETS):
            raise WireError(f"system title of {len(title)} octets, {TITLE_OCTETS} expected")
        length = reader.length()
        head, contents = reader.take(5), reader.rest()
        if length != len(contents) + 5:
            raise WireError(f"ciphered part of {len(contents) + 5} octets, {length} announced")
        control, counter = _CONTROLS[head[0]], int.from_bytes(head[1:], "big")
        return cls(tag, plain_tag, dedicated, title, control, counter, contents)


class Protection:
    """How one association protects its APDUs, in both directions, for either side of it.

    `own_title` is our system title, `peer_title` the other side's: set it as soon as it is known. `authenticated` and
    `encrypted` say what was agreed; a peer may do more, never less. `dedicated_key` is the key that the initiate
    request told the meter. `general` wraps services in general-glo or general-ded APDUs. `broadcast` means that
    `encryption_key` is the global broadcast key.
    """

    def __init__(
        self,
        *,
        encryption_key: bytes,
        authentication_key: bytes,
        own_title: bytes,
        authenticated: bool,
        encrypted: bool,
        dedicated_key: bytes | None = None,
        general: bool = False,
        broadcast: bool = False,
    ) -> None:
        if not (authenticated or encrypted):
            raise SecurityError("neither authentication nor encryption asked for, at least one expected")
        if len(own_title) != TITLE_OCTETS:
            raise SecurityError(f"system title of {len(own_title)} octets, {TITLE_OCTETS} expected")
        self._ak = _checked_key("authentication key", authentication_key) if authenticated else b""
        self._global = _Key(_checked_key("encryption key", encryption_key))
        self._dedicated = (
            None if dedicated_key is None else _Key(_checked_key("dedicated key", dedicated_key))
        )
        self._control = SecurityControl(0, authenticated, encrypted, broadcast)
        self._control_octet = bytes((self._control.to_octet(),))
        self._aad = self._control_octet + self._ak
        self._own_title = own_title
        self._general = general
        self.peer_title = b""

    def seal(self, apdu: bytes, counter: int, *, dedicated: bool | None = None) -> bytes:
        """The ciphered form of a plain APDU, under a counter that was never used before with this key.

        `dedicated` None: the dedicated key where there is one, but never for initiate APDUs, which always go under
        the global key. SecurityError when counters are used up; WireError for an APDU that has no ciphered form.
        """
        if not 0 <= counter <= MAX_COUNTER:
            raise SecurityError(
                f"invocation counter {counter}, 0 to {MAX_COUNTER} expected: the key is used up"
            )
        tag = apdu[0] if apdu else -1
        if dedicated is None:
            dedicated = self._dedicated is not None and tag not in _INITIATE
        key = self._key(dedicated)
        counter_octets = counter.to_bytes(4, "big")
        protected = self._protect(key.aead, self._own_title + counter_octets, apdu)
        return b"".join(
            (
                self._head(tag, dedicated),
                encode_length(len(protected) + 5),
                self._control_octet,
                counter_octets,
                protected,
            )
        )

    def open(self, octets: bytes) -> bytes:
        """The plain APDU inside a ciphered one from the peer.

        The tag is checked first; only then is anything else of the message believed, the counter included, which must
        be higher than the last one under the same key. SecurityError where anything of that is wrong, and for a plain
        APDU; an exception-response and a confirmed-service-error come plain and are returned as they are. WireError
        if malformed.
        """
        tag = octets[0] if octets else -1
        if tag in _ALWAYS_PLAIN:
            return octets
        if tag in _NEVER_PLAIN:
            raise SecurityError(f"plain APDU {tag:02x} in a ciphered association")
        sealed = Sealed.parse(octets)
        self._check_policy(sealed.control)
        key = self._key(sealed.dedicated)
        apdu = self._deciphered(key, sealed)
        if sealed.counter <= key.last_counter:
            raise SecurityError(
                f"peer's counter {sealed.counter}, more than {key.last_counter} expected: a replay"
            )
        if sealed.plain_tag is not None and apdu[:1] != bytes((sealed.plain_tag,)):
            raise self._wrong_contents(sealed, apdu)
        key.last_counter = sealed.counter
        return apdu

    def sealed_length(self, plain_length: int) -> int:
        """How many octets `seal` makes of a service APDU of `plain_length` octets."""
        ciphered = plain_length + 5 + (TAG_OCTETS if self._control.authenticated else 0)
        return 1 + (1 + TITLE_OCTETS if self._general else 0) + len(encode_length(ciphered)) + ciphered

    # private

    def _key(self, dedicated: bool) -> _Key:
        key = self._dedicated if dedicated else self._global
        if key is None:
            raise SecurityError("dedicated ciphering without a dedicated key")
        return key

    def _head(self, tag: int, dedicated: bool) -> bytes:
        if self._general and tag not in _INITIATE and tag >= 0:
            return bytes((_GENERAL_DED if dedicated else _GENERAL_GLO, TITLE_OCTETS)) + self._own_title
        head = (_DED if dedicated else _GLO).get(tag)
        if head is None:
            raise WireError(f"APDU {tag:02x} has no ciphered form" if tag >= 0 else "an empty APDU")
        return head

    def _protect(self, aead: AESGCM, iv: bytes, apdu: bytes) -> bytes:
        if not self._control.encrypted:
            return apdu + aead.encrypt(iv, b"", self._aad + apdu)[:TAG_OCTETS]
        if self._control.authenticated:
            return aead.encrypt(iv, apdu, self._aad)[:-_TAG_CUT]
        return aead.encrypt(iv, apdu, None)[:-_FULL_TAG]

    def _check_policy(self, control: SecurityControl) -> None:
        agreed = self._control
        if control == agreed:
            return
        if control.suite != agreed.suite or control.broadcast != agreed.broadcast or control.compressed:
            raise SecurityError(
                f"security control {control.to_octet():02x}, {agreed.to_octet():02x} expected"
            )
        if control.authenticated < agreed.authenticated or control.encrypted < agreed.encrypted:
            raise SecurityError(
                f"security control {control.to_octet():02x} protects less than {agreed.to_octet():02x} as agreed"
            )

    def _deciphered(self, key: _Key, sealed: Sealed) -> bytes:
        title = sealed.title or self.peer_title
        if not title:
            raise SecurityError("the peer's system title is not known")
        if self.peer_title and title != self.peer_title:
            raise SecurityError(f"system title {title.hex()}, {self.peer_title.hex()} expected")
        iv = title + sealed.counter.to_bytes(4, "big")
        control, contents = sealed.control, sealed.contents
        if not control.authenticated:
            # Counter mode is its own inverse, and there is no tag to check.
            return key.aead.encrypt(iv, contents, None)[:-_FULL_TAG]
        text, tag = contents[:-TAG_OCTETS], contents[-TAG_OCTETS:]
        if len(tag) != TAG_OCTETS:
            raise WireError(
                f"{len(contents)} octets in an authenticated APDU, at least {TAG_OCTETS} expected"
            )
        aad = self._aad if control == self._control else self._other_aad(control)
        return (
            _open(key.aes, iv, tag, aad, text) if control.encrypted else _check(key.aes, iv, tag, aad, text)
        )

    def _other_aad(self, control: SecurityControl) -> bytes:
        """Of a peer that does more than was agreed."""
        if not self._ak:
            raise SecurityError("an authenticated APDU and no authentication key to check it")
        return bytes((control.to_octet(),)) + self._ak

    def _wrong_contents(self, sealed: Sealed, apdu: bytes) -> SecurityError | WireError:
        found = f"{apdu[:1].hex() or 'nothing'} inside APDU {sealed.tag:02x}, {sealed.plain_tag:02x} expected"
        if sealed.control.authenticated:
            return WireError(found)
        return SecurityError(f"{found}: deciphered with a wrong key or title")


# -- HLS mechanism 5, GMAC ------------------------------------------------------------------------------------


def gmac_proof(
    *,
    authentication_key: bytes,
    encryption_key: bytes,
    title: bytes,
    counter: int,
    challenge: bytes,
    suite: int = 0,
) -> bytes:
    """What proves to the maker of `challenge` that the owner of `title` knows both keys: security control, counter,
    and a tag over the challenge, 17 octets. The counter is never shared with the APDU that carries the proof."""
    if not 0 <= counter <= MAX_COUNTER:
        raise SecurityError(f"invocation counter {counter}, 0 to {MAX_COUNTER} expected: the key is used up")
    key = AESGCM(_checked_key("encryption key", encryption_key))
    control = bytes((SecurityControl(suite, authenticated=True).to_octet(),))
    counter_octets = counter.to_bytes(4, "big")
    aad = control + _checked_key("authentication key", authentication_key) + challenge
    return control + counter_octets + key.encrypt(title + counter_octets, b"", aad)[:TAG_OCTETS]


def check_gmac_proof(
    proof: bytes,
    *,
    authentication_key: bytes,
    encryption_key: bytes,
    title: bytes,
    challenge: bytes,
    suite: int = 0,
) -> int:
    """The counter of the other side's proof for our `challenge`; SecurityError if the proof is wrong."""
    if len(proof) != 5 + TAG_OCTETS:
        raise SecurityError(f"HLS proof of {len(proof)} octets, {5 + TAG_OCTETS} expected")
    counter = int.from_bytes(proof[1:5], "big")
    expected = gmac_proof(
        authentication_key=authentication_key,
        encryption_key=encryption_key,
        title=title,
        counter=counter,
        challenge=challenge,
        suite=suite,
    )
    if not hmac.compare_digest(proof, expected):
        raise SecurityError(
            "wrong HLS proof: it was made with other keys, another title or another challenge"
        )
    return counter


def check_challenge(ours: bytes, theirs: bytes) -> None:
    """SecurityError unless the meter's challenge may be answered: 8 to 64 octets and not our own sent back, which
    would make us compute the proof that we are about to ask for."""
    if not 8 <= len(theirs) <= 64:
        raise SecurityError(f"challenge of {len(theirs)} octets, 8 to 64 expected")
    if ours == theirs:
        raise SecurityError("the meter's challenge is our own: refused")


# -- private --------------------------------------------------------------------------------------------------

_FULL_TAG = 16
_TAG_CUT = _FULL_TAG - TAG_OCTETS

_CONTROLS = tuple(map(SecurityControl.from_octet, range(256)))

_GENERAL_GLO = 0xDB
_GENERAL_DED = 0xDC
_GENERAL = {_GENERAL_GLO, _GENERAL_DED}

# Plain APDU: its form under the global key, and under the dedicated one (COSEM ASN.1).
_FORMS = {
    0x01: (0x21, 0x41), 0x08: (0x28, 0x48), 0x0E: (0x2E, 0x4E),
    0xC0: (0xC8, 0xD0), 0xC1: (0xC9, 0xD1), 0xC2: (0xCA, 0xD2), 0xC3: (0xCB, 0xD3),
    0xC4: (0xCC, 0xD4), 0xC5: (0xCD, 0xD5), 0xC7: (0xCF, 0xD7),
}  # fmt: skip
_GLO = {plain: bytes((glo,)) for plain, (glo, _) in _FORMS.items()}
_DED = {plain: bytes((ded,)) for plain, (_, ded) in _FORMS.items()}
_PLAIN = {glo: (plain, False) for plain, (glo, _) in _FORMS.items()} | {
    ded: (plain, True) for plain, (_, ded) in _FORMS.items()
}
_INITIATE = {0x01, 0x08}
_ALWAYS_PLAIN = {0x0E, 0xD8}
_NEVER_PLAIN = {*_FORMS, 0x0F, 0xD9, 0xDA, 0xE0} - _ALWAYS_PLAIN


class _Key:
    """A key made ready, and the last counter that the peer used with it."""

    __slots__ = ("aead", "aes", "last_counter")

    def __init__(self, key: bytes) -> None:
        self.aead = AESGCM(key)
        self.aes = AES(key)
        self.last_counter = -1


def _checked_key(name: str, key: bytes) -> bytes:
    if len(key) != KEY_OCTETS:
        raise SecurityError(f"{name} of {len(key)} octets, {KEY_OCTETS} expected (suite 0)")
    return key


def _open(aes: AES, iv: bytes, tag: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    # AESGCM knows full tags only; this is the one way of `cryptography` to check one of 12 octets.
    decryptor = Cipher(aes, GCM(iv, tag, min_tag_length=TAG_OCTETS)).decryptor()
    decryptor.authenticate_additional_data(aad)
    plaintext = decryptor.update(ciphertext)
    try:
        decryptor.finalize()
    except InvalidTag:
        raise SecurityError("wrong tag: another key, title or counter, or a changed message") from None
    return plaintext


def _check(aes: AES, iv: bytes, tag: bytes, aad: bytes, plaintext: bytes) -> bytes:
    _open(aes, iv, tag, aad + plaintext, b"")
    return plaintext
