"""What goes wrong between a gateway and its meters: who talks at once, who talks unasked, what noise costs."""

from dataclasses import replace

import pytest
from support.bench import LDN, Bench, NoAnswerError, an_image

from gateway.errors import LinkLostError, PortError, SecurityError
from gateway.model import Authentication, Framing, MeterKeys, Security
from gateway.simulator import (
    NONE,
    Echo,
    Faults,
    MeterSpec,
    Mishap,
    Noise,
    Talk,
    Then,
    VirtualClock,
    VirtualLine,
    VirtualMeter,
    What,
)
from gateway.simulator.medium import Medium
from gateway.wire.hdlc import Address, Damaged, Frame, FrameReader, FrameType

SPEC = MeterSpec(address=Address(1, 17), response_s=0.05)
CIPHERED = replace(
    SPEC,
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
)
SNRM = Frame(SPEC.address, Address(1), FrameType.SNRM, poll_final=True).encode()
NINETEEN = Frame(Address(1, 19), Address(1), FrameType.SNRM, poll_final=True).encode()


def a_line(*specs, meter_faults=NONE, **faults):
    meters = [VirtualMeter(spec, faults=meter_faults, seed=seed) for seed, spec in enumerate(specs or [SPEC])]
    return VirtualLine(meters, VirtualClock(), faults=Faults(**faults))


def heard(line, for_s=5.0):
    """All octets of the next seconds, with the frames in them."""
    end_s, octets = line.clock.monotonic() + for_s, b""
    while (left_s := end_s - line.clock.monotonic()) > 1e-6:
        octets += line.read(65536, left_s)
    return octets, FrameReader().feed(octets)


# -- two at once ----------------------------------------------------------------------------------------------


def test_two_meters_with_one_address_answer_at_once_and_spoil_what_they_say():
    twin = replace(SPEC, logical_device_name="TWIN000000000002", response_s=0.052)
    line = a_line(SPEC, twin)
    line.write(SNRM)
    octets, frames = heard(line)
    assert len(octets) >= 32, "something was said"
    assert not any(isinstance(frame, Frame) for frame in frames)
    assert all(meter.history.count(What.LINK) == 1 for meter in line.meters), "both have heard it"


def test_twins_that_say_the_same_at_the_same_moment_are_heard_as_one():
    line = a_line(SPEC, replace(SPEC, logical_device_name="TWIN000000000002"))
    bench = Bench(line, SPEC, patience=3).connect().associate()
    with pytest.raises((NoAnswerError, LinkLostError)):
        bench.get(LDN)  # their names are the first thing in which they differ


def test_a_meter_that_answers_late_talks_into_the_turn_of_another():
    slow = replace(SPEC, response_s=0.3)
    quick = replace(SPEC, address=Address(1, 19), logical_device_name="QUICK1")
    alone = a_line(slow, quick)
    alone.write(NINETEEN)
    assert [frame.source for frame in heard(alone)[1]] == [Address(1, 19)]

    line = a_line(slow, quick)
    line.write(SNRM)
    line.clock.advance(0.3 - 34 * 10 / 9600 - 0.05 + 0.01)
    line.write(NINETEEN)  # its answer and the late one of 17 begin within 10 ms of each other
    _, frames = heard(line)
    assert [frame for frame in frames if isinstance(frame, Frame)] == []

    line.write(SNRM)
    line.clock.advance(0.1)
    line.write(NINETEEN)  # here the late one comes after
    assert [frame.source for frame in heard(line)[1]] == [Address(1, 19), SPEC.address]


def test_a_gateway_that_talks_while_a_meter_does_spoils_both():
    line = a_line(replace(SPEC, response_s=0.02), replace(SPEC, address=Address(1, 19)))
    line.write(SNRM)
    line.clock.advance(0.025)
    line.write(NINETEEN)
    assert not any(isinstance(frame, Frame) for frame in heard(line)[1])
    assert line.meters[1].history.count(What.LINK) == 0


