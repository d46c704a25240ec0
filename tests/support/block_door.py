"""A broker that loses, doubles and garbles blocks of images: a door before a real one, which does not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

from support.door import Door, hang_up, header_length, packets

Fate = Callable[[int, bytes], list[tuple[int, bytes]]]
"""What becomes of a block on its way: numbers and octets of those that arrive in its place."""

_PUBLISH = 3


class BlockDoor(Door):
    """Everything passes, blocks as `fate` says. Counts what passed, and can cut a connection in the middle of it."""

    def __init__(self, behind: int, fate: Fate = lambda number, content: [(number, content)]) -> None:
        super().__init__(behind)
        self.fate = fate
        self.connections = 0
        self.down_octets = 0
        """Of everything that went to gateways."""
        self.cut_after: int | None = None
        """Cut every connection when so many octets more have gone to gateways."""

    def down(self, broker: socket.socket, client: socket.socket) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            for kind, packet in packets(broker):
                passing = list(self._passing(packet)) if kind == _PUBLISH else [packet]
                for one in passing:
                    self._send(client, one)
        hang_up(broker, client)

    def _passing(self, packet: bytes) -> Iterator[bytes]:
        start = header_length(packet)
        topic_end = start + 2 + int.from_bytes(packet[start : start + 2])
        topic = packet[start + 2 : topic_end].decode()
        stem, _, number = topic.rpartition("/")
        if not stem.endswith("/block"):
            yield packet
            return
        # Blocks come at QoS 0, without properties: MQTT 5 says so by a length of 0, MQTT 3.1.1 has none.
        properties = packet[topic_end : topic_end + self._properties_length(packet, topic_end)]
        content = packet[topic_end + len(properties) :]
        for other, octets in self.fate(int(number), content):
            name = f"{stem}/{other}".encode()
            rest = len(name).to_bytes(2) + name + properties + octets
            yield packet[:1] + _variable_length(len(rest)) + rest

    def _properties_length(self, packet: bytes, at: int) -> int:
        """1 with MQTT 5; the tests here speak nothing else through this door."""
        assert packet[at] == 0
        return 1

    def _send(self, client: socket.socket, octets: bytes) -> None:
        if self.cut_after is not None:
            octets, left = octets[: self.cut_after], self.cut_after - len(octets)
            self.cut_after = left if left > 0 else None
            self.down_octets += len(octets)
            client.sendall(octets)
            if self.cut_after is None:
                self.break_connections()
            return
        self.down_octets += len(octets)
        client.sendall(octets)


def _variable_length(value: int) -> bytes:
    octets = bytearray()
    while True:
        value, low = divmod(value, 128)
        octets.append(low | (0x80 if value else 0))
        if not value:
            return bytes(octets)
