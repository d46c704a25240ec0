"""Manifests as octets and back, strictly."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.desk import IMAGE, SHA256
from support.signed import manifest

from gateway.errors import SchemaError
from gateway.model import Manifest
from gateway.signing import Envelope
from gateway.supply.manifest import (
    FIRST_BLOCK_BYTES,
    MANIFEST_LIMIT_BYTES,
    blocks_of,
    envelope_of,
    envelope_text,
    read_manifest,
    write_manifest,
)

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
VERSIONS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
MANIFESTS = st.builds(
    Manifest,
    sha256=st.just(SHA256),
    size=st.integers(1, 2**32 - 1),
    version=VERSIONS,
    profiles=st.lists(IDS, min_size=1, max_size=4, unique=True).map(tuple),
    sequence=st.integers(0, 2**53 - 1),
    identifier=st.binary(max_size=30),
    from_versions=st.lists(VERSIONS, max_size=3).map(tuple),
    rollback=st.booleans(),
    not_after=st.none() | st.integers(0, 2**37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)  # fmt: skip


@given(MANIFESTS)
def test_what_is_written_is_read_again(known):
    assert read_manifest(write_manifest(known)) == known


@pytest.mark.parametrize(
    "size", [1, FIRST_BLOCK_BYTES, FIRST_BLOCK_BYTES + 1, 256 * FIRST_BLOCK_BYTES + 1, 20_000_000]
)
def test_the_digests_of_blocks_always_fit(tmp_path, size):
    path = tmp_path / "image"
    content = bytes(size - 1) + b"x"
    path.write_bytes(content)
    block_bytes, digests = blocks_of(path)
    assert digests[-1] == hashlib.sha256(content[(len(digests) - 1) * block_bytes :]).hexdigest()
    whole = Manifest(
        sha256=SHA256, size=size, version="v" * 128, profiles=tuple(f"{n:064}" for n in range(64)), sequence=2**53 - 1,
        from_versions=("1.*",), block_bytes=block_bytes, block_sha256=digests,
    )  # fmt: skip
    payload = write_manifest(whole)
    assert len(payload) <= MANIFEST_LIMIT_BYTES
    assert read_manifest(payload) == whole


def test_the_manifest_of_the_contract_is_one():
    document = manifest(
        from_versions=["4.0.*"], rollback=False, not_after="2026-12-24T00:00:00Z", block_bytes=16384,
        block_sha256=[hashlib.sha256(IMAGE).hexdigest()],
    )  # fmt: skip
    read = read_manifest(json.dumps(document, indent=1).encode())
    assert read.identifier == b"X3-4.1.7"
    assert read.not_after == datetime(2026, 12, 24, tzinfo=UTC)


@pytest.mark.parametrize("change, complaint", [
    ({"v": 2}, "manifest.v"),
    ({"v": None}, "found no 'v'"),
    ({"sha256": SHA256.upper()}, "manifest.sha256"),
    ({"size": 0}, "manifest.size"),
    ({"size": 2**32}, "manifest.size"),
    ({"size": "15000"}, "manifest.size"),
    ({"identifier": ""}, "manifest.identifier"),
    ({"identifier": "hex:0"}, "manifest.identifier: expected pairs"),
    ({"version": None}, "found no 'version'"),
    ({"profiles": []}, "manifest.profiles"),
    ({"profiles": ["a", "a"]}, "manifest.profiles"),
    ({"profiles": ["acme-*"]}, "manifest.profiles.0"),
    ({"profiles": "acme-x3"}, "manifest.profiles"),
    ({"from_versions": [""]}, "manifest.from_versions.0"),
    ({"sequence": -1}, "manifest.sequence"),
    ({"sequence": 2**53}, "manifest.sequence"),
    ({"sequence": 1.5}, "manifest.sequence"),
    ({"sequence": None}, "found no 'sequence'"),
    ({"rollback": 1}, "manifest.rollback"),
    ({"not_after": "2026-02-30T00:00:00Z"}, "no such time"),
    ({"not_after": "2026-12-24T00:00:00+02:00"}, "manifest.not_after"),
    ({"block_bytes": 16384}, "block_sha256"),
    ({"block_sha256": [SHA256]}, "block_bytes"),
    ({"block_bytes": 16, "block_sha256": [SHA256]}, "manifest.block_bytes"),
    ({"block_bytes": 1024, "block_sha256": [SHA256]}, "found 1 digests, 15000 octets are 15 blocks of 1024"),
    ({"comment": ""}, "comment"),
])  # fmt: skip
def test_what_is_no_manifest_is_refused_in_words(change, complaint):
    with pytest.raises(SchemaError) as caught:
        read_manifest(json.dumps(manifest(**change)).encode())
    assert complaint in caught.value.message


@pytest.mark.parametrize("payload", [
    b"", b"null", b"[]", b'"x"', b"\xef\xbb\xbf{}", b"{}{}", b'{"v":1,"v":1}', b'{"size":Infinity}', b"[" * 5000,
    b'{"version":"\\ud800"}', b'{"size":' + b"1" * 100 + b"}", b" " * (MANIFEST_LIMIT_BYTES + 1), b"\xff",
])  # fmt: skip
def test_whatever_comes_is_refused_and_nothing_else_happens(payload):
    with pytest.raises(SchemaError):
        read_manifest(payload)


@given(st.binary(max_size=200))
def test_any_octets_are_refused_and_nothing_else_happens(payload):
    with pytest.raises(SchemaError):
        read_manifest(payload)


def test_an_envelope_is_kept_as_a_text(tmp_path):
    envelope = Envelope("kind", b"\x00\xff", (), b"cms")
    assert envelope_of(envelope_text(envelope)) == envelope
    for text in (b"{", b'{"payloadType":"a","payloadType":"b"}', b"[]", b" " * 100_000):
        with pytest.raises(SchemaError):
            envelope_of(text)
