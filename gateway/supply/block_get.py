"""The one document of the block pull protocol: what a gateway lacks of an image, and what may be sent now. Pure.

docs/mqtt-images.md has the protocol in the words of who writes the other side.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gateway.errors import SchemaError

_LIMIT_OCTETS = 64 * 1024
_LARGEST_NUMBER = 1 << 40


@dataclass(frozen=True, slots=True)
class Get:
    """What is published at `image/{sha256}/get`.

    Bit 7 (the most significant) of the first octet of `bitmap` stands for block `first`, bit 6 for the one after it,
    and so on; a bit that is set asks for its block, and octets left out at the end are zero. Of these blocks, in
    order, at most `credit` are sent in answer. A bitmap without any bit set says that nothing is missing any more.
    """

    size: int
    """Of the image, in octets."""
    block: int
    """Of each block, in octets; the last one is what remains."""
    first: int
    bitmap: bytes
    credit: int

    def encode(self) -> bytes:
        """As the contract has it: a JSON document."""
        document = {
            "size": self.size,
            "block": self.block,
            "from": self.first,
            "bitmap": base64.b64encode(self.bitmap).decode(),
            "credit": self.credit,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Get:
        """Raises SchemaError for whatever else comes along."""
        if len(payload) > _LIMIT_OCTETS:
            raise SchemaError(f"a get has at most {_LIMIT_OCTETS} octets, this one {len(payload)}")
        try:
            document = json.loads(payload)
            return cls(
                _number(document, "size", 1),
                _number(document, "block", 1),
                _number(document, "from", 0),
                base64.b64decode(document["bitmap"], validate=True),
                _number(document, "credit", 0),
            )
        except KeyError as error:
            raise SchemaError(f"this is no get: {error} is missing") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise SchemaError(f"this is no get: {error}") from None

    @property
    def nothing_missing(self) -> bool:
        return not any(self.bitmap)

    def granted(self, most: int | None = None) -> list[int]:
        """The numbers of the blocks that may be sent now, in order, all within the image; `most` of them."""
        return list(islice(self._asked(), self.credit if most is None else min(self.credit, most)))

    def _asked(self) -> Iterator[int]:
        count = block_count(self.size, self.block)
        for place, octet in enumerate(self.bitmap):
            for bit in range(8) if octet else ():
                number = self.first + 8 * place + bit
                if octet & (0x80 >> bit) and number < count:
                    yield number


def block_count(size: int, block_bytes: int) -> int:
    """How many blocks an image of `size` octets has."""
    return -(-size // block_bytes)


def _number(document: Any, name: str, least: int) -> int:
    value = document[name]
    if type(value) is not int or not least <= value <= _LARGEST_NUMBER:
        raise ValueError(f"{name}: expected a number from {least} to {_LARGEST_NUMBER}")
    return value
