"""A virtual meter's ear for broadcast: what it takes, and everything that it discards without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.bench import TITLE, Bench, an_image

from gateway.model import Authentication, BroadcastFraming, MeterKeys, Security
from gateway.simulator import NONE, Faults, MeterSpec, VirtualClock, VirtualLine, VirtualMeter, What
from gateway.wire import broadcast
from gateway.wire.apdu import obis
from gateway.wire.hdlc import Address, Frame, FrameReader
from gateway.wire.image_transfer import DEFAULT_INSTANCE

IMAGE = an_image(640)
PLAIN = MeterSpec(address=Address(1, 17), block_size=64, broadcast_client=102)
KEYS = MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)), broadcast_key=bytes(range(0xB0, 0xC0)))
CIPHERED = replace(
    PLAIN, authentication=Authentication.HLS_GMAC, security=Security.BOTH, keys=KEYS, client_title=TITLE
)


class Bus:
    """Meters like `spec` at addresses from 17 on, initiated by their own associations."""

    def __init__(self, spec: MeterSpec = PLAIN, count: int = 1, faults: Faults = NONE, *, initiate=True):
        self.meters = [
            VirtualMeter(
                replace(spec, logical_device_name=f"SIM{n}", address=replace(spec.address, lower=17 + n))
                if count > 1
                else spec,
                faults=faults,
                seed=n,
            )
            for n in range(count)
        ]
        self.line = VirtualLine(self.meters, VirtualClock())
        self.benches = [Bench(self.line, meter.spec) for meter in self.meters]
        if initiate:
            for bench in self.benches:
                bench.connect().associate()
                assert bench.initiate(IMAGE) == 0
                bench.disconnect()

    def say(self, *numbers: int, sender: broadcast.BlockBroadcast, counter: int = 1, change=None) -> None:
        for number in numbers:
            octets = sender.frame(number, IMAGE[number * 64 :][:64], counter + number)
            if change is not None:
                (frame,) = FrameReader().feed(octets)
                assert isinstance(frame, Frame)
                octets = change(frame).encode()
            self.line.write(octets)
        assert self.line.read(4096, 2.0) == b""

    def has(self, meter: int = 0) -> list[int]:
        """The blocks that are stored, as its bitmap shows them."""
        bench = self.benches[meter]
        bench.connect().associate()
        missing = bench.missing(IMAGE)
        bench.disconnect()
        return [number for number in range(10) if number not in missing]


def sender(octets: int = 2, upper: int = 1, client: int = 102, **sealing) -> broadcast.BlockBroadcast:
    sealed_by = None
    if sealing:
        sealed_by = broadcast.protection(
            **{
                "broadcast_key": KEYS.broadcast_key, "authentication_key": KEYS.authentication_key,
                "own_title": TITLE, "general": False,
            } | sealing
        )  # fmt: skip
    stations = broadcast.all_stations(upper, octets)
    return broadcast.BlockBroadcast(stations, client, instance=DEFAULT_INSTANCE, sealed_by=sealed_by)


def test_every_meter_of_the_line_stores_the_block_and_none_answers():
    bus = Bus(count=3)
    bus.say(0, 3, 9, sender=sender())
    assert [bus.has(n) for n in range(3)] == [[0, 3, 9]] * 3
    assert bus.meters[1].history.count(What.BROADCAST) == 3


def test_it_is_taken_in_the_middle_of_an_association_as_well():
    bus = Bus()
    (bench,) = bus.benches
    bench.connect().associate()
    bus.say(2, sender=sender())
    assert 2 not in bench.missing(IMAGE)


def test_a_meter_that_was_not_initiated_discards_it_silently():
    bus = Bus(initiate=False)
    bus.say(0, sender=sender())
    assert bus.meters[0].history.count(What.BLOCK) == 0
    assert bus.meters[0].history.count(What.REFUSED) == 0


@pytest.mark.parametrize(
    ("own", "octets", "upper", "taken"),
    [
        (Address(1), 1, 1, True),
        (Address(1), 2, 1, True),
        (Address(1), 4, 1, False),
        (Address(1), 4, 0x3FFF, True),
        (Address(1, 17), 1, 1, False),
        (Address(1, 17), 2, 1, True),
        (Address(1, 17), 2, 2, False),
        (Address(1, 17), 2, 0x7F, True),
        (Address(1, 17), 4, 1, False),
        (Address(1, 17, 4), 1, 1, False),
        (Address(1, 17, 4), 2, 1, False),
        (Address(1, 17, 4), 4, 1, True),
        (Address(1, 17, 4), 4, 2, False),
        (Address(1, 17, 4), 4, 0x3FFF, True),
    ],
)
def test_the_length_of_the_all_station_address_must_suit_the_meters_own(own, octets, upper, taken):
    bus = Bus(replace(PLAIN, address=own))
    bus.say(4, sender=sender(octets, upper))
    assert bus.has() == ([4] if taken else [])


def test_with_p_or_as_an_i_frame_or_from_another_client_it_is_discarded():
    bus = Bus()
    bus.say(0, sender=sender(), change=lambda frame: frame._replace(poll_final=True))
    bus.say(1, sender=sender(client=16))
    bus.say(2, sender=sender(), change=lambda frame: frame._replace(info=b"\xe6\xe7\x00" + frame.info[3:]))
    confirmed = bytes((0xC1,))
    bus.say(
        3,
        sender=sender(),
        change=lambda frame: frame._replace(info=frame.info[:5] + confirmed + frame.info[6:]),
    )
    assert bus.has() == []
    assert bus.meters[0].history.count(What.BROADCAST) == 4


def test_what_is_longer_than_it_takes_is_discarded():
    bus = Bus(replace(PLAIN, broadcast_max_info=64 + 25 - 1))
    bus.say(0, sender=sender())
    assert bus.has() == []


@pytest.mark.parametrize("framing", BroadcastFraming)
def test_ciphered_blocks_are_opened_with_the_broadcast_key(framing):
    bus = Bus(replace(CIPHERED, broadcast_framing=framing))
    bus.say(0, 5, sender=sender(general=framing is BroadcastFraming.GENERAL_GLO))
    assert bus.has() == [0, 5]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"broadcast_key": KEYS.encryption_key},
        {"authentication_key": bytes(16)},
        {"own_title": b"MGW\x00\x00\x00\x00\x02"},
        {"general": True},
    ],
)
def test_another_key_title_or_framing_or_no_cipher_at_all_is_discarded(wrong):
    bus = Bus(CIPHERED)
    bus.say(0, sender=sender(**wrong))
    assert bus.has() == []


def test_a_replay_is_discarded_also_after_a_reboot():
    bus = Bus(CIPHERED)
    bus.say(0, counter=100, sender=sender(general=False))
    bus.meters[0].reboot(bus.line.clock.monotonic())
    bus.line.clock.advance(60)
    bus.say(1, counter=99, sender=sender(general=False))
    assert bus.has() == [0]
    bus.say(1, counter=100, sender=sender(general=False))
    assert bus.has() == [0, 1]


def test_each_meter_misses_its_own_share():
    bus = Bus(count=4, faults=Faults(broadcasts_missed=0.5))
    bus.say(*range(10), sender=sender())
    found = [bus.has(n) for n in range(4)]
    assert len({tuple(blocks) for blocks in found}) > 1
    assert all(0 < len(blocks) < 10 for blocks in found)


def test_another_image_object_is_not_meant():
    bus = Bus(replace(PLAIN, image_object="0-1:44.0.0.255"), initiate=False)
    other = broadcast.BlockBroadcast(
        broadcast.all_stations(1, 2), 102, instance=obis("0-0:44.0.0.255"), sealed_by=None
    )
    bus.say(0, sender=other)
    assert bus.meters[0].history.count(What.BROADCAST) == 1
    assert bus.meters[0].history.count(What.BLOCK) == 0
