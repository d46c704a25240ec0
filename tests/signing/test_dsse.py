"""Envelopes: what is signed, who signed it, and that the rest of the world agrees (openssl, the specification)."""

import base64
import subprocess
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SchemaError
from gateway.model import TrustedKey
from gateway.signing import (
    SIGNATURES_LIMIT,
    Envelope,
    KeyKind,
    PrivateKey,
    Signature,
    envelope_document,
    generate,
    is_envelope,
    key_id,
    read_envelope,
    read_private_key,
    read_public_key,
    sign,
    signers,
)
from gateway.signing.dsse import pae

KINDS = list(KeyKind)
HELLO = Envelope("http://example.com/HelloWorld", b"hello world")


def trusted(key: PrivateKey, name: str = "key.pem") -> TrustedKey:
    return TrustedKey(name, read_public_key(key.public_pem()))


# -- what others say -----------------------------------------------------------------------------------------------


def test_the_encoding_is_the_one_of_the_specification():
    assert pae(HELLO.payload_type, HELLO.payload) == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("ö", b"\xff\x00") == b"DSSEv1 2 \xc3\xb6 2 \xff\x00", "lengths are of octets"


def test_the_example_of_the_specification_is_accepted():
    """secure-systems-lab/dsse, protocol.md 1.0.2, "Test Vectors": P-256, r and s as they are."""
    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    d = 97358161215184420915383655311931858321456579547487070936769975997791359926199
    document = {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [
            {
                "sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
            }
        ],
    }
    key = PrivateKey(ec.EllipticCurvePrivateNumbers(
        d, ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1())
    ).private_key())  # fmt: skip
    envelope = read_envelope(document, "envelope")
    assert replace(envelope, signatures=()) == HELLO
    assert signers(envelope, [trusted(key)]) == (trusted(key),)
    assert signers(replace(envelope, payload=b"hello World"), [trusted(key)]) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_accepts_what_is_signed_here(kind, tmp_path):
    key = generate(kind)
    envelope = sign(HELLO, [key])
    files = {
        "key.pem": key.public_pem(),
        "message": pae(HELLO.payload_type, HELLO.payload),
        "signature": envelope.signatures[0].octets,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message", "-sigfile"]
    assert "Success" in openssl(tmp_path, *verify, "signature", *_digest(kind))
    (tmp_path / "message").write_bytes(b"DSSEv1 29 http://example.com/HelloWorld 11 hello worle")
    with pytest.raises(subprocess.CalledProcessError):
        openssl(tmp_path, *verify, "signature", *_digest(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_what_openssl_signed_is_accepted_here(kind, tmp_path):
    algorithm = ["ED25519"] if kind is KeyKind.ED25519 else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    openssl(tmp_path, "genpkey", "-algorithm", *algorithm, "-out", "key.pem")
    openssl(tmp_path, "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    (tmp_path / "message").write_bytes(pae(HELLO.payload_type, HELLO.payload))
    inputs = ["-sign", "-inkey", "key.pem", "-rawin", "-in", "message"]
    openssl(tmp_path, "pkeyutl", *inputs, "-out", "signature", *_digest(kind))
    envelope = replace(HELLO, signatures=(Signature((tmp_path / "signature").read_bytes()),))
    key = TrustedKey("public.pem", read_public_key((tmp_path / "public.pem").read_bytes()))
    assert signers(envelope, [key]) == (key,)
    ours = read_private_key((tmp_path / "key.pem").read_bytes())
    assert ours.key_id == key_id(key.spki), "a key of openssl signs here too"


def openssl(directory, *arguments: str) -> str:
    command = ["openssl", *arguments]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def _digest(kind: KeyKind) -> list[str]:
    return ["-digest", "sha256"] if kind is KeyKind.P256 else []


# -- who signed ----------------------------------------------------------------------------------------------------

FIRST, SECOND, STRANGER = (generate(kind) for kind in (KeyKind.ED25519, KeyKind.P256, KeyKind.ED25519))
TRUSTED = [trusted(FIRST, "first"), trusted(SECOND, "second")]


def names(envelope: Envelope, keys=TRUSTED) -> list[str]:
    return [key.name for key in signers(envelope, keys)]


def test_each_key_that_signed_is_found_and_strangers_are_not():
    assert names(HELLO) == []
    assert names(sign(HELLO, [STRANGER])) == []
    assert names(sign(HELLO, [SECOND])) == ["second"]
    assert names(sign(sign(HELLO, [STRANGER, SECOND]), [FIRST])) == ["first", "second"]


def test_a_key_that_signed_twice_counts_once():
    once = sign(HELLO, [SECOND])
    again = sign(HELLO, [SECOND])
    assert once.signatures[0].octets != again.signatures[0].octets, "ECDSA takes a new number each time"
    renamed = replace(again.signatures[0], key_id="somebody else")
    assert names(replace(HELLO, signatures=(*once.signatures, renamed))) == ["second"]


def test_a_key_that_is_trusted_under_two_names_counts_once():
    twice = [*TRUSTED, trusted(SECOND, "second-again"), TRUSTED[1]]
    assert len(names(sign(HELLO, [SECOND]), twice)) == 1


def test_key_ids_are_hints_and_decide_nothing():
    lying = replace(sign(HELLO, [STRANGER]).signatures[0], key_id=FIRST.key_id)
    assert names(replace(HELLO, signatures=(lying,))) == []
    nameless = replace(sign(HELLO, [FIRST]).signatures[0], key_id="")
    assert names(replace(HELLO, signatures=(nameless,))) == ["first"]


def test_a_signature_is_of_one_type_of_payload():
    envelope = sign(HELLO, [FIRST])
    assert names(replace(envelope, payload_type="http://example.com/HelloWorl")) == []
    assert names(replace(envelope, payload_type="http://example.com/HelloWorld 11", payload=b"world")) == []


@given(st.sampled_from([FIRST, SECOND]), st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 7))
def test_no_octet_can_be_changed(key, payload, place, bit):
    envelope = sign(Envelope("application/x", payload), [key])
    assert len(names(envelope)) == 1
    changed = bytearray(payload + envelope.signatures[0].octets)
    changed[place % len(changed)] ^= 1 << bit
    other = Envelope(
        "application/x", bytes(changed[: len(payload)]), (Signature(bytes(changed[len(payload) :])),)
    )
    assert names(other) == []


@given(st.binary(max_size=150))
def test_any_octets_in_place_of_a_signature_are_none(octets):
    assert names(replace(HELLO, signatures=(Signature(octets),))) == []


# -- the document --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_both_alphabets_of_base64_are_read(encode):
    document = envelope_document(sign(HELLO, [FIRST]))
    payload = bytes(range(256))
    read = read_envelope(document | {"payload": encode(payload).decode()}, "envelope")
    assert read.payload == payload


def test_what_is_written_is_read_again_and_further_fields_are_ignored():
    envelope = replace(sign(HELLO, [FIRST, SECOND]), cms=b"\x30\x00")
    document = envelope_document(envelope)
    assert is_envelope(document)
    assert read_envelope(document, "envelope") == envelope
    document["signatures"][0]["cert"] = "x"
    assert read_envelope(document | {"later": 1}, "envelope") == envelope
    assert not is_envelope({"payload": ""}) and not is_envelope([])


GOOD = envelope_document(sign(HELLO, [FIRST]))
SIGNATURE = GOOD["signatures"][0]


@pytest.mark.parametrize("change, complaint", [
    ({"payloadType": None}, "envelope.payloadType: expected a text"),
    ({"payload": 7}, "envelope.payload: expected a text"),
    ({"payload": "a"}, "envelope.payload: expected base64"),
    ({"payload": "aGVsbG8"}, "envelope.payload: expected base64"),
    ({"payload": "aGVs\nbG8="}, "envelope.payload: expected base64"),
    ({"payload": "-+=="}, "envelope.payload: expected base64"),
    ({"signatures": None}, "envelope.signatures: expected a list"),
    ({"signatures": {}}, "envelope.signatures: expected a list"),
    ({"signatures": [SIGNATURE] * (SIGNATURES_LIMIT + 1)}, "at most 16"),
    ({"signatures": ["x"]}, "envelope.signatures.0: expected an object"),
    ({"signatures": [SIGNATURE, {}]}, "envelope.signatures.1.sig: expected a text"),
    ({"signatures": [{"sig": "A" * 400}]}, "at most 128 octets"),
    ({"signatures": [{"sig": "", "keyid": 1}]}, "envelope.signatures.0.keyid"),
    ({"signatures": [{"sig": "", "keyid": "k" * 257}]}, "envelope.signatures.0.keyid"),
    ({"cms": "A" * 40_000}, "envelope.cms: expected at most"),
])  # fmt: skip
def test_what_is_no_envelope_is_refused_in_words(change, complaint):
    with pytest.raises(SchemaError, match="expected") as caught:
        read_envelope({**GOOD, **change}, "envelope")
    assert complaint in caught.value.message


def test_one_signature_too_many_is_not_made():
    full = replace(HELLO, signatures=tuple(Signature(b"", str(n)) for n in range(SIGNATURES_LIMIT)))
    with pytest.raises(SchemaError, match="at most 16"):
        sign(full, [FIRST])


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_survives_its_file_locked_or_not(kind):
    key = generate(kind)
    assert read_private_key(key.pem()).key_id == key.key_id
    locked = key.pem(b"correct horse")
    assert b"ENCRYPTED" in locked
    assert read_private_key(locked, b"correct horse").key_id == key.key_id
    for pem, passphrase in ((locked, b""), (locked, b"wrong"), (key.pem(), b"needless")):
        with pytest.raises(ValueError, match=r"."):
            read_private_key(pem, passphrase)


@pytest.mark.parametrize(
    "algorithm", [["RSA"], ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], ["ED448"], ["X25519"]]
)
def test_keys_of_other_kinds_are_refused(algorithm, tmp_path):
    openssl(tmp_path, "genpkey", "-algorithm", *algorithm, "-out", "key.pem")
    openssl(tmp_path, "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    with pytest.raises(ValueError, match="neither an Ed25519 nor a P-256 key"):
        read_private_key((tmp_path / "key.pem").read_bytes())
    with pytest.raises(ValueError, match="neither an Ed25519 nor a P-256 key"):
        read_public_key((tmp_path / "public.pem").read_bytes())


@pytest.mark.parametrize(
    "pem", [b"", b"\xff\xfe", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key_is_refused(pem):
    with pytest.raises(ValueError, match=r"."):
        read_public_key(pem)
    with pytest.raises(ValueError, match=r"."):
        read_private_key(pem)