def test_a_meter_answers_as_another_where_it_is_told_to():
    line = a_line(meter_faults=Faults(answers_as=Address(1, 18)))
    line.write(SNRM)
    (ua,) = heard(line)[1]
    assert (ua.type, ua.source) == (FrameType.UA, Address(1, 18))


# -- who talks unasked ----------------------------------------------------------------------------------------


def test_a_jabbering_meter_fills_the_line_for_its_time_and_nobody_is_understood_meanwhile():
    line = a_line(talks=(Talk(from_s=1.0, for_s=2.0),))
    assert heard(line, 0.9) == (b"", [])
    octets, _ = heard(line, 1.1)
    assert len(octets) == pytest.approx(960, abs=64)
    line.write(SNRM)
    assert not any(isinstance(frame, Frame) for frame in heard(line, 0.5)[1])
    assert line.meters[0].history.count(What.LINK) == 0
    heard(line, 2.0)
    assert Bench(line, SPEC).connect().associate().get(LDN)


def test_a_meter_that_jabbers_for_ever_costs_no_memory_while_nobody_listens():
    line = a_line(talks=(Talk(),))
    line.clock.advance(24 * 3600.0)
    line.discard()
    octets, _ = heard(line, 1.0)
    assert len(octets) == pytest.approx(960, abs=64)


@pytest.mark.parametrize("baud", [9600, 57600, 115200])
@pytest.mark.parametrize("since_s", [0.0, 28_000_000.123])
def test_no_more_jabber_is_made_than_is_heard(baud, since_s):
    """Also late in the life of a line, where times are sums with errors at their ends."""
    medium = Medium(
        [VirtualMeter(SPEC)], baud=baud, framing=Framing.HDLC, faults=Faults(talks=(Talk(),)), seed=0
    )
    medium.begin(since_s)
    now_s, octets = since_s, 0
    for _ in range(2000):
        now_s += 0.005
        medium.settle(now_s)
        while arrived := medium.take(65536, now_s):
            octets += len(arrived)
        _, end_s = medium.coming
        assert end_s < now_s + 130 * medium.octet_s, "hardly more than a stretch ahead"
    assert octets == pytest.approx((now_s - since_s) / medium.octet_s, abs=130)


def test_spells_of_jabber_leave_room_between_them():
    line = a_line(talks=(Talk(from_s=2.0, for_s=1.0, pause_s=9.0),))
    for _ in range(3):
        assert Bench(line, SPEC).connect().associate().get(LDN)
        assert len(heard(line, 10.0 - line.clock.monotonic() % 10.0)[0]) == pytest.approx(960, abs=64)


def test_a_second_master_is_heard_before_we_talk():
    theirs = Frame(Address(1, 99), Address(16), FrameType.SNRM, poll_final=True).encode()
    line = a_line(talks=(Talk(octets=theirs, pause_s=0.75),))
    frames = heard(line, 4.0)[1]
    assert len(frames) == 6, "every 0.75 s and the time that it takes"
    assert {frame.destination for frame in frames} == {Address(1, 99)}


# -- echo, turnaround, unplugging -----------------------------------------------------------------------------


