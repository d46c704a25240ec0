"""Getting an image as blocks from a BlockSource, into its intake. Blocking; what to do next is decided in `blocks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import NetError, SizeError
from gateway.model import FirmwareSettings, Image
from gateway.supply.block_get import Get
from gateway.supply.blocks import SILENCE_S, Pull
from gateway.supply.finish import finish
from gateway.supply.images import ImageStore
from gateway.supply.intake import Intake, Span
from gateway.supply.source import MQTT_URL, Wanted, Watch

POLL_S = 0.1
"""The longest until it is looked whether the image is wanted still."""
_SYNC_EVERY_BYTES = 1 << 20
_SYNC_EVERY_S = 10.0
"""What a power cut may cost of a slow line; a quick one writes `_SYNC_EVERY_BYTES` first."""


@dataclass(frozen=True, slots=True)
class Ready:
    """There is a connection, on which blocks are heard. So many octets go into a packet beside its topic."""

    room_octets: int


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Away:
    """There is no connection, or nothing can come over it; it is tried again by itself."""

    reason: str


class BlockSource(Protocol):
    """Where blocks of one image come from, over a connection of their own. Driven by one thread."""

    def open(self, sha256: str) -> None:
        """Begin to connect, and to listen for blocks of that image; Ready or Away follows."""

    def poll(self, timeout_s: float) -> list[Ready | Block | Away]:
        """What happened, after at most `timeout_s`, in order. Connects again where the connection was lost."""

    def ask(self, get: Get) -> None:
        """Tell whoever serves."""

    def close(self) -> None:
        """Disconnect, once what was asked or told has gone out; within seconds."""


class BlockPull:
    """A `gateway.supply.source.Source`: the image as blocks, from whoever serves it."""

    def __init__(self, blocks: BlockSource, clock: Clock) -> None:
        self._blocks = blocks
        self._clock = clock

    def __call__(
        self, wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch
    ) -> Image:
        """Raises NetError (nothing useful came for SILENCE_S, or stopped), SizeError (an order without a size, a block
        of the wrong length again and again), DigestError (a block, or the image), and what the intake raises."""
        if wanted.size is None:
            raise SizeError(f"{MQTT_URL} needs the size of the image in its order")
        with images.intake(wanted.sha256, wanted.size) as intake:
            resumed = bool(intake.spans)
            if intake.spans == ((0, wanted.size),):
                return finish(intake, doubtful=True)
            pull = Pull(wanted.size, wanted.digests, now_s=self._clock.monotonic())
            self._blocks.open(wanted.sha256)
            try:
                self._receive(pull, _Keeper(intake, self._clock, watch, wanted.size), watch)
                image = finish(intake, doubtful=resumed)
                self._blocks.ask(pull.nothing_missing())
                return image
            finally:
                self._blocks.close()

    def _receive(self, pull: Pull, keeper: _Keeper, watch: Watch) -> None:
        """Until every block is in the intake."""
        trouble = ""
        while not pull.whole:
            if watch.stop():
                raise NetError("the fetch was stopped before its end")
            for happened in self._blocks.poll(POLL_S):
                match happened:
                    case Ready(room_octets):
                        pull.begin(room_octets, keeper.spans)
                        trouble = ""
                    case Away(reason):
                        trouble = reason
                    case Block(number, content):
                        keeper.keep(content, pull.take(number, content, self._clock.monotonic()))
            now_s = self._clock.monotonic()
            if pull.hopeless(now_s):
                why = trouble or "does anybody serve it (meter-gateway image serve)?"
                raise NetError(f"no block of the image came for {SILENCE_S:.0f} s: {why}")
            if not trouble and (get := pull.next_get(now_s)):
                self._blocks.ask(get)


class _Keeper:
    """Writes what came, makes it durable now and then, and tells of it."""

    def __init__(self, intake: Intake, clock: Clock, watch: Watch, size: int) -> None:
        self._intake = intake
        self._clock = clock
        self._watch = watch
        self._size = size
        self._done = sum(end - start for start, end in intake.spans)
        self._unsynced = 0
        self._synced_at_s = clock.monotonic()

    @property
    def spans(self) -> Sequence[Span]:
        return self._intake.spans

    def keep(self, came: bytes, pieces: Sequence[tuple[int, bytes]]) -> None:
        """What came over the network, and what is to be written now."""
        for offset, octets in pieces:
            self._intake.write(offset, octets)
            self._done += len(octets)
            self._unsynced += len(octets)
        self._watch.came(len(came), self._done, self._size)
        now_s = self._clock.monotonic()
        if self._unsynced >= _SYNC_EVERY_BYTES or now_s - self._synced_at_s >= _SYNC_EVERY_S:
            self._intake.sync()
            self._unsynced, self._synced_at_s = 0, now_s
