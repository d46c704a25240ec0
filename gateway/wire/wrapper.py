"""The TCP wrapper (IEC 62056-47): eight octets before each APDU.

    version 0001 | source wPort 2 | destination wPort 2 | length of the APDU 2

There is no check and nothing to resynchronise on: after a header that is wrong the stream cannot be followed any
further, and the connection is as good as lost.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from gateway.errors import LinkLostError, WireError
from gateway.wire.client import Cost, Reaction

_VERSION = 1
_HEADER = struct.Struct(">4H")


class WrapperMessage(NamedTuple):
    """One APDU and between whom: a client or a logical device is its wPort."""

    source: int
    destination: int
    apdu: bytes


def encode_wrapper(source: int, destination: int, apdu: bytes) -> bytes:
    """Header and APDU. WireError where a number does not fit its two octets."""
    try:
        return _HEADER.pack(_VERSION, source, destination, len(apdu)) + apdu
    except struct.error:
        raise WireError(
            f"wrapper ports {source} and {destination}, {len(apdu)} octets: each at most 65535 expected"
        ) from None


class WrapperReader:
    """Finds the messages in what a TCP connection delivers, in pieces of any size. Holds at most one message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> list[WrapperMessage]:
        """What is complete now, in order. LinkLostError on a wrong header, once all before it was given out."""
        buffer = self._buffer
        buffer += octets
        found: list[WrapperMessage] = []
        while len(buffer) >= _HEADER.size:
            version, source, destination, length = _HEADER.unpack_from(buffer)
            if version != _VERSION:
                if found:
                    break
                raise LinkLostError(
                    f"wrapper version {version}, expected {_VERSION}: the stream makes no sense"
                )
            end = _HEADER.size + length
            if len(buffer) < end:
                break
            found.append(WrapperMessage(source, destination, bytes(buffer[_HEADER.size : end])))
            del buffer[:end]
        return found

    def reset(self) -> None:
        """Begin afresh, with a new connection."""
        self._buffer.clear()


class WrapperClient:
    """One meter behind a TCP connection; see `gateway.wire.client.Client` for what each method promises.

    TCP repeats and orders by itself: there is nothing to connect, and nothing to ask again after a time-out.
    """

    def __init__(self, client: int, server: int) -> None:
        self._client = client
        self._server = server
        self._reader = WrapperReader()
        self._arrived: deque[bytes] = deque()
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def disconnected(self) -> bool:
        return not self._connected

    @property
    def unanswered(self) -> bool:
        """TCP tells nobody, and what stands between it and the meter neither."""
        return False

    def connect(self) -> bytes:
        self._reader.reset()
        self._arrived.clear()
        self._connected = True
        return b""

    def send(self, apdu: bytes) -> bytes:
        if not self._connected:
            raise LinkLostError("no connection with the meter: connect first")
        return encode_wrapper(self._client, self._server, apdu)

    def cost(self, request: int, answer: int) -> Cost:
        return Cost(request + answer + 2 * _HEADER.size, 1)

    def receive(self, octets: bytes) -> Reaction:
        if not self._connected:
            return Reaction()
        heard = False
        try:
            for message in self._reader.feed(octets):
                if (message.source, message.destination) == (self._server, self._client):
                    self._arrived.append(message.apdu)
                    heard = True
        except LinkLostError:
            self._connected = False
            raise
        return Reaction(b"", self._arrived.popleft() if self._arrived else None, heard)

    def drop_arrived(self) -> None:
        self._arrived.clear()

    def timed_out(self) -> bytes:
        return b""

    def disconnect(self) -> bytes:
        self._connected = False
        return b""
