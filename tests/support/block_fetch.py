"""Both ends of an image that goes over MQTT as blocks: who serves it, and who fetches it, each in its own thread."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from support.fetching import Watching
from support.patience import PATIENCE_S, eventually

from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.model import FirmwareSettings, Image, MqttSettings
from gateway.supply.images import ImageStore
from gateway.supply.pull import BlockPull
from gateway.supply.source import MQTT_URL, BlockDigests, Wanted
from gateway.uplink.bulk import BulkLink, bulk_client_id
from gateway.uplink.paho_broker import PahoBroker
from gateway.uplink.serving import BlockServer

ROOT = "mgw/v1"
BLOCK = 16384


def made_up(size: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(size)


def digests_of(image: bytes, block_bytes: int = BLOCK) -> BlockDigests:
    """As a manifest has them."""
    cuts = range(0, len(image), block_bytes)
    digests = tuple(hashlib.sha256(image[at : at + block_bytes]).hexdigest() for at in cuts)
    return BlockDigests(block_bytes, digests)


class Soon(random.Random):
    """Back-off without its length."""

    def uniform(self, a: float, b: float) -> float:
        return min(b, 0.05)


class Serving:
    """`image` served over the broker at `url`, until the block is left."""

    def __init__(self, url: str, image: bytes, gateways: Sequence[str] = (), **options: Any) -> None:
        self.image = image
        self.news: list[str] = []
        broker = PahoBroker(MqttSettings(url), f"mgw-serve-{id(self):x}", keeps_session=False)
        self.server = BlockServer(
            broker, image, root=ROOT, gateways=gateways, clock=SystemClock(), random=Soon(), **options
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def sent(self, gateway: str = "gw") -> int:
        """Blocks, repetitions included."""
        standing = self.server.offer.standings.get(gateway)
        return standing.blocks_sent if standing else 0

    def done(self, gateway: str = "gw") -> bool:
        standing = self.server.offer.standings.get(gateway)
        return standing is not None and standing.done

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: self.server.online, lambda: self.news)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_S)
        self.server.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.news += self.server.step()


class Fetching:
    """One gateway that fetches one image into `directory`, in a thread; it may end and begin again."""

    def __init__(
        self,
        url: str,
        directory: Path,
        image: bytes,
        *,
        gateway: str = "gw",
        digests: BlockDigests | None = None,
    ) -> None:
        self.images = ImageStore(directory, 1 << 30)
        self.watch = Watching()
        self.stored: Image | None = None
        self.error: GatewayError | None = None
        self._wanted = Wanted(MQTT_URL, hashlib.sha256(image).hexdigest(), len(image), digests)
        clock = SystemClock()
        broker = PahoBroker(MqttSettings(url), bulk_client_id(gateway), keeps_session=False)
        self._pull = BlockPull(BulkLink(broker, f"{ROOT}/{gateway}", clock, random=Soon()), clock)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> Self:
        """As the end of its process in order does."""
        self.watch.enough.set()
        return self.wait()

    def wait(self) -> Self:
        """Until it has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self

    def reached(self, octets: int) -> bool:
        """So much of the image is here."""
        return bool(self.watch.told) and self.watch.told[-1][1] >= octets

    @property
    def content(self) -> bytes:
        """What is stored in the end; raises what ended the fetch instead."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self.images.read(self._wanted.sha256)

    def _run(self) -> None:
        try:
            settings = FirmwareSettings()
            self.stored = self._pull(self._wanted, self.images, settings=settings, watch=self.watch)
        except GatewayError as error:
            self.error = error
