"""The other side of `bulk`: an image that is served to gateways as blocks over MQTT, by a head-end."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from random import Random

from gateway.clock import Clock
from gateway.errors import SchemaError, SizeError
from gateway.supply.block_get import Get
from gateway.supply.offer import Offer
from gateway.uplink.broker import Broker, Delivery, Message
from gateway.uplink.connection import Connection, Down, Up

_POLL_S = 0.1
_AT_ONCE = 16
"""Blocks that are sent before it is looked again what gateways say."""
_TOLD_LIMIT = 100
_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BlockServer:
    """An actor: step it for as long as it is to serve. Driven by one thread."""

    def __init__(
        self,
        broker: Broker,
        image: bytes,
        *,
        root: str,
        gateways: Sequence[str],
        clock: Clock,
        rate_bytes_per_s: float = 0.0,
        random: Random | None = None,
    ) -> None:
        """`gateways`: only these; none named: whoever asks. `rate_bytes_per_s` is for all together; 0: as fast as it
        goes."""
        self.sha256 = hashlib.sha256(image).hexdigest()
        self.size = len(image)
        self.offer = Offer(len(image))
        self.failed_tries = 0
        """To connect, in a row, and why the last one failed."""
        self.trouble = ""
        self._image = image
        self._root = root
        self._gateways = gateways
        self._clock = clock
        self._rate = rate_bytes_per_s
        # Of any image: whoever waits for another one than this should be noticed.
        filters = [f"{root}/{gateway}/image/+/get" for gateway in gateways or ("+",)]
        self._connection = Connection(broker, filters, qos=1, clock=clock, random=random)
        self._largest_packet = 0
        self._send_at_s = 0.0
        self._told: set[str] = set()
        self._news: list[str] = []

    @property
    def online(self) -> bool:
        return self._connection.up

    @property
    def everybody_has_it(self) -> bool:
        """Each of the gateways that were named said so."""
        standings = self.offer.standings
        return bool(self._gateways) and all(
            gateway in standings and standings[gateway].done for gateway in self._gateways
        )

    def step(self) -> list[str]:
        """Exchange with the broker for at most a moment; what an operator should know of it, each thing once."""
        for change in self._connection.poll(self._send(), self._deliver):
            match change:
                case Up(max_packet_size):
                    self._largest_packet = max_packet_size
                    self._told.clear()
                    self.failed_tries = 0
                case Down(reason):
                    self.offer.forget()
                    self.failed_tries += 1
                    self.trouble = reason
                    self._tell(f"no connection to the broker: {reason}")
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Disconnect in order."""
        self._connection.close()

    # -- up: what gateways lack -------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        gateway, image, sha256, get = delivery.topic.removeprefix(f"{self._root}/").split("/")
        if delivery.retain or not _GATEWAY.fullmatch(gateway) or (image, get) != ("image", "get"):
            return
        if sha256 != self.sha256:
            self._tell(f"{gateway} asks for another image, {sha256[:64]}")
            return
        try:
            self._tell(self.offer.heard(gateway, Get.decode(delivery.payload)))
        except (SchemaError, SizeError) as error:
            self._tell(f"{gateway}: {error.message}")

    def _tell(self, text: str) -> None:
        if text and text not in self._told and len(self._told) < _TOLD_LIMIT:
            self._told.add(text)
            self._news.append(text)

    # -- down: blocks -----------------------------------------------------------------------------------------

    def _send(self) -> float:
        """As much as the network takes; how long to listen then."""
        for _ in range(_AT_ONCE):
            now_s = self._clock.monotonic()
            if not self.online or self._connection.congested:
                return _POLL_S
            if now_s < self._send_at_s:
                return min(self._send_at_s - now_s, _POLL_S)
            wanted = self.offer.next_block()
            if wanted is None:
                return _POLL_S
            self._send_block(*wanted)
        return 0.0

    def _send_block(self, gateway: str, number: int, block: int) -> None:
        content = self._image[number * block : (number + 1) * block]
        topic = f"{self._root}/{gateway}/image/{self.sha256}/block/{number}"
        message = Message(topic, content, qos=0)
        if message.packet_size > self._largest_packet:
            self._tell(
                f"{gateway} wants blocks of {block} octets, the broker takes packets of {self._largest_packet}"
            )
            return
        self._connection.publish(message)
        if self._rate:  # a wait that took too long is made up for, a pause is not
            earliest_s = self._clock.monotonic() - _POLL_S
            self._send_at_s = max(self._send_at_s, earliest_s) + len(content) / self._rate
