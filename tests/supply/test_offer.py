"""Who serves an image: whose turn it is, and what is not done for a gateway however it asks."""

from __future__ import annotations

import pytest

from gateway.errors import SizeError
from gateway.supply.block_get import Get
from gateway.supply.offer import LARGEST_BLOCK_BYTES, Offer

SIZE = 1600


def get(
    bitmap: bytes = b"\xff\xff", *, first: int = 0, credit: int = 4, size: int = SIZE, block: int = 100
) -> Get:
    return Get(size, block, first, bitmap, credit)


def sent(offer: Offer) -> list[tuple[str, int]]:
    """Everything that is to go now."""
    blocks = []
    while (wanted := offer.next_block()) is not None:
        blocks.append(wanted[:2])
    return blocks


def test_what_a_get_grants_is_sent_once() -> None:
    offer = Offer(SIZE)
    offer.heard("gw", get())
    assert sent(offer) == [("gw", number) for number in range(4)]
    assert sent(offer) == []
    offer.heard("gw", get(b"\x0f\xff"))
    assert sent(offer) == [("gw", number) for number in range(4, 8)]


def test_what_waits_already_is_not_sent_twice() -> None:
    offer = Offer(SIZE)
    for _ in range(3):
        offer.heard("gw", get())
    assert sent(offer) == [("gw", number) for number in range(4)]


def test_gateways_take_turns_whoever_asked_first_and_for_how_much() -> None:
    offer = Offer(SIZE)
    offer.heard("a", get(credit=16))
    offer.heard("b", get(credit=2))
    offer.heard("c", get(b"\x80", first=9))
    assert sent(offer)[:6] == [("a", 0), ("b", 0), ("c", 9), ("a", 1), ("b", 1), ("a", 2)]


def test_each_gateway_cuts_the_image_as_its_broker_wants() -> None:
    offer = Offer(SIZE)
    offer.heard("a", get(b"\x80"))
    offer.heard("b", get(b"\x80", first=3, block=50))
    assert offer.next_block() == ("a", 0, 100)
    assert offer.next_block() == ("b", 3, 50)


def test_what_waits_is_cut_as_the_gateway_wants_it_now() -> None:
    offer = Offer(SIZE)
    offer.heard("a", get(b"\x80"))
    offer.heard("a", get(b"\x80", block=50))
    assert offer.next_block() == ("a", 0, 50)


def test_how_far_each_one_is() -> None:
    offer = Offer(SIZE)
    offer.heard("gw", get(b"\xff", first=8))
    standing = offer.standings["gw"]
    assert (standing.blocks_done, standing.blocks_total, standing.done) == (8, 16, False)
    offer.heard("gw", get(b"", first=16, credit=0))
    assert (standing.blocks_done, standing.done) == (16, True)
    offer.heard("gw", get(b"\x01", first=0))
    assert not standing.done, "it lost it, and asks again"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": SIZE + 1}, "1601 octets, the image has 1600"),
        ({"block": LARGEST_BLOCK_BYTES + 1}, "1048576 are"),
    ],
    ids=["another size", "huge blocks"],
)
def test_who_asks_for_what_there_is_not_is_told(change: dict[str, int], words: str) -> None:
    offer = Offer(SIZE)
    with pytest.raises(SizeError, match=words):
        offer.heard("gw", get(**change))
    assert offer.standings == {}


def test_no_credit_however_large_makes_more_than_four_mib_wait() -> None:
    offer = Offer(1 << 30)
    offer.heard("gw", get(b"\xff" * 1000, size=1 << 30, block=1 << 20, credit=1 << 40))
    assert len(sent(offer)) == 4


@pytest.mark.parametrize("block", [1, 1024, 16 * 1024])
def test_however_often_a_gateway_asks_no_more_than_that_waits_for_it(block: int) -> None:
    """And of tiny blocks no more than a few thousand: each costs the memory of a number, and a packet."""
    size = 64 << 20
    offer = Offer(size)
    for first in range(0, 400_000, 40_000):
        offer.heard("gw", get(b"\xff" * 5000, first=first, credit=1 << 40, size=size, block=block))
    assert len(sent(offer)) <= min(4096, (4 << 20) // block)


def test_no_more_gateways_than_memory_bears() -> None:
    offer = Offer(SIZE)
    for number in range(10_000):
        offer.heard(f"gw-{number}", get(b""))
    with pytest.raises(SizeError, match="one too many"):
        offer.heard("gw-10000", get())
    offer.heard("gw-0", get())
    assert len(sent(offer)) == 4


def test_a_gateway_that_gets_nothing_of_what_was_sent_is_remarked_once() -> None:
    offer = Offer(SIZE)
    remarks = []
    for _ in range(12):
        remarks.append(offer.heard("gw", get()))
        sent(offer)
    assert [remark for remark in remarks if remark] == [
        "gw asks for block 0 again and again: may we publish its blocks?"
    ]


def test_what_waited_for_a_connection_that_was_lost_is_not_sent_over_the_next() -> None:
    offer = Offer(SIZE)
    offer.heard("gw", get())
    offer.forget()
    assert sent(offer) == []
    offer.heard("gw", get())
    assert len(sent(offer)) == 4
