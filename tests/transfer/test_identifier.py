"""What an image is called towards a meter, by where its profile finds it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import IdentifierSource
from gateway.transfer import identifier_of

ORDERED = b"FW-4.1.7"


def head_of(image: bytes) -> bytes:
    return identifier_of(IdentifierSource.HEAD, ordered=ORDERED, image=image)


@pytest.mark.parametrize(
    ("image", "identifier"),
    [
        (b"\x04ACME and the firmware", b"ACME"),
        (b"\x04ACME", b"ACME"),
        (b"\xff" + bytes(255) + b"x", bytes(255)),
        (b"\x04ACM", b""),
        (b"\xff" + bytes(254), b""),
        (b"\x01", b""),
        (b"\x00ACME", b""),
        (b"\x00", b""),
        (b"", b""),
    ],
)
def test_a_head_is_whole_or_none(image, identifier):
    assert head_of(image) == identifier


@given(st.binary(min_size=1, max_size=255), st.binary(max_size=300))
def test_what_the_vendor_put_in_front_is_found(identifier, firmware):
    assert head_of(bytes([len(identifier)]) + identifier + firmware) == identifier


@given(st.binary(max_size=300))
def test_the_md5_is_of_the_whole_image_and_the_given_one_of_the_order_alone(image):
    md5 = hashlib.md5(image, usedforsecurity=False).digest()
    assert identifier_of(IdentifierSource.MD5, ordered=ORDERED, image=image) == md5
    assert identifier_of(IdentifierSource.GIVEN, ordered=ORDERED, image=image) == ORDERED
