"""Broadcast or unicast: the pure rules, on tables and as properties over all sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import (
    BitmapOrder,
    Framing,
    ImageTransferStatus,
    Meter,
    MeterKeys,
    PortKind,
    PortSettings,
    Profile,
    Security,
)
from gateway.transfer import BlockSet, broadcast
from gateway.transfer.blocks import missing_somewhere

BUS = PortSettings("bus", PortKind.RS485, device="/dev/x")
ABLE = Meter("m", "bus", security=Security.BOTH, profile=Profile(broadcast=True))
KEYS = MeterKeys(bytes(16), bytes(16), broadcast_key=bytes(16))

AT_9600 = broadcast.line_costs(block_size=512, total=512, octet_s=10 / 9600, gap_s=0.02)
"""The bus of the benchmark: 0.63 s, 0.61 s and 0.22 s."""

costs = st.builds(
    broadcast.Costs,
    alone_s=st.floats(0.001, 10),
    shared_s=st.floats(0.001, 10),
    look_s=st.floats(0.001, 10),
)


# -- who can at all -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meter", "keys", "port", "why"),
    [
        (ABLE, KEYS, BUS, ""),
        (replace(ABLE, security=Security.NONE), MeterKeys(), BUS, ""),
        (replace(ABLE, security=Security.AUTHENTICATION), KEYS, BUS, ""),
        (ABLE, replace(KEYS, broadcast_key=b""), BUS, "broadcast_key"),
        (ABLE, replace(KEYS, authentication_key=b""), BUS, "authentication_key"),
        (replace(ABLE, profile=Profile()), KEYS, BUS, "not set"),
        (replace(ABLE, profile=Profile(broadcast=True, bitmap=BitmapOrder.IGNORE)), KEYS, BUS, "bitmap"),
        (replace(ABLE, profile=Profile(broadcast=True, in_order_only=True)), KEYS, BUS, "in_order_only"),
        (ABLE, KEYS, replace(BUS, kind=PortKind.OPTICAL), "RS-485"),
        (ABLE, KEYS, PortSettings("lan", PortKind.TCP, framing=Framing.WRAPPER), "RS-485"),
        (ABLE, KEYS, PortSettings("lan", PortKind.TCP, framing=Framing.HDLC), "RS-485"),
    ],
)  # fmt: skip
def test_what_of_a_configuration_rules_broadcast_out(meter, keys, port, why):
    found = broadcast.unable_to_hear_all(meter, keys, port)
    assert (why in found) if why else not found


def test_a_block_that_does_not_fit_is_told_with_both_sizes():
    assert broadcast.does_not_fit(ABLE, 84, 84) == ""
    told = broadcast.does_not_fit(ABLE, 512, 84)
    assert "512 octets" in told
    assert "at most 84 fit" in told


def test_only_an_initiated_meter_would_store_what_is_not_for_it():
    assert [status for status in ImageTransferStatus if broadcast.unsafe(status)] == [
        ImageTransferStatus.INITIATED
    ]


# -- who stays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "total", "members", "alone"),
    [
        (512, 512, 2, False),
        (512, 512, 32, False),
        (5, 512, 32, True),  # what 1 % of loss leaves
        (12, 512, 32, True),
        (25, 512, 32, False),  # what 5 % leaves
        (51, 512, 32, False),
        (1, 512, 2, True),
        (512, 512, 1, True),  # there is nobody to share with
        (3, 3, 2, False),  # even an image of three blocks: 1.5 of them and a look
        (3, 512, 2, True),  # where they need not be the same three
    ],
)
def test_few_missing_blocks_go_by_unicast_and_many_by_broadcast(missing, total, members, alone):
    assert broadcast.repair_alone(missing, total=total, members=members, costs=AT_9600) is alone


@given(total=st.integers(1, 20_000), members=st.integers(1, 100), costs=costs, data=st.data())
def test_whoever_goes_alone_would_with_fewer_missing_as_well(total, members, costs, data):
    # Where a block costs less when it is shared it pays off the more, the more are missing.
    missing = data.draw(st.integers(1, total))
    fewer = data.draw(st.integers(0, missing))
    costs = replace(costs, shared_s=min(costs.alone_s, costs.shared_s))
    if broadcast.repair_alone(missing, total=total, members=members, costs=costs):
        assert broadcast.repair_alone(fewer, total=total, members=members, costs=costs)


@given(missing=st.integers(1, 20_000), members=st.integers(2, 100), costs=costs)
def test_a_share_never_costs_more_than_the_whole_of_ones_own(missing, members, costs):
    """Whoever stays is served for no more than unicast would have cost it, as long as the others miss as much."""
    total = 20_000
    if not broadcast.repair_alone(missing, total=total, members=members, costs=costs):
        share_s = min(total / members, missing) * costs.shared_s + costs.look_s
        assert share_s < missing * costs.alone_s


@given(total=st.integers(1, 5000), missing=st.integers(0, 5000), costs=costs)
def test_nobody_waits_for_a_group_of_one(total, missing, costs):
    assert broadcast.repair_alone(min(missing, total), total=total, members=1, costs=costs)


@given(
    block_size=st.integers(16, 2000), total=st.integers(1, 70_000),
    baud=st.sampled_from([300, 9600, 115200]), gap_s=st.floats(0, 1),
)  # fmt: skip
def test_costs_follow_the_line(block_size, total, baud, gap_s):
    slow = broadcast.line_costs(block_size=block_size, total=total, octet_s=10 / baud, gap_s=gap_s)
    assert slow.alone_s > block_size * 10 / baud
    assert slow.shared_s >= block_size * 10 / baud + gap_s
    assert slow.look_s > total / 8 * 10 / baud


# -- rounds ---------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=5, max_size=5), min_size=1, max_size=6), st.integers(33, 40))
def test_a_round_has_what_at_least_one_misses(bitmaps, total):
    sets = [BlockSet(total, octets) for octets in bitmaps]
    assert missing_somewhere(sets) == [
        block for block in range(total) if any(block not in blocks for blocks in sets)
    ]


def test_nobody_misses_nothing():
    assert missing_somewhere([]) == []
    assert missing_somewhere([BlockSet(3, b"\xe0")]) == []


def test_the_pilot_is_a_few_blocks_and_the_next_round_all():
    assert broadcast.round_of(range(100), pilot=True) == [0, 1, 2, 3]
    assert broadcast.round_of(range(100), pilot=False) == list(range(100))
    assert broadcast.round_of([7], pilot=True) == [7]


@pytest.mark.parametrize(
    ("gained", "sent", "paid"),
    [
        ([507] * 32, 512, True),
        ([256, 256], 256, True),
        ([256, 0], 512, False),  # unicast would have brought twice as much meanwhile
        ([1] * 32, 512, False),
        ([0, 0], 1, False),
        ([5] * 32, 140, True),
    ],
)
def test_a_round_that_brings_less_than_unicast_was_the_last(gained, sent, paid):
    assert broadcast.paid_off(gained, sent=sent, costs=AT_9600) is paid