@pytest.mark.parametrize("echo", list(Echo))
def test_an_echo_comes_back_while_it_is_sent(echo):
    line = a_line(echo=echo)
    line.write(SNRM)
    sent_s = line.clock.monotonic()
    back = line.read(65536, 0.01)
    assert line.clock.monotonic() <= sent_s + 0.01
    match echo:
        case Echo.NONE:
            assert back == b""
        case Echo.WHOLE:
            assert back == SNRM
        case Echo.HALF:
            assert back == SNRM[: (len(SNRM) + 1) // 2]
        case Echo.DAMAGED:
            assert len(back) == len(SNRM)
            assert sum((a ^ b).bit_count() for a, b in zip(back, SNRM, strict=True)) == 1
    assert [frame.type for frame in heard(line)[1]] == [FrameType.UA]


def test_turning_round_costs_its_time_both_ways():
    plain, slow = a_line(), a_line(turnaround_s=0.016)
    for line in (plain, slow):
        bench = Bench(line, SPEC).connect().associate()
        for _ in range(10):
            bench.get(LDN)
    exchanges = plain.writes
    assert slow.clock.monotonic() - plain.clock.monotonic() == pytest.approx(
        (2 * exchanges - 1) * 0.016, abs=1e-6
    )


def test_an_adapter_that_is_pulled_out_takes_the_line_with_it_and_brings_it_back():
    line = a_line(unplugged=((1.0, 3.0),))
    bench = Bench(line, SPEC).connect().associate()
    with pytest.raises(PortError, match="unplugged"):
        _read_for_ever(bench)
    assert line.clock.monotonic() == pytest.approx(1.0, abs=0.011)
    line.clock.advance(1.0)
    with pytest.raises(PortError, match="unplugged"):
        line.reopen()
    line.clock.advance(1.0)
    assert Bench(line.reopen(), SPEC).connect().associate().get(LDN)


def _read_for_ever(bench):
    while True:
        bench.get(LDN)


# -- noise by the bit and by the octet --------------------------------------------------------------------------


def carried(noise, octets=50 * 1000):
    """How many bits were flipped and how many octets lost of so many, in frames of 100 to nobody."""
    line = VirtualLine(
        [VirtualMeter(SPEC)], VirtualClock(), baud=115200, faults=Faults(to_gateway=noise, echo=Echo.NONE)
    )
    said = VirtualLine([VirtualMeter(SPEC)], VirtualClock(), baud=115200)
    flipped = lost = 0
    for _ in range(octets // 32):
        for each in (line, said):
            each.write(SNRM)
        here, there = line.read(65536, 1.0), said.read(65536, 1.0)
        lost += len(there) - len(here)
        if len(here) == len(there):
            flipped += sum((a ^ b).bit_count() for a, b in zip(here, there, strict=True))
    return flipped, lost


def test_noise_by_rate_is_as_frequent_as_it_is_told():
    flipped, lost = carried(Noise(bit_error_rate=1e-3))
    assert flipped == pytest.approx(400, rel=0.2)
    assert lost == 0
    flipped, lost = carried(Noise(octet_loss_rate=2e-3))
    assert lost == pytest.approx(100, rel=0.3)
    everything = VirtualLine(
        [VirtualMeter(SPEC)], VirtualClock(), faults=Faults(to_gateway=Noise(octet_loss_rate=1.0))
    )
    everything.write(SNRM)
    assert heard(everything) == (b"", [])


def test_noise_by_rate_repeats_itself_and_conversations_survive_it():
    noise = Noise(bit_error_rate=1e-4, octet_loss_rate=1e-4)
    ends = []
    for _ in range(2):
        line = a_line(CIPHERED, to_meter=noise, to_gateway=noise)
        Bench(line, CIPHERED, patience=50).connect().associate().send_all(an_image(20000))
        assert line.meters[0].image.image == an_image(20000)
        ends.append((line.clock.monotonic(), line.octets_carried))
    assert ends[0] == ends[1]


def test_a_falsified_reply_is_a_sound_frame_with_another_content():
    line = a_line(CIPHERED, meter_faults=Faults(mishaps=(Mishap(What.INITIATE, 1, Then.FALSIFY_REPLY),)))
    bench = Bench(line, CIPHERED).connect().associate()
    with pytest.raises(SecurityError):
        bench.initiate(b"image")
    assert not any(isinstance(frame, Damaged) for frame in heard(line)[1])


def test_a_reply_that_is_lost_is_not_falsified():
    both = Faults(mishaps=(Mishap(What.INITIATE, 1, Then.FALSIFY_REPLY),), replies_lost=1.0)
    line = a_line(meter_faults=both)
    bench = Bench(line, SPEC).connect()
    bench.associate()  # the link asks for what was lost
    assert bench.initiate(b"image") == 0
