"""What an image is called towards a meter (class 18, method 1, image_identifier)."""

from __future__ import annotations

import hashlib

from gateway.model import IdentifierSource


def identifier_of(source: IdentifierSource, *, ordered: bytes, image: bytes) -> bytes:
    """The identifier that a meter of this kind wants; empty where the image has none.

    HEAD: the file begins with one octet of length and the identifier, as some vendors of the IDIS family ship it.
    """
    match source:
        case IdentifierSource.GIVEN:
            return ordered
        case IdentifierSource.HEAD:
            length = image[0] if image else 0
            return image[1 : 1 + length] if length < len(image) else b""
        case IdentifierSource.MD5:
            return hashlib.md5(image, usedforsecurity=False).digest()
