"""The meter's end of HDLC, frame by frame: what a strict secondary station says, and when it says nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bench import LDN, Bench, NoAnswerError

from gateway.simulator import NONE, Faults, MeterSpec, Noise, VirtualClock, VirtualLine, VirtualMeter
from gateway.wire import apdu as pdu
from gateway.wire import axdr
from gateway.wire.association import Aarq, Context, decode_aare, encode_aarq
from gateway.wire.hdlc import Address, Frame, FrameReader, FrameType, Parameters
from gateway.wire.initiate import Conformance, InitiateRequest, encode_initiate

SPEC = MeterSpec(address=Address(1, 17), max_info=64, window=3)
CLIENT = Address(16)
LLC = b"\xe6\xe6\x00"
NOT_ASSOCIATED = b"\xe6\xe7\x00\xd8\x01\x01"
GET_LDN = pdu.encode(pdu.GetRequest(pdu.Invoke(), LDN))


class Line:
    """A line on which a test writes single frames and sees what frames come back."""

    def __init__(self, spec=SPEC, faults=NONE, meters=()):
        self.clock = VirtualClock()
        self.meters = [VirtualMeter(spec, faults=faults), *meters]
        self.port = VirtualLine(self.meters, self.clock)

    def say(self, *frames):
        self.port.write(b"".join(frame.encode() for frame in frames))
        heard, reader = [], FrameReader()
        while octets := self.port.read(4096, 0.5):
            heard += reader.feed(octets)
        return heard

    def ask(self, *frames):
        (answer,) = self.say(*frames)
        return answer

    def connected(self, proposal=b""):
        assert self.ask(frame(FrameType.SNRM, info=proposal)).type is FrameType.UA
        return self


def frame(
    type_, send_seq=0, receive_seq=0, info=b"", *, final=True, more=False, to=SPEC.address, client=CLIENT
):
    return Frame(to, client, type_, final, send_seq, receive_seq, info, more)


def test_a_meter_that_was_not_connected_says_dm_to_everything_but_snrm():
    line = Line()
    for type_ in (FrameType.I, FrameType.RR, FrameType.RNR, FrameType.DISC):
        assert line.ask(frame(type_)).type is FrameType.DM
    assert line.say(frame(FrameType.RR, final=False)) == []


@pytest.mark.parametrize("proposal, agreed", [
    (b"", Parameters(64, 64, 1, 1)),
    (Parameters(2030, 2030, 7, 7).encode(), Parameters(64, 64, 3, 3)),
    (Parameters(40, 50, 2, 1).encode(), Parameters(50, 40, 1, 2)),
])  # fmt: skip
def test_the_ua_names_the_smaller_of_both_sides_as_the_meter_sees_them(proposal, agreed):
    assert Parameters.decode(Line().ask(frame(FrameType.SNRM, info=proposal)).info) == agreed


def test_an_snrm_that_makes_no_sense_or_has_unwanted_parameters_gets_dm():
    tiny = bytes.fromhex("8180 06 050104 060104")
    for info in (b"nonsense", tiny):
        assert Line().ask(frame(FrameType.SNRM, info=info)).type is FrameType.DM
    line = Line(faults=Faults(refuses_snrm_parameters=True))
    assert line.ask(frame(FrameType.SNRM, info=Parameters().encode())).type is FrameType.DM
    line.connected()


def test_only_the_addressed_meter_answers_however_long_the_address_is():
    other = VirtualMeter(MeterSpec(address=Address(1, 18, 4), logical_device_name="OTHER1"))
    line = Line(meters=[other])
    assert line.ask(frame(FrameType.SNRM, to=Address(1, 17, 4))).source == SPEC.address
    assert line.ask(frame(FrameType.SNRM, to=Address(1, 18, 2))).source == Address(1, 18)
    assert line.say(frame(FrameType.SNRM, to=Address(1, 19))) == []
    assert line.say(frame(FrameType.SNRM, to=Address(1))) == []
    assert line.say(frame(FrameType.SNRM, to=Address(1, 0x7F))) == [], "broadcast is for UI frames"


def test_a_request_is_answered_and_the_answer_repeated_until_it_is_acknowledged():
    line = Line().connected()
    answer = line.ask(frame(FrameType.I, info=LLC + GET_LDN))
    assert (answer.type, answer.send_seq, answer.receive_seq, answer.info) == (
        FrameType.I,
        0,
        1,
        NOT_ASSOCIATED,
    )
    assert line.ask(frame(FrameType.RR, receive_seq=0)) == answer, "N(R) 0 asks for frame 0 again"
    assert line.ask(frame(FrameType.I, info=LLC + GET_LDN)) == answer, (
        "a repeated request is not served twice"
    )
    ready = line.ask(frame(FrameType.RR, receive_seq=1))
    assert (ready.type, ready.receive_seq) == (FrameType.RR, 1)
    assert line.ask(frame(FrameType.I, 1, 1, LLC + GET_LDN)).send_seq == 1


def test_some_meters_reject_a_repeated_frame_and_ignore_polls():
    line = Line(faults=Faults(frmr_on_repeat=True, ignores_poll=True)).connected()
    line.ask(frame(FrameType.I, info=LLC + GET_LDN))
    assert line.say(frame(FrameType.RR)) == []
    assert line.ask(frame(FrameType.I, info=LLC + GET_LDN)).type is FrameType.FRMR
    assert line.ask(frame(FrameType.RR)).type is FrameType.FRMR, "until it is connected anew"
    line.connected()


@pytest.mark.parametrize("wrong, reason", [
    (frame(FrameType.RR, receive_seq=1), 8),
    (frame(FrameType.I, receive_seq=5, info=LLC + GET_LDN), 8),
    (frame(FrameType.I, info=LLC + bytes(62)), 4),
    (frame(FrameType.UA), 1),
], ids=["acknowledges too much", "acknowledges too much in I", "too long", "no command"])  # fmt: skip
def test_what_a_client_must_not_send_is_rejected_with_the_reason(wrong, reason):
    rejected = Line().connected().ask(wrong)
    assert rejected.type is FrameType.FRMR
    assert rejected.info[2] == reason


def test_a_frame_that_skips_a_number_is_not_taken():
    line = Line().connected()
    ready = line.ask(frame(FrameType.I, send_seq=1, info=LLC + GET_LDN))
    assert (ready.type, ready.receive_seq) == (FrameType.RR, 0)


def test_segments_in_a_window_are_put_together_and_answered_at_the_poll():
    line = Line().connected(Parameters(64, 64, 3, 1).encode())
    parts = [(LLC + GET_LDN)[at : at + 6] for at in range(0, 16, 6)]
    first = frame(FrameType.I, 0, 0, parts[0], final=False, more=True)
    second = frame(FrameType.I, 1, 0, parts[1], final=False, more=True)
    last = frame(FrameType.I, 2, 0, parts[2])
    answer = line.ask(first, second, last)
    assert (answer.type, answer.receive_seq, answer.info) == (FrameType.I, 3, NOT_ASSOCIATED)


def test_a_window_with_a_hole_is_acknowledged_up_to_the_hole():
    line = Line().connected(Parameters(64, 64, 3, 1).encode())
    parts = [(LLC + GET_LDN)[at : at + 6] for at in range(0, 16, 6)]
    ready = line.ask(
        frame(FrameType.I, 0, 0, parts[0], final=False, more=True), frame(FrameType.I, 2, 0, parts[2])
    )
    assert (ready.type, ready.receive_seq) == (FrameType.RR, 1)
    answer = line.ask(
        frame(FrameType.I, 1, 0, parts[1], final=False, more=True), frame(FrameType.I, 2, 0, parts[2])
    )
    assert answer.info == NOT_ASSOCIATED


def test_more_frames_than_the_window_are_rejected():
    line = Line().connected()
    rejected = line.ask(
        frame(FrameType.I, 0, 0, b"\xe6", final=False, more=True), frame(FrameType.I, 1, 0, b"\xe6")
    )
    assert rejected.type is FrameType.FRMR


@pytest.mark.parametrize("window", [1, 2])
def test_a_long_answer_comes_in_segments_window_by_window(window):
    line = Line(MeterSpec(address=SPEC.address, max_info=32, window=window))
    line.connected(Parameters(64, 64, 7, 7).encode())
    initiate = encode_initiate(InitiateRequest(Conformance.GET, 500))
    request = LLC + encode_aarq(Aarq(Context.LN, initiate))
    line.say(frame(FrameType.I, 0, 0, request[:20], more=True))
    answer = line.say(frame(FrameType.I, 1, 0, request[20:]))
    assert len(answer) == window and answer[0].segmented
    assert [piece.poll_final for piece in answer] == [False, True][-window:]
    if window == 1:
        answer += line.say(frame(FrameType.RR, receive_seq=1))
    assert [len(piece.info) for piece in answer] == [32, 14] and not answer[-1].segmented
    assert decode_aare(b"".join(piece.info for piece in answer)[3:]).result == 0


def test_an_answer_to_a_frame_without_p_waits_for_the_poll():
    line = Line().connected()
    assert line.say(frame(FrameType.I, info=LLC + GET_LDN, final=False)) == []
    assert line.ask(frame(FrameType.RR)).info == NOT_ASSOCIATED


def test_any_answer_can_be_read_with_the_smallest_frames():
    spec = MeterSpec(logical_device_name="N" * 300 + "1", max_info=32, window=3)
    meter = VirtualMeter(spec)
    bench = Bench(VirtualLine([meter], VirtualClock()), spec).connect().associate()
    assert bench.get(LDN) == spec.logical_device_name.encode()


def test_the_link_is_dropped_after_a_long_silence_and_by_disc():
    line = Line().connected()
    line.clock.advance(121)
    assert line.ask(frame(FrameType.RR)).type is FrameType.DM
    line.connected()
    assert line.ask(frame(FrameType.DISC)).type is FrameType.UA
    assert line.ask(frame(FrameType.DISC)).type is FrameType.DM


def test_two_clients_have_links_and_associations_of_their_own():
    meter = VirtualMeter(SPEC)
    port = VirtualLine([meter], VirtualClock())
    one = Bench(port, SPEC).connect().associate()
    public = Bench(port, SPEC, client=16).connect().associate()
    assert one.get(LDN) == public.get(LDN)
    one.disconnect()
    assert public.get(LDN)


def test_without_an_llc_header_an_apdu_is_for_nobody():
    assert Line().connected().ask(frame(FrameType.I, info=GET_LDN)).type is FrameType.RR


@pytest.mark.parametrize("window, info", [(1, 128), (7, 128), (7, 2030), (3, 32)])
@pytest.mark.parametrize("seed", range(3))
def test_conversations_survive_a_bad_line_both_ways(seed, window, info):
    noise = Noise(lost=0.05, damaged=0.05, octet_lost=0.02, octet_doubled=0.02, doubled=0.03)
    spec = MeterSpec(max_info=info, window=window)
    meter = VirtualMeter(spec, seed=seed)
    faults = Faults(to_meter=noise, to_gateway=noise)
    port = VirtualLine([meter], VirtualClock(), faults=faults, seed=seed)
    bench = Bench(port, spec, patience=30).connect().associate()
    image = bytes(range(250)) * 20
    bench.send_all(image)
    assert meter.image.image == image
    assert max(meter.history.blocks.values()) == 1, (
        "the link repeats frames, the application is never served twice"
    )


def test_a_busy_client_is_told_ready_and_nothing_else():
    line = Line().connected()
    assert line.say(frame(FrameType.I, info=LLC + GET_LDN, final=False)) == []
    assert line.ask(frame(FrameType.RNR)).type is FrameType.RR
    assert line.ask(frame(FrameType.RR)).info == NOT_ASSOCIATED


def test_nobody_answers_a_ui_frame_or_a_client_whose_address_is_none():
    line = Line().connected()
    assert line.say(frame(FrameType.UI, info=LLC + GET_LDN, final=False)) == []
    assert line.say(frame(FrameType.SNRM, client=Address(1, 16))) == []


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_octets_bring_a_meter_out_of_step_for_good(noise, apdu):
    line = Line()
    line.port.write(noise)
    line.clock.advance(1.0)
    line.port.discard()
    bench = Bench(line.port, SPEC).connect().associate()
    with contextlib.suppress(NoAnswerError):
        bench.raw(apdu)
    assert bench.connect().associate().get(LDN)


def test_silence_is_what_a_broken_line_gives():
    meter = VirtualMeter(SPEC)
    port = VirtualLine([meter], VirtualClock(), faults=Faults(to_gateway=Noise(lost=1.0)))
    with pytest.raises(NoAnswerError):
        Bench(port, SPEC).connect()
    assert meter.history.count("link") == 3


def test_the_value_of_the_clock_follows_virtual_time():
    meter = VirtualMeter(SPEC)
    clock = VirtualClock()
    bench = Bench(VirtualLine([meter], clock), SPEC).connect().associate()
    clock.advance(86400 * 31 - clock.monotonic())
    bench.connect().associate()
    value = bench.get(pdu.Attribute(8, pdu.obis("0-0:1.0.0.255"), 2))
    assert axdr.DateTime.decode(value)[:4] == (2026, 2, 1, 7)
