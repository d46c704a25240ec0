"""Images as blocks on virtual time: how long is waited for whom, and what bad lines cost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.block_fetch import BLOCK, ROOT, digests_of, made_up
from support.fetching import Watching
from support.sim_hub import SimHub

from gateway.errors import GatewayError, NetError
from gateway.model import FirmwareSettings, Image
from gateway.simulator import VirtualClock
from gateway.supply.images import ImageStore
from gateway.supply.pull import BlockPull
from gateway.supply.source import MQTT_URL, Wanted
from gateway.uplink.bulk import BulkLink
from gateway.uplink.serving import BlockServer

IMAGE = made_up(100 * BLOCK + 777)
BLOCKS = 101


class World:
    """A gateway and who serves it, at a simulated broker, in one thread."""

    def __init__(self, directory: Path, seed: int = 1, image: bytes = IMAGE, **hub: float) -> None:
        self.clock = VirtualClock()
        self.hub = SimHub(self.clock, random.Random(seed), **hub)
        self.image = image
        self.serves_from_s = 0.0
        self.events: dict[float, dict[str, object]] = {}
        """What becomes of the broker, and when."""
        self.server = BlockServer(
            self.hub.client(), image, root=ROOT, gateways=["gw"], clock=self.clock, random=random.Random(seed)
        )
        self.images = ImageStore(directory, 1 << 30)
        self.watch = Watching()
        client = self.hub.client(self._meanwhile)
        self.pull = BlockPull(
            BulkLink(client, f"{ROOT}/gw", self.clock, random=random.Random(seed)), self.clock
        )

    def fetch(self, **wanted: object) -> Image:
        want = Wanted(MQTT_URL, self.server.sha256, len(self.image), **wanted)
        return self.pull(want, self.images, settings=FirmwareSettings(), watch=self.watch)

    @property
    def sent(self) -> int:
        return self.server.offer.standings["gw"].blocks_sent

    def _meanwhile(self) -> None:
        now_s = self.clock.monotonic()
        for at_s in [at_s for at_s in self.events if at_s <= now_s]:
            for name, value in self.events.pop(at_s).items():
                setattr(self.hub, name, value)
        if now_s >= self.serves_from_s:
            self.server.step()


def test_where_nobody_serves_it_is_asked_ever_more_seldom_and_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.serves_from_s = 1e9
    with pytest.raises(NetError, match="120 s: does anybody serve it"):
        world.fetch()
    begin_s, *others = world.hub.gets()
    assert [round(at_s - begin_s) for at_s in others] == [5, 15, 35, 65, 95]


@pytest.mark.parametrize("serves_from_s", [1.0, 20.0, 70.0, 110.0])
def test_who_begins_to_serve_is_asked_within_half_a_minute(tmp_path: Path, serves_from_s: float) -> None:
    world = World(tmp_path)
    world.serves_from_s = serves_from_s
    try:
        world.fetch()
    except NetError:
        assert serves_from_s > 95
        world.fetch()  # the supplier's next attempt
    assert world.clock.monotonic() < serves_from_s + 35
    assert world.sent == BLOCKS


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, octets_per_s=50_000)
    world.events = {10.0: {"away": True}, 70.0: {"away": False}}
    world.fetch()
    assert world.images.read(world.server.sha256) == IMAGE
    assert 70 + 33 - 10 < world.clock.monotonic() < 70 + 33 + 60
    assert world.sent <= BLOCKS + 8


def test_a_broker_that_stays_away_is_named_and_what_came_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, octets_per_s=50_000)
    world.events = {10.0: {"away": True}}
    with pytest.raises(NetError, match="the broker is away"):
        world.fetch()
    world.hub.away = False
    world.fetch()
    assert world.sent <= BLOCKS + 8


def test_access_rules_that_forbid_it_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.hub.refuses = 0x87
    with pytest.raises(NetError, match=r"refuses mgw/v1/gw/image/\w+/block/\+: not authorized 0x87"):
        world.fetch()


def test_a_stop_is_heard_within_a_fifth_of_a_second(tmp_path: Path) -> None:
    world = World(tmp_path, octets_per_s=50_000)
    world.serves_from_s = 1e9
    stopped_at_s = 42.0
    world.watch.stop = lambda: world.clock.monotonic() >= stopped_at_s
    with pytest.raises(NetError, match="stopped"):
        world.fetch()
    assert world.clock.monotonic() - stopped_at_s < 0.2


def test_an_order_without_a_size_cannot_be_fetched(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(GatewayError, match="needs the size"):
        world.pull(
            Wanted(MQTT_URL, "0" * 64, None), world.images, settings=FirmwareSettings(), watch=world.watch
        )


def test_an_image_that_came_half_from_elsewhere_and_is_wrong_is_fetched_once_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.images.intake(world.server.sha256, len(IMAGE)) as intake:
        intake.write(0, bytes(10 * BLOCK))
    with pytest.raises(GatewayError) as caught:
        world.fetch()
    assert (caught.value.code, caught.value.retryable) == ("F_DIGEST", True)
    world.fetch()
    assert world.images.read(world.server.sha256) == IMAGE


@pytest.mark.parametrize("octets_per_s", [1_500, 5_000, 20_000])
def test_a_slow_line_carries_hardly_anything_twice(tmp_path: Path, octets_per_s: float) -> None:
    world = World(tmp_path, octets_per_s=octets_per_s)
    world.fetch()
    assert world.sent <= 1.1 * BLOCKS
    assert world.clock.monotonic() < 1.15 * len(IMAGE) / octets_per_s + 10


@pytest.mark.parametrize("rate", [20_000, 100_000])
def test_who_serves_keeps_to_its_rate(tmp_path: Path, rate: float) -> None:
    world = World(tmp_path, octets_per_s=1e7)
    world.server._rate = rate
    world.fetch()
    assert world.sent <= 1.05 * BLOCKS
    assert world.clock.monotonic() == pytest.approx(len(IMAGE) / rate, rel=0.1)


def test_half_of_all_blocks_lost_costs_twice_the_blocks_and_little_time(tmp_path: Path) -> None:
    world = World(tmp_path, loses=0.5)
    world.fetch()
    assert world.sent < 2.6 * BLOCKS
    assert world.clock.monotonic() < 120


@pytest.mark.parametrize("seed", range(12))
def test_whatever_lines_and_brokers_do_the_image_comes(tmp_path: Path, seed: int) -> None:
    """The same again from the same seed."""
    chance = random.Random(seed)
    world = World(
        tmp_path,
        seed,
        image=made_up(chance.randrange(1, 60 * BLOCK), seed),
        loses=chance.choice([0.0, 0.1, 0.5]),
        breaks=chance.choice([0.0, 0.005, 0.02]),
        octets_per_s=chance.choice([5_000, 100_000, 1e7]),
        max_packet_size=chance.choice([700, 5_000, 20_000, 1 << 20]),
    )
    away_s = chance.uniform(0, 100)
    world.events = {away_s: {"away": True}, away_s + chance.uniform(0, 200): {"away": False}}
    digests = digests_of(world.image) if chance.random() < 0.5 else None
    for _ in range(12):  # the supplier's attempts
        try:
            world.fetch(digests=digests)
            break
        except NetError:
            world.clock.advance(30)
    assert world.images.read(world.server.sha256) == world.image
