"""Pulling an image block by block: what is asked for, what is taken, what is asked for again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DigestError, NetError, SchemaError, SizeError
from gateway.supply.block_get import Get, block_count
from gateway.supply.blocks import BLOCK_BYTES, SILENCE_S, Pull
from gateway.supply.source import BlockDigests

SIZE = 20 * BLOCK_BYTES + 777
IMAGE = random.Random(7).randbytes(SIZE)
ROOM = 1 << 20


def digests_of(image: bytes, block: int) -> BlockDigests:
    cuts = range(0, len(image), block)
    return BlockDigests(block, tuple(hashlib.sha256(image[at : at + block]).hexdigest() for at in cuts))


def block_of(get: Get, number: int, image: bytes = IMAGE) -> bytes:
    return image[number * get.block : (number + 1) * get.block]


@dataclass
class Desk:
    """A pull, what it wrote, and the clock it is told."""

    digests: BlockDigests | None = None
    room: int = ROOM
    now_s: float = 1000.0
    written: bytearray = field(default_factory=lambda: bytearray(SIZE))
    writes: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pull = Pull(SIZE, self.digests, now_s=self.now_s)
        self.pull.begin(self.room, ())

    def begin_again(self) -> None:
        """The next try, with what was written by the one before."""
        self.pull = Pull(SIZE, self.digests, now_s=self.now_s)
        self.pull.begin(self.room, [(offset, offset + length) for offset, length in self.writes])

    def ask(self) -> Get:
        get = self.pull.next_get(self.now_s)
        assert get is not None
        return get

    def come(self, number: int, content: bytes) -> None:
        for offset, octets in self.pull.take(number, content, self.now_s):
            self.written[offset : offset + len(octets)] = octets
            self.writes.append((offset, len(octets)))

    def answer(self, get: Get, numbers: Iterable[int] | None = None) -> None:
        for number in get.granted() if numbers is None else numbers:
            self.now_s += 0.01
            self.come(number, block_of(get, number))

    def finish(self) -> None:
        while not self.pull.whole:
            self.now_s += 0.01
            if get := self.pull.next_get(self.now_s):
                self.answer(get)
        assert self.written == IMAGE


# -- the document -------------------------------------------------------------------------------------------------


def test_a_get_is_the_document_of_the_contract() -> None:
    get = Get(262144, 16384, 0, b"\x80\x01", 8)
    assert json.loads(get.encode()) == {
        "size": 262144, "block": 16384, "from": 0, "bitmap": "gAE=", "credit": 8,
    }  # fmt: skip
    assert Get.decode(get.encode()) == get


@pytest.mark.parametrize(
    ("first", "bitmap", "credit", "granted"),
    [
        (0, b"\x80", 8, [0]),
        (0, b"\x01", 8, [7]),
        (0, b"\xa0\x40", 8, [0, 2, 9]),
        (3, b"\xa0\x40", 8, [3, 5, 12]),
        (0, b"\xff\xff", 3, [0, 1, 2]),
        (0, b"\x00\x00\x00\x01", 8, []),
        (14, b"\xff", 99, [14, 15]),
        (16, b"\xff", 99, []),
        (0, b"\xff", 0, []),
        (0, b"", 9, []),
    ],
    ids=[
        "the first bit", "the eighth bit", "some", "from another block on", "no more than the credit",
        "none beyond the image", "the last of the image", "after the image", "no credit", "no bits",
    ],
)  # fmt: skip
def test_which_blocks_a_get_grants(first: int, bitmap: bytes, credit: int, granted: list[int]) -> None:
    assert Get(16 * 100, 100, first, bitmap, credit).granted() == granted


def test_the_page_for_whoever_writes_a_head_end_has_an_example_that_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mqtt-images.md").read_text("utf-8")
    [example] = re.findall(r'^{"size".*}$', page, flags=re.MULTILINE)
    get = Get.decode(example.encode())
    assert "`10111100`: blocks 5, 7, 8, 9 and 10 are missing, and 5, 7, 8 and 9 are to be sent" in page
    assert replace(get, credit=99).granted() == [5, 7, 8, 9, 10]
    assert get.granted() == [5, 7, 8, 9]


GOOD = {"size": 1000, "block": 100, "from": 0, "bitmap": "gA==", "credit": 8}


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff\xfe", b"[]", b"null", b"[" * 50_000, json.dumps({**GOOD, "x": "y" * 70_000}).encode(),
        *(
            json.dumps({**GOOD, **change}).encode()
            for change in (
                {"size": 0}, {"size": 1e3}, {"size": "1000"}, {"size": 1 << 60}, {"block": 0}, {"block": -1},
                {"block": True}, {"from": -1}, {"credit": -1}, {"credit": None}, {"credit": 1.5},
                {"bitmap": "g"}, {"bitmap": "g!=="}, {"bitmap": 7}, {"bitmap": "é"},
            )
        ),
        *(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode() for name in GOOD),
    ],
)  # fmt: skip
def test_what_is_no_get_is_refused(payload: bytes) -> None:
    with pytest.raises(SchemaError):
        Get.decode(payload)


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_get_or_refused(payload: bytes) -> None:
    with contextlib.suppress(SchemaError):
        Get.decode(payload)


# -- what is asked for --------------------------------------------------------------------------------------------


def test_the_first_get_asks_for_the_first_blocks_and_tells_all_that_is_missing() -> None:
    get = Desk().ask()
    assert (get.size, get.block, get.first, get.credit) == (SIZE, BLOCK_BYTES, 0, 8)
    assert get.bitmap == b"\xff\xff\xf8"  # 21 blocks
    assert get.granted() == list(range(8))


def test_what_was_asked_for_and_may_still_come_is_not_asked_for_again() -> None:
    desk = Desk()
    first = desk.ask()
    assert desk.pull.next_get(desk.now_s) is None
    desk.answer(first, [0, 1, 2])
    assert desk.pull.next_get(desk.now_s) is None  # more than half is under way
    desk.answer(first, [3])
    second = desk.ask()
    assert (second.first, second.credit, second.granted()) == (8, 4, [8, 9, 10, 11])


def test_a_whole_image_comes_with_every_block_asked_for_once() -> None:
    desk = Desk()
    asked: list[int] = []
    while not desk.pull.whole:
        get = desk.ask()
        asked += get.granted()
        desk.answer(get)
    assert asked == list(range(21))
    assert desk.written == IMAGE
    told = desk.pull.nothing_missing()
    assert told.nothing_missing and told.granted() == [] and told.first == 21


def test_only_what_is_not_stored_is_asked_for() -> None:
    pull = Pull(SIZE, now_s=0.0)
    pull.begin(
        ROOM, [(0, 2 * BLOCK_BYTES + 5), (3 * BLOCK_BYTES - 5, 5 * BLOCK_BYTES), (20 * BLOCK_BYTES, SIZE)]
    )
    get = pull.next_get(0.0)
    assert get is not None
    assert get.first == 2
    assert get.granted() == [2, 5, 6, 7, 8, 9, 10, 11]
    assert block_count(SIZE, BLOCK_BYTES) == 21
    assert [bit for octet in get.bitmap for bit in f"{octet:08b}"][18 : 19 + 1] == ["0", "0"]  # 20 is here


def test_a_long_bitmap_is_told_piece_by_piece() -> None:
    pull = Pull(1 << 30, now_s=0.0)
    pull.begin(ROOM, ())
    get = pull.next_get(0.0)
    assert get is not None
    assert len(get.bitmap) == 256
    assert len(get.encode()) < 512


# -- the size of a block ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "digest_bytes", "block"),
    [
        (ROOM, 0, 16384),
        (16384, 0, 16384),
        (16383, 0, 8192),
        (300, 0, 256),
        (ROOM, 4096, 4096),
        (ROOM, 65536, 16384),
        (ROOM, 262144, 16384),
        (20000, 50000, 12500),
        (16000, 65536, 8192),
        (300, 16384, 256),
        (300, 10007, 256),  # a prime: its digests cannot be used
        (ROOM, 1 << 22, 16384),  # too much to wait for in memory
    ],
)
def test_blocks_fit_the_packets_of_the_broker_and_the_digests_of_the_manifest(
    room: int, digest_bytes: int, block: int
) -> None:
    digests = digests_of(IMAGE, digest_bytes) if digest_bytes else None
    desk = Desk(digests, room)
    get = desk.ask()
    assert get.block == block
    assert len(get.encode()) <= room
    desk.answer(get)
    desk.finish()


def test_a_broker_with_packets_too_small_for_anything_is_told() -> None:
    with pytest.raises(NetError, match="room for 100 octets"):
        Desk(room=100)


def test_digests_of_another_image_are_refused() -> None:
    with pytest.raises(SizeError, match="2 digests"):
        Pull(SIZE, digests_of(IMAGE[: 2 * BLOCK_BYTES], BLOCK_BYTES), now_s=0.0)


def test_a_broker_that_takes_less_than_the_last_one_gets_smaller_blocks_and_nothing_is_lost() -> None:
    desk = Desk()
    desk.answer(desk.ask(), range(5))
    desk.pull.begin(5000, [(0, 5 * BLOCK_BYTES)])
    get = desk.ask()
    assert (get.block, get.first) == (4096, 20)
    desk.answer(get)
    desk.finish()


# -- what comes ---------------------------------------------------------------------------------------------------


def test_duplicates_cost_nothing() -> None:
    desk = Desk()
    get = desk.ask()
    for _ in range(3):
        desk.answer(get)
    assert len(desk.writes) == 8
    desk.finish()
    assert len(desk.writes) == 21


@pytest.mark.parametrize("number", [21, 22, 10**8])
def test_a_block_of_no_number_is_left_alone(number: int) -> None:
    desk = Desk()
    desk.ask()
    for _ in range(100):
        desk.come(number, bytes(BLOCK_BYTES))
    assert desk.writes == []
    desk.finish()


def test_a_block_that_nobody_asked_for_is_taken_all_the_same() -> None:
    desk = Desk()
    get = desk.ask()
    desk.come(19, block_of(get, 19))
    assert desk.writes == [(19 * BLOCK_BYTES, BLOCK_BYTES)]
    desk.finish()


@pytest.mark.parametrize("content", [b"", bytes(BLOCK_BYTES - 1), bytes(BLOCK_BYTES + 1)], ids=len)
def test_a_block_of_the_wrong_length_is_asked_for_again(content: bytes) -> None:
    desk = Desk()
    get = desk.ask()
    desk.come(0, content)
    desk.answer(get, range(1, 5))
    assert desk.ask().granted()[0] == 0
    assert (0, len(content)) not in desk.writes
    desk.finish()


def test_the_last_block_has_a_length_of_its_own() -> None:
    desk = Desk()
    get = desk.ask()
    desk.come(20, bytes(BLOCK_BYTES))
    assert desk.writes == []
    desk.come(20, block_of(get, 20))
    assert desk.writes == [(20 * BLOCK_BYTES, 777)]


def test_with_digests_a_bad_block_costs_one_block() -> None:
    desk = Desk(digests_of(IMAGE, BLOCK_BYTES))
    get = desk.ask()
    desk.come(0, bytes(BLOCK_BYTES))
    desk.answer(get, range(1, 5))
    assert [offset for offset, _ in desk.writes] == [BLOCK_BYTES * number for number in range(1, 5)]
    assert desk.ask().granted()[0] == 0
    desk.finish()
    assert len(desk.writes) == 21


def test_a_block_with_a_digest_that_comes_in_pieces_is_written_when_all_of_it_is_right() -> None:
    desk = Desk(digests_of(IMAGE, BLOCK_BYTES), room=5000)
    get = desk.ask()
    assert get.block == 4096
    desk.answer(get, [0, 1, 2])
    desk.come(3, bytes(4096))
    assert desk.writes == []
    desk.answer(get, range(4, 20))
    assert desk.writes == [(number * BLOCK_BYTES, BLOCK_BYTES) for number in (1, 2, 3, 4)]
    assert desk.ask().granted()[:4] == [0, 1, 2, 3]
    desk.finish()
    assert all(length in (BLOCK_BYTES, 777) for _, length in desk.writes)


def test_pieces_that_wait_for_others_outlive_a_broken_connection() -> None:
    desk = Desk(digests_of(IMAGE, BLOCK_BYTES), room=5000)
    get = desk.ask()
    desk.answer(get, [0, 1, 2])
    desk.pull.begin(5000, ())
    assert desk.ask().granted()[0] == 3


def test_whoever_sends_pieces_that_never_become_a_whole_fills_no_memory() -> None:
    """A broker that is not ours any more may send what it likes; what nobody can check yet is held in memory."""
    image = random.Random(8).randbytes(8 << 20)
    whole, piece = 64 * 1024, 16 * 1024
    pull = Pull(len(image), digests_of(image, whole), now_s=0.0)
    pull.begin(ROOM, ())
    tracemalloc.start()
    for start in range(0, len(image), whole):
        for place in range(start + piece, start + whole, piece):
            assert pull.take(place // piece, bytes(bytearray(piece)), 0.0) == []
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 1 << 20
    now_s = 1.0
    while not pull.whole:
        for number in (pull.next_get(now_s) or pytest.fail("nothing is asked for")).granted():
            pull.take(number, image[number * piece : (number + 1) * piece], now_s)
            now_s += 0.01


def test_what_is_stored_of_a_block_with_a_digest_counts_only_as_a_whole() -> None:
    desk = Desk(digests_of(IMAGE, BLOCK_BYTES), room=5000)
    desk.pull.begin(9000, [(0, BLOCK_BYTES + 8192)])
    get = desk.ask()
    assert (get.block, get.first) == (8192, 2)
    desk.written[:BLOCK_BYTES] = IMAGE[:BLOCK_BYTES]
    desk.answer(get)
    desk.finish()


@pytest.mark.parametrize(
    ("digests", "content", "error"),
    [
        (None, b"short", SizeError),
        (digests_of(IMAGE, BLOCK_BYTES), bytes(BLOCK_BYTES), DigestError),
    ],
    ids=["length", "octets"],
)
def test_a_block_that_stays_wrong_ends_the_fetch(
    digests: BlockDigests | None, content: bytes, error: type[Exception]
) -> None:
    desk = Desk(digests)
    desk.ask()
    for _ in range(4):
        desk.come(2, content)
    with pytest.raises(error):
        desk.come(2, content)


# -- what is lost -------------------------------------------------------------------------------------------------


def test_a_block_that_three_others_overtook_is_asked_for_again() -> None:
    desk = Desk()
    first = desk.ask()
    desk.answer(first, [1, 2])
    assert desk.pull.next_get(desk.now_s) is None
    desk.answer(first, [3, 4])
    assert desk.ask().granted() == [0, 8, 9, 10, 11]


def test_blocks_that_change_places_are_not_lost() -> None:
    desk = Desk()
    get = desk.ask()
    desk.answer(get, [1, 0, 3, 2])
    assert desk.ask().granted() == [8, 9, 10, 11]


def test_after_silence_little_is_asked_for_and_ever_more_seldom_until_something_comes() -> None:
    desk = Desk()
    first = desk.ask()
    start_s, asked_at = desk.now_s, []
    while not desk.pull.hopeless(desk.now_s):
        desk.now_s += 0.5
        if get := desk.pull.next_get(desk.now_s):
            assert get.granted() == [0, 1, 2, 3][: get.credit]
            assert get.bitmap == first.bitmap
            asked_at.append((desk.now_s - start_s, get.credit))
    assert asked_at == [(5.0, 4), (15.0, 2), (35.0, 2), (65.0, 2), (95.0, 2)]
    assert desk.now_s - start_s == pytest.approx(SILENCE_S, abs=1.0)


def test_a_silence_that_ends_is_forgotten() -> None:
    desk = Desk()
    desk.ask()
    granted = []
    desk.now_s += 100
    for _ in range(4):
        get = desk.ask()
        granted.append(get.credit)
        desk.answer(get)
    assert granted == [4, 8, 8, 8]
    assert not desk.pull.hopeless(desk.now_s + 100)


def test_a_quick_line_is_asked_again_sooner_than_a_slow_one() -> None:
    def waited_s(round_trip_s: float) -> float:
        desk = Desk()
        for _ in range(2):
            get = desk.ask()
            desk.now_s += round_trip_s
            for number in get.granted():
                desk.come(number, block_of(get, number))
        desk.ask()
        start_s = desk.now_s
        while desk.pull.next_get(desk.now_s) is None:
            desk.now_s += 0.1
        return desk.now_s - start_s

    assert waited_s(0.001) < 1.0
    assert waited_s(5.0) > 5.0


def test_a_connection_that_was_away_for_long_makes_nobody_slow() -> None:
    desk = Desk()
    desk.answer(desk.ask(), range(4))
    desk.ask()
    desk.now_s += 60
    desk.pull.begin(ROOM, [(0, 4 * BLOCK_BYTES)])
    desk.answer(desk.ask())
    desk.ask()
    desk.now_s += 1
    assert desk.pull.next_get(desk.now_s) is not None


def test_a_slow_line_is_not_taken_for_a_dead_one() -> None:
    """2 KiB/s: a block each 8 seconds, and what was asked for comes in the end."""
    desk = Desk()
    sent = 0
    queue: list[int] = []
    while not desk.pull.whole:
        if get := desk.pull.next_get(desk.now_s):
            queue += get.granted()
        desk.now_s += 8
        number = queue.pop(0)
        desk.come(number, block_of(get or Get(SIZE, BLOCK_BYTES, 0, b"", 0), number))
        sent += 1
    assert desk.written == IMAGE
    assert sent == 21


def test_nothing_of_an_earlier_connection_is_waited_for() -> None:
    desk = Desk()
    desk.answer(desk.ask(), [0])
    desk.pull.begin(ROOM, [(0, BLOCK_BYTES)])
    assert desk.ask().granted() == list(range(1, 9))


Fate = Callable[[random.Random, int], list[Any]]


@pytest.mark.parametrize("with_digests", [False, True], ids=["no digests", "digests"])
@given(seed=st.integers(0, 2**32), loses=st.floats(0, 0.7), room=st.sampled_from([2500, 5000, 20000, ROOM]))
def test_whatever_is_lost_doubled_shuffled_and_garbled_the_image_comes_whole(
    with_digests: bool, seed: int, loses: float, room: int
) -> None:
    """What is on the way: late, twice, in another order, cut short, and (where digests tell) with other octets."""
    chance = random.Random(seed)
    desk = Desk(digests_of(IMAGE, BLOCK_BYTES) if with_digests else None, room)
    under_way: list[tuple[float, int, bytes]] = []
    garbled = 0
    tries = 1
    while not desk.pull.whole:
        if desk.pull.hopeless(desk.now_s):
            assert (tries := tries + 1) < 5
            desk.begin_again()
        if get := desk.pull.next_get(desk.now_s):
            for number in get.granted():
                if chance.random() < loses:
                    continue
                content = block_of(get, number)
                copies = 1 + (chance.random() < 0.1)
                under_way += [(desk.now_s + chance.uniform(0.05, 0.1), number, content)] * copies
                if garbled < 4 and chance.random() < 0.05:
                    garbled += 1
                    bad = bytes(len(content)) if with_digests else content[:-1]
                    under_way.append((desk.now_s, number, bad))
        under_way.sort()
        if under_way:
            at_s, number, content = under_way.pop(0)
            desk.now_s = max(at_s, desk.now_s)
            desk.come(number, content)
        else:
            desk.now_s += 0.25
    assert desk.written == IMAGE
    assert sum(length for _, length in desk.writes) == SIZE
