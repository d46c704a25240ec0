"""Images as blocks over a real broker: whatever happens to blocks on their way, the image comes whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from support.block_door import BlockDoor, Fate
from support.block_fetch import BLOCK, Fetching, Serving, digests_of, made_up
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.one_version import OneVersion
from support.patience import eventually

from gateway.errors import DigestError, NetError, SizeError

IMAGE = made_up(60 * BLOCK + 777)
BLOCKS = 61
WINDOW = 8


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def serving(mosquitto: Mosquitto) -> Iterator[Serving]:
    with Serving(mosquitto.url, IMAGE) as serving:
        yield serving


@pytest.fixture
def slowly(mosquitto: Mosquitto) -> Iterator[Serving]:
    """So that something can happen in mid-way: the whole image in two seconds."""
    with Serving(mosquitto.url, IMAGE, rate_bytes_per_s=500_000) as serving:
        yield serving


@pytest.fixture
def door(mosquitto: Mosquitto) -> Iterator[BlockDoor]:
    with BlockDoor(mosquitto.port) as door:
        yield door


# -- an image comes -----------------------------------------------------------------------------------------------


def test_an_image_comes_with_every_block_sent_once_and_whoever_serves_is_told(
    mosquitto: Mosquitto, serving: Serving, tmp_path: Path
) -> None:
    fetching = Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
    assert fetching.content == IMAGE
    eventually(serving.done)
    assert serving.sent() == BLOCKS
    octets, done, totals = zip(*fetching.watch.told, strict=True)
    assert sum(octets) == done[-1] == len(IMAGE)
    assert list(done) == sorted(done)
    assert set(totals) == {len(IMAGE)}
    assert serving.news == []
    assert list((tmp_path / "images").iterdir()) == [tmp_path / "images" / serving.server.sha256]


def test_it_comes_over_mqtt_3_1_1_as_well(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with OneVersion(mosquitto.port) as old, Serving(old.url, IMAGE) as serving:
        assert Fetching(old.url, tmp_path, IMAGE).start().content == IMAGE
        assert serving.sent() == BLOCKS


def test_what_goes_over_the_broker_is_what_the_contract_says(
    mosquitto: Mosquitto, serving: Serving, tmp_path: Path
) -> None:
    with HeadEnd(mosquitto.port, "mgw/v1/#") as head_end:
        assert Fetching(mosquitto.url, tmp_path, IMAGE).start().content == IMAGE
        topic = f"mgw/v1/gw/image/{serving.server.sha256}"
        heard = head_end.wait_for(f"{topic}/block/60")
        assert [one.payload for one in heard] == [IMAGE[60 * BLOCK :]]
        first = head_end.heard(f"{topic}/get")[0]
        assert first.document == {
            "size": len(IMAGE), "block": 16384, "from": 0, "bitmap": "//////////g=", "credit": 8,
        }  # fmt: skip
        eventually(lambda: head_end.heard(f"{topic}/get")[-1].document["credit"] == 0)
        assert head_end.heard(f"{topic}/get")[-1].document["from"] == BLOCKS
        assert not any(one.retain for one in head_end.heard())
    log = mosquitto.log()
    assert "Received PUBLISH from mgw-gw-bulk (d0, q1, r0" in log
    assert "Sending PUBLISH to mgw-gw-bulk (d0, q0, r0" in log


def test_blocks_are_no_larger_than_the_packets_of_the_broker(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", settings="max_packet_size 5000") as small,
        Serving(small.url, IMAGE) as serving,
    ):
        fetching = Fetching(small.url, tmp_path / "images", IMAGE, digests=digests_of(IMAGE))
        assert fetching.start().content == IMAGE
        assert serving.sent() == -(-len(IMAGE) // 4096)


def test_several_gateways_are_served_at_once(mosquitto: Mosquitto, serving: Serving, tmp_path: Path) -> None:
    gateways = [f"gw-{number}" for number in range(4)]
    fetching = [Fetching(mosquitto.url, tmp_path / name, IMAGE, gateway=name).start() for name in gateways]
    assert all(one.content == IMAGE for one in fetching)
    assert [serving.sent(name) for name in gateways] == [BLOCKS] * 4


# -- what happens to blocks ---------------------------------------------------------------------------------------


def dropping_half(seed: int) -> Fate:
    chance = Random(seed)
    return lambda number, content: [(number, content)] if chance.random() < 0.5 else []


def garbling_half(seed: int) -> Fate:
    """The first copy of a block may be wrong, in one of the ways in which a block can be."""
    chance = Random(seed)
    seen: set[int] = set()

    def fate(number: int, content: bytes) -> list[tuple[int, bytes]]:
        if number in seen or chance.random() < 0.5:
            return [(number, content)]
        seen.add(number)
        place = chance.randrange(len(content))
        wrong: list[tuple[int, bytes]] = [
            (number, content[:place]),
            (number, content + b"\0"),
            (number, b""),
            (number, content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]),
            (BLOCKS + number, content),
            (999_999_999, content),
            ((number + 1) % BLOCKS, content),
        ]
        return [chance.choice(wrong)]

    return fate


@pytest.mark.parametrize(
    "fate",
    [
        dropping_half(1),
        lambda number, content: [(number, content)] * 3,
        lambda number, content: [(number, content), (BLOCKS, content), (10**9, content)],
        garbling_half(2),
    ],
    ids=["half are lost", "each comes three times", "with blocks of no number", "some are wrong at first"],
)
def test_the_image_comes_whole_whatever_happens_to_its_blocks(
    door: BlockDoor, serving: Serving, tmp_path: Path, fate: Fate
) -> None:
    door.fate = fate
    fetching = Fetching(door.url, tmp_path, IMAGE, digests=digests_of(IMAGE)).start()
    assert fetching.content == IMAGE
    assert fetching.watch.told[-1][1] == len(IMAGE)


def test_a_bad_block_costs_one_block(door: BlockDoor, serving: Serving, tmp_path: Path) -> None:
    bad = {7, 30, 60}

    def fate(number: int, content: bytes) -> list[tuple[int, bytes]]:
        if number not in bad:
            return [(number, content)]
        bad.remove(number)
        return [(number, bytes(len(content)))]

    door.fate = fate
    assert Fetching(door.url, tmp_path, IMAGE, digests=digests_of(IMAGE)).start().content == IMAGE
    assert serving.sent() == BLOCKS + 3


def test_without_digests_of_blocks_a_wrong_one_shows_at_the_end_and_nothing_is_kept(
    door: BlockDoor, serving: Serving, tmp_path: Path
) -> None:
    door.fate = lambda number, content: [(number, bytes(len(content)) if number == 7 else content)]
    fetching = Fetching(door.url, tmp_path / "images", IMAGE).start()
    with pytest.raises(DigestError):
        _ = fetching.content
    assert list((tmp_path / "images").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(lambda content: bytes(len(content)), DigestError), (lambda content: content[1:], SizeError)],
    ids=["octets", "length"],
)
def test_a_block_that_stays_wrong_ends_the_fetch_and_what_was_good_is_kept(
    door: BlockDoor,
    serving: Serving,
    tmp_path: Path,
    wrong: Callable[[bytes], bytes],
    error: type[Exception],
) -> None:
    door.fate = lambda number, content: [(number, wrong(content) if number == 40 else content)]
    fetching = Fetching(door.url, tmp_path, IMAGE, digests=digests_of(IMAGE)).start()
    with pytest.raises(error):
        _ = fetching.content
    before = serving.sent()
    door.fate = lambda number, content: [(number, content)]
    again = Fetching(door.url, tmp_path, IMAGE, digests=digests_of(IMAGE)).start()
    assert again.content == IMAGE
    assert serving.sent() - before <= BLOCKS - 40 + WINDOW


# -- what happens to connections ----------------------------------------------------------------------------------


def test_a_broken_connection_wastes_no_more_than_was_under_way(
    door: BlockDoor, slowly: Serving, tmp_path: Path
) -> None:
    fetching = Fetching(door.url, tmp_path, IMAGE).start()
    for part in (1, 2, 3):
        eventually(lambda part=part: fetching.reached(part * len(IMAGE) // 5))
        door.break_connections()
    assert fetching.content == IMAGE
    assert slowly.sent() <= BLOCKS + 3 * WINDOW


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_that_goes_away_is_waited_for(
    mosquitto: Mosquitto, slowly: Serving, tmp_path: Path, end: str
) -> None:
    fetching = Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
    eventually(lambda: fetching.reached(len(IMAGE) // 3))
    getattr(mosquitto, end)()
    mosquitto.start()
    assert fetching.content == IMAGE
    assert slowly.sent() <= BLOCKS + 2 * WINDOW
    assert any("no connection to the broker" in news for news in slowly.news)


def test_who_serves_may_end_and_begin_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Serving(mosquitto.url, IMAGE, rate_bytes_per_s=500_000) as first:
        fetching = Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
        eventually(lambda: fetching.reached(len(IMAGE) // 3))
    with Serving(mosquitto.url, IMAGE) as second:
        assert fetching.content == IMAGE
        assert first.sent() + second.sent() <= BLOCKS + 2 * WINDOW


def test_after_a_restart_only_what_is_missing_comes(
    mosquitto: Mosquitto, slowly: Serving, tmp_path: Path
) -> None:
    fetching = Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
    for part in (1, 2, 3):
        eventually(lambda part=part, fetching=fetching: fetching.reached(part * len(IMAGE) // 5))
        assert isinstance(fetching.stop().error, NetError)
        fetching = Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
    assert fetching.content == IMAGE
    assert slowly.sent() <= BLOCKS + 3 * WINDOW


def test_an_image_that_was_here_but_for_its_name_needs_nobody(tmp_path: Path) -> None:
    fetching = Fetching("mqtt://127.0.0.1:9", tmp_path, IMAGE)
    with fetching.images.intake(fetching._wanted.sha256, len(IMAGE)) as intake:
        intake.write(0, IMAGE)
    assert fetching.start().content == IMAGE
