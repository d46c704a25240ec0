"""Lines on virtual time: what octets cost, what noise does, how a line is cut, and that all of it repeats itself."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bench import LDN, Bench, an_image

from gateway.errors import LinkLostError, PortError
from gateway.model import Authentication, Framing, MeterKeys, Security
from gateway.simulator import (
    NONE,
    Faults,
    MeterSpec,
    Mishap,
    Noise,
    Then,
    VirtualClock,
    VirtualLine,
    VirtualMeter,
    What,
    several,
)
from gateway.wire import image_transfer as it
from gateway.wire.hdlc import Address, Frame, FrameType
from gateway.wire.wrapper import encode_wrapper

SPEC = MeterSpec(
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
    response_s=0.05,
)
SNRM = Frame(SPEC.address, Address(1), FrameType.SNRM, poll_final=True).encode()
BAD = Noise(
    lost=0.05, damaged=0.05, octet_lost=0.03, octet_doubled=0.03, doubled=0.05, delayed=0.1, delay_s=0.3
)


def a_line(spec=SPEC, **options):
    return VirtualLine([VirtualMeter(spec)], VirtualClock(), **options)


def test_octets_take_their_time_both_ways_and_meters_theirs():
    line = a_line(baud=1200)
    line.write(SNRM)
    assert line.clock.monotonic() == pytest.approx(len(SNRM) * 10 / 1200)
    sent_s = line.clock.monotonic()
    answer = line.read(4096, 5.0)
    assert line.clock.monotonic() == pytest.approx(sent_s + 0.05 + len(answer) * 10 / 1200)
    assert line.octets_carried == len(SNRM) + len(answer)


def test_a_read_gives_what_has_come_by_its_deadline():
    line = a_line(baud=1200)
    line.write(SNRM)
    sent_s = line.clock.monotonic()
    assert line.read(4096, 0.05) == b""
    assert line.clock.monotonic() == pytest.approx(sent_s + 0.05)
    first = line.read(4096, 3.5 * 10 / 1200)
    assert len(first) == 3
    rest = line.read(2, 5.0) + line.read(4096, 5.0)
    assert line.read(4096, 1.0) == b""
    whole = a_line()
    whole.write(SNRM)
    assert first + rest == whole.read(4096, 1.0)


def test_discard_throws_away_what_is_here_and_not_what_is_to_come():
    line = a_line()
    line.write(SNRM)
    line.discard()
    assert line.read(4096, 1.0)
    line.write(SNRM)
    line.clock.advance(1.0)
    line.discard()
    assert line.read(4096, 1.0) == b""


def test_waiting_on_virtual_time_costs_it_unless_the_bell_rings():
    clock, bell = VirtualClock(), threading.Event()
    assert not clock.wait(bell, 5.0)
    clock.sleep(2.0)
    clock.sleep(-1.0)
    assert clock.monotonic() == 7.0
    bell.set()
    assert clock.wait(bell, 5.0)
    assert clock.monotonic() == 7.0


def conversation(seed, line_faults, meter_faults=NONE):
    """Everything a bench and two meters say on a line, with the time of each read."""
    one, two = several(replace(SPEC, max_info=128, window=4), 2)
    meters = [VirtualMeter(spec, faults=meter_faults, seed=seed) for spec in (one, two)]
    line = VirtualLine(meters, VirtualClock(), faults=line_faults, seed=seed)
    record = []
    write, read = line.write, line.read

    def kept_read(limit, timeout_s):
        octets = read(limit, timeout_s)
        record.append((line.clock.monotonic(), octets))
        return octets

    def kept_write(octets):
        record.append((line.clock.monotonic(), octets))
        write(octets)

    line.read, line.write = kept_read, kept_write
    for spec in (one, two):
        bench = Bench(line, spec, patience=50).connect().associate()
        bench.send_all(an_image(3000))
    assert [meter.image.image for meter in meters] == [an_image(3000)] * 2
    return record


def test_the_same_seed_gives_the_same_octets_at_the_same_times():
    faults = Faults(to_meter=BAD, to_gateway=BAD)
    meter_faults = Faults(blocks_lost=0.1, replies_lost=0.1)
    assert conversation(5, faults, meter_faults) == conversation(5, faults, meter_faults)
    assert conversation(5, faults, meter_faults) != conversation(6, faults, meter_faults)


@given(st.integers(1, 40))
def test_octets_may_come_in_pieces_of_any_size(chunk):
    line = a_line(faults=Faults(read_chunk_octets=chunk))
    bench = Bench(line, SPEC).connect().associate()
    assert bench.get(LDN) == b"SIM0000000000001"


@pytest.mark.parametrize("noise", [
    Noise(damaged=1.0), Noise(octet_lost=1.0), Noise(lost=1.0), Noise(damaged=1.0, octet_doubled=1.0, doubled=1.0),
])  # fmt: skip
@pytest.mark.parametrize("way", ["to_meter", "to_gateway"])
def test_no_damaged_frame_is_taken_for_a_sound_one(way, noise):
    line = a_line(faults=Faults(**{way: noise}))
    bench = Bench(line, SPEC, patience=20)
    for _ in range(20):
        line.write(bench.link.connect())
        bench.link.receive(line.read(4096, 1.0))
        assert not bench.link.connected


def test_doubled_and_late_frames_do_no_harm():
    noise = Noise(doubled=0.5, delayed=0.5, delay_s=2.5)
    line = a_line(faults=Faults(to_meter=noise, to_gateway=noise), seed=3)
    bench = Bench(line, SPEC, patience=50).connect().associate()
    bench.send_all(an_image(3000))
    assert line.meters[0].history.blocks == dict.fromkeys(range(12), 1)


@pytest.mark.parametrize("cut", range(1, 260, 7))
def test_a_line_can_be_cut_at_any_octet_and_be_opened_again(cut):
    line = a_line(faults=Faults(cuts_at_octet=(cut, cut)))
    for _ in range(2):
        with pytest.raises(PortError, match="cut after"):
            Bench(line, SPEC, counter=line.octets_carried + 100).connect().associate()
        with pytest.raises(PortError):
            line.read(1, 1.0)
        line.reopen()
    assert line.octets_carried == 2 * cut
    bench = Bench(line, SPEC, counter=10_000).connect().associate()
    assert bench.get(LDN)


def test_a_cut_can_lose_the_answer_to_what_was_done():
    line = a_line(spec=MeterSpec())
    bench = Bench(line, MeterSpec()).connect().associate()
    before = line.octets_carried
    bench.initiate(b"image")
    request_and_answer = line.octets_carried - before
    line = a_line(spec=MeterSpec(), faults=Faults(cuts_at_octet=(before + request_and_answer - 1,)))
    bench = Bench(line, MeterSpec()).connect().associate()
    with pytest.raises(PortError):
        bench.initiate(b"image")
    assert line.meters[0].history.initiates == 1


def test_a_closed_line_says_so_until_it_is_opened_again():
    line = a_line()
    line.write(SNRM)
    line.close()
    for call in (lambda: line.write(SNRM), lambda: line.read(1, 1.0), line.discard):
        with pytest.raises(PortError, match="closed"):
            call()
    assert line.reopen().read(4096, 1.0) == b"", "what was on its way is gone"


def test_several_meters_share_a_line_and_have_names_of_their_own():
    specs = several(replace(SPEC, address=Address(1, 17)), 12)
    meters = [VirtualMeter(spec) for spec in specs]
    line = VirtualLine(meters, VirtualClock())
    names = {Bench(line, spec).connect().associate().get(LDN) for spec in specs}
    assert names == {b"SIM%013d" % number for number in range(1, 13)}
    assert len({spec.system_title for spec in specs}) == 12
    with pytest.raises(ValueError, match="cannot count up"):
        several(replace(SPEC, address=Address(1)), 2)


# -- the TCP wrapper on virtual time --------------------------------------------------------------------------


def test_over_the_wrapper_a_meter_that_reboots_closes_the_connection():
    faults = Faults(mishaps=(Mishap(What.BLOCK, 2, Then.REBOOT),))
    meter = VirtualMeter(SPEC, faults=faults)
    line = VirtualLine([meter], VirtualClock(), baud=10_000_000, framing=Framing.WRAPPER)
    bench = Bench(line, SPEC, framing=Framing.WRAPPER).connect().associate()
    image = an_image(1000)
    bench.initiate(image)
    bench.block(image, 0)
    with pytest.raises(LinkLostError):
        bench.block(image, 1)
    with pytest.raises(PortError, match="down"):
        bench.associate()
    line.clock.advance(SPEC.reboot_s)
    bench.associate()
    assert bench.missing(image) == [2, 3]


def test_over_the_wrapper_the_answer_to_activate_comes_before_the_connection_goes():
    line = VirtualLine([VirtualMeter(SPEC)], VirtualClock(), framing=Framing.WRAPPER)
    bench = Bench(line, SPEC, framing=Framing.WRAPPER).connect().associate()
    bench.send_all(an_image(1000))
    bench.act(it.VERIFY)
    line.clock.advance(SPEC.verify_s)
    assert bench.act(it.ACTIVATE) == 0
    with pytest.raises(LinkLostError):
        line.read(4096, 1.0)


def test_over_the_wrapper_a_closed_connection_ends_its_associations_and_nonsense_closes_it():
    line = VirtualLine([VirtualMeter(SPEC)], VirtualClock(), framing=Framing.WRAPPER)
    bench = Bench(line, SPEC, framing=Framing.WRAPPER).connect().associate()
    line.close()
    line.reopen()
    assert bench.raw(b"\xc0")[0] == 0xD8
    bench.associate()
    line.write(encode_wrapper(1, 99, b"nobody is there"))
    assert line.read(4096, 1.0) == b""
    line.write(b"GET / HTTP/1.1\r\n")
    with pytest.raises(LinkLostError):
        line.read(4096, 1.0)
    bench.associate()
