"""Images as blocks over MQTT: a connection of its own while one is fetched, so that no block stands in the way of a
command. Nothing of it goes through the outbox, and nothing of it outlives the connection.
"""

from __future__ import annotations

from random import Random

from gateway.clock import Clock
from gateway.supply.block_get import Get
from gateway.supply.pull import Away, Block, Ready
from gateway.uplink.broker import Broker, Delivery, Message
from gateway.uplink.connection import Connection, Down, Up

_LARGEST_PACKET = 1 << 20
"""Our own side takes no larger one (`paho_broker`)."""
_LONGEST_NUMBER = 9
"""Digits of a block's number."""


def bulk_client_id(gateway_id: str) -> str:
    """The MQTT client id of this connection; that of the main one is `mgw-{gateway_id}`."""
    return f"mgw-{gateway_id}-bulk"


class BulkLink:
    """A `gateway.supply.pull.BlockSource` over a broker object that keeps no session."""

    def __init__(self, broker: Broker, base: str, clock: Clock, *, random: Random | None = None) -> None:
        """`base` is what the topics of this gateway begin with, `{root}/{gateway id}`."""
        self._broker = broker
        self._base = base
        self._clock = clock
        self._random = random
        self._topic = ""
        self._connection: Connection | None = None
        self._happened: list[Ready | Block | Away] = []

    def open(self, sha256: str) -> None:
        self._topic = f"{self._base}/image/{sha256}"
        # At QoS 0: what is lost is asked for again here, and acknowledging each block would only delay the next.
        self._connection = Connection(
            self._broker, [f"{self._topic}/block/+"], qos=0, clock=self._clock, random=self._random
        )

    def poll(self, timeout_s: float) -> list[Ready | Block | Away]:
        assert self._connection is not None, "opened before"
        for change in self._connection.poll(timeout_s, self._deliver):
            match change:
                case Up(max_packet_size):
                    self._happened.append(Ready(self._room(max_packet_size)))
                case Down(reason):
                    self._happened.append(Away(reason))
        happened, self._happened = self._happened, []
        return happened

    def ask(self, get: Get) -> None:
        assert self._connection is not None, "opened before"
        self._connection.publish(Message(f"{self._topic}/get", get.encode()))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._happened.clear()

    def _room(self, max_packet_size: int) -> int:
        largest = Message(f"{self._topic}/block/{'9' * _LONGEST_NUMBER}", b"")
        return min(max_packet_size, _LARGEST_PACKET) - largest.packet_size

    def _deliver(self, delivery: Delivery) -> None:
        number = delivery.topic.removeprefix(f"{self._topic}/block/")
        if number.isdecimal() and len(number) <= _LONGEST_NUMBER:
            self._happened.append(Block(int(number), delivery.payload))
