"""A block set counts like a set of numbers, and reads like the meter's bitmap."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.transfer import BlockSet


@st.composite
def totals_and_blocks(draw):
    total = draw(st.integers(1, 300))
    return total, draw(st.sets(st.integers(0, total - 1)))


@given(totals_and_blocks())
def test_it_behaves_like_a_set_of_numbers(case):
    total, blocks = case
    ours = BlockSet(total)
    for block in blocks:
        ours.add(block)
    missing = sorted(set(range(total)) - blocks)
    assert ours.count == len(blocks)
    assert ours.first_missing() == (missing[0] if missing else None)
    assert ours.highest() == max(blocks, default=-1)
    assert [block for block in range(total) if block in ours] == sorted(blocks)
    assert bytes(BlockSet(total, bytes(ours))) == bytes(ours)


@given(totals_and_blocks())
def test_filling_the_gaps_in_order_reaches_every_block_once(case):
    total, blocks = case
    ours = BlockSet(total)
    for block in blocks:
        ours.add(block)
    filled = []
    while (block := ours.first_missing()) is not None:
        filled.append(block)
        ours.add(block)
    assert filled == sorted(set(range(total)) - blocks)


@given(totals_and_blocks(), st.sets(st.integers(0, 299)))
def test_lacks_counts_what_another_set_has_more(case, others):
    total, blocks = case
    ours, theirs = BlockSet(total), BlockSet(total)
    for block in blocks:
        ours.add(block)
    for block in {other for other in others if other < total}:
        theirs.add(block)
    assert ours.lacks(theirs) == len({other for other in others if other < total} - blocks)


def test_garbage_beyond_the_last_block_does_not_count():
    """Some meters leave unused bits of a3 set (vector img-bits-dirty)."""
    assert BlockSet(5, b"\xff\xff").count == 5


def test_a_bitmap_that_is_too_short_means_missing_blocks():
    blocks = BlockSet(20, b"\xff")
    assert blocks.count == 8
    assert blocks.first_missing() == 8
