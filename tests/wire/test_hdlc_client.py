"""One meter's link, as the gateway lives it: frame by frame, with what meters and lines do to it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import Vector, vector, vectors

from gateway.errors import LinkLostError, WireError
from gateway.wire.client import Client, Reaction
from gateway.wire.hdlc import Address, Frame, FrameReader, FrameType, Parameters
from gateway.wire.hdlc_client import LARGEST_STALL, HdlcClient

METER, US = Address(1, 17), Address(16)
DEFAULTS = Parameters()


def of_meter(
    type_: FrameType,
    *,
    nr: int = 0,
    ns: int = 0,
    final: bool = True,
    info: bytes = b"",
    more: bool = False,
    source: Address = METER,
    destination: Address = US,
) -> bytes:
    return Frame(destination, source, type_, final, ns, nr, info, more).encode()


def answer(apdu: bytes, *, ns: int, nr: int) -> bytes:
    return of_meter(FrameType.I, ns=ns, nr=nr, info=b"\xe6\xe7\x00" + apdu)


def frames_of(octets: bytes) -> list[Frame]:
    frames = FrameReader().feed(octets)
    assert all(isinstance(frame, Frame) for frame in frames)
    return frames


def summary(octets: bytes) -> list[str]:
    """Each frame in a word: type, numbers, P and S."""
    return [
        frame.type.name
        + (str(frame.send_seq) if frame.type is FrameType.I else "")
        + (f"/{frame.receive_seq}" if frame.type in (FrameType.I, FrameType.RR) else "")
        + ("P" if frame.poll_final else "")
        + ("+" if frame.segmented else "")
        for frame in frames_of(octets)
    ]


def connected(parameters: Parameters = DEFAULTS) -> HdlcClient:
    """A link with a meter that has these parameters."""
    client = HdlcClient(METER, 16)
    assert summary(client.connect()) == ["SNRMP"]
    client.receive(of_meter(FrameType.UA, info=parameters.encode()))
    assert client.connected
    return client


def damaged(octets: bytes) -> bytes:
    """With the frame check wrong and the header check right."""
    return octets[:-3] + bytes((octets[-3] ^ 0x55,)) + octets[-2:]


# -- up and down ----------------------------------------------------------------------------------------------


def test_a_meter_is_connected_with_the_smaller_ones_of_both_proposals():
    client: Client = HdlcClient(Address(1, 17, 2), 16, proposal=Parameters(2030, 2030, 1, 1))
    assert client.disconnected
    assert client.connect() == vector("hdlc-snrm-params-natris").octets
    assert not client.connected
    assert not client.disconnected
    assert client.receive(vector("hdlc-ua-natris").octets) == Reaction(b"", None, heard=True)
    assert client.connected
    assert isinstance(client, HdlcClient)
    assert client.limits == Parameters(512, 512, 1, 1)


@pytest.mark.parametrize(
    ("ua_id", "address", "client", "limits"),
    [
        ("hdlc-ua-noparams", Address(1), 16, Parameters(128, 128, 1, 1)),
        ("hdlc-ua-9a", Address(1, 17), 16, Parameters(154, 154, 1, 1)),
        ("hdlc-ua-e650-asym", Address(1), 48, Parameters(62, 128, 1, 1)),
        ("hdlc-ua-kamstrup", Address(1, 0), 17, Parameters(116, 116, 1, 1)),
        ("hdlc-ua-ziv-short", Address(1, 16), 4, Parameters(255, 255, 1, 1)),
        ("hdlc-ua-natris", Address(1, 17), 16, Parameters(512, 512, 1, 1)),
        ("hdlc-ua-india", Address(1), 16, Parameters(128, 128, 1, 1)),
    ],
)
def test_what_real_meters_answer_to_a_generous_proposal(ua_id, address, client, limits):
    link = HdlcClient(address, client)
    link.connect()
    assert link.receive(vector(ua_id).octets).heard
    assert link.connected
    assert link.limits == limits


@pytest.mark.parametrize(
    ("snrm_id", "address", "client"),
    [
        ("hdlc-snrm-1-1", Address(1), 16),
        ("hdlc-snrm-2oct", Address(1, 17), 16),
        ("hdlc-snrm-4oct", Address(1, 17, 4), 16),
        ("hdlc-snrm-ziv", Address(1, 16, 4), 4),
    ],
)
def test_a_meter_that_refuses_parameters_is_asked_without(snrm_id, address, client):
    first = HdlcClient(address, client)
    first.connect()
    refusal = of_meter(FrameType.DM, source=address, destination=Address(client))
    with pytest.raises(LinkLostError, match="refuses SNRM: DM"):
        first.receive(refusal)
    assert first.disconnected

    second = HdlcClient(address, client, send_parameters=False)
    assert second.connect() == vector(snrm_id).octets
    # Its own sizes do not count then: nothing above the defaults was proposed.
    second.receive(
        of_meter(
            FrameType.UA,
            info=Parameters(512, 512, 7, 7).encode(),
            source=address,
            destination=Address(client),
        )
    )
    assert second.limits == Parameters()


def test_snrm_and_disc_are_repeated_until_they_are_answered():
    client = HdlcClient(Address(1), 16)
    snrm = client.connect()
    assert client.timed_out() == snrm
    client.receive(vector("hdlc-ua-noparams").octets)
    assert client.connected

    assert client.disconnect() == vector("hdlc-disc").octets
    assert not client.connected
    assert client.timed_out() == vector("hdlc-disc").octets
    assert not client.disconnected
    client.receive(vector("hdlc-ua-noparams").octets)
    assert client.disconnected
    assert client.timed_out() == b""


def test_a_meter_that_has_no_link_any_more_answers_disc_with_dm():
    client = HdlcClient(Address(1), 16)
    client.disconnect()
    assert client.receive(vector("hdlc-dm").octets).heard
    assert client.disconnected


def test_frames_of_the_time_before_are_no_answer_to_snrm_nor_to_disc():
    client = HdlcClient(METER, 16)
    client.connect()
    assert client.receive(answer(b"\xc4late", ns=3, nr=2)) == Reaction(b"", None, heard=True)
    assert client.receive(of_meter(FrameType.RR, nr=5)).write == b""
    assert not client.connected
    client.receive(of_meter(FrameType.UA))
    client.disconnect()
    assert client.receive(answer(b"\xc4late", ns=0, nr=0)).apdu is None
    assert not client.disconnected


def test_a_second_ua_changes_nothing():
    client = connected(Parameters(512, 512, 1, 1))
    client.send(b"first")
    assert client.receive(of_meter(FrameType.UA)) == Reaction(b"", None, heard=True)
    assert client.limits == Parameters(512, 512, 1, 1)
    assert client.receive(answer(b"yes", ns=0, nr=1)).apdu == b"yes"


def test_after_a_new_snrm_both_numbers_begin_at_zero():
    client = connected()
    client.send(b"one")
    client.receive(answer(b"yes", ns=0, nr=1))
    client.send(b"two")
    client.connect()
    client.receive(of_meter(FrameType.UA))
    assert summary(client.send(b"three")) == ["I0/0P"]


def test_without_a_link_nothing_is_sent_and_nothing_heard():
    client = HdlcClient(METER, 16)
    with pytest.raises(LinkLostError, match="connect first"):
        client.send(b"early")
    assert client.receive(answer(b"unasked", ns=0, nr=0)) == Reaction()


def test_parameters_that_mean_nothing_leave_us_connecting():
    client = HdlcClient(METER, 16)
    client.connect()
    with pytest.raises(WireError, match="HDLC parameters"):
        client.receive(of_meter(FrameType.UA, info=b"\x00\x00"))
    assert not client.connected
    client.receive(of_meter(FrameType.UA))
    assert client.connected


# -- an exchange ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [found for found in vectors(kind="hdlc-frame", valid=True) if found.fields.get("llc") == "e6e600"],
    ids=str,
)
def test_what_other_clients_sent_is_sent_to_the_same_octets(found: Vector):
    meter = Address(found.fields["dest_upper"], found.fields.get("dest_lower"), found.fields["dest_octets"])
    us = Address(found.fields["src_upper"])
    client = HdlcClient(meter, us.upper)
    client.connect()
    client.receive(of_meter(FrameType.UA, source=meter, destination=us))
    for number in range(found.fields["ns"]):
        client.send(b"earlier")
        reply = Frame(us, meter, FrameType.I, True, number, number + 1, b"\xe6\xe7\x00yes")
        assert client.receive(reply.encode()).apdu == b"yes"
    assert client.send(bytes.fromhex(found.fields["apdu"])) == found.octets


def test_an_aare_comes_back_as_an_apdu():
    aare = vector("hdlc-i-aare-4oct")
    client = HdlcClient(Address(1, 17, 4), 16)
    client.connect()
    client.receive(of_meter(FrameType.UA))
    sent = vector("hdlc-i-aarq-4oct")
    assert client.send(bytes.fromhex(sent.fields["apdu"])) == sent.octets
    assert client.receive(aare.octets) == Reaction(b"", bytes.fromhex(aare.fields["apdu"]), heard=True)


def test_an_llc_header_written_twice_is_taken_off_twice():
    double = vector("hdlc-i-double-llc")
    client = HdlcClient(Address(1), 16)
    client.connect()
    client.receive(vector("hdlc-ua-india").octets)
    client.send(b"\x60...")
    reaction = client.receive(double.octets)
    assert reaction.apdu == bytes.fromhex(double.fields["apdu"])[3:]
    assert reaction.apdu[0] == 0x61


def test_an_answer_without_an_llc_header_is_an_error_and_the_link_goes_on():
    client = connected()
    client.send(b"one")
    with pytest.raises(WireError, match="LLC header 616263"):
        client.receive(of_meter(FrameType.I, ns=0, nr=1, info=b"abc"))
    assert summary(client.send(b"two")) == ["I1/1P"]
    assert client.receive(answer(b"yes", ns=1, nr=2)).apdu == b"yes"


def test_numbers_go_round_at_eight():
    client = connected()
    for turn in range(20):
        assert summary(client.send(b"ask")) == [f"I{turn % 8}/{turn % 8}P"]
        assert client.receive(answer(bytes((turn,)), ns=turn % 8, nr=(turn + 1) % 8)).apdu == bytes((turn,))


# -- segments -------------------------------------------------------------------------------------------------


def test_a_long_apdu_goes_in_segments_each_after_the_last_was_acknowledged():
    client = connected(Parameters(128, 128, 1, 1))
    apdu = bytes(range(256))
    written = [client.send(apdu)]
    for number in (1, 2):
        reaction = client.receive(of_meter(FrameType.RR, nr=number))
        assert reaction.apdu is None
        written.append(reaction.write)
    assert [summary(octets) for octets in written] == [["I0/0P+"], ["I1/0P+"], ["I2/0P"]]
    infos = [frames_of(octets)[0].info for octets in written]
    assert [len(info) for info in infos] == [128, 128, 3]
    assert b"".join(infos) == b"\xe6\xe6\x00" + apdu
    assert client.receive(answer(b"yes", ns=0, nr=3)) == Reaction(b"", b"yes", heard=True)


def test_a_whole_window_goes_at_once_with_p_on_its_last_frame():
    client = connected(Parameters(128, 64, 1, 3))
    assert summary(client.send(bytes(64 * 5))) == ["I0/0+", "I1/0+", "I2/0P+"]
    assert summary(client.receive(of_meter(FrameType.RR, nr=3)).write) == ["I3/0+", "I4/0+", "I5/0P"]


def test_an_apdu_that_fills_its_frames_exactly_leaves_no_empty_one():
    client = connected(Parameters(128, 64, 1, 7))
    assert summary(client.send(bytes(2 * 64 - 3))) == ["I0/0+", "I1/0P"]


def test_a_long_answer_is_asked_for_window_by_window():
    client = connected(Parameters(128, 128, 3, 1))
    client.send(b"read")
    first = of_meter(FrameType.I, ns=0, nr=1, final=False, more=True, info=b"\xe6\xe7\x00ab")
    assert client.receive(first) == Reaction(b"", None, heard=True)
    client.receive(of_meter(FrameType.I, ns=1, nr=1, final=False, more=True, info=b"cd"))
    reaction = client.receive(of_meter(FrameType.I, ns=2, nr=1, more=True, info=b"ef"))
    assert summary(reaction.write) == ["RR/3P"]
    assert client.receive(of_meter(FrameType.I, ns=3, nr=1, info=b"gh")) == Reaction(
        b"", b"abcdefgh", heard=True
    )


def test_an_answer_without_an_end_is_not_collected_for_ever():
    client = connected(Parameters(2030, 2030, 1, 1))
    client.send(b"read")
    segments = [
        of_meter(FrameType.I, ns=number % 8, nr=1, more=True, info=b"\xe6\xe7\x00" + bytes(2000))
        for number in range(33)
    ]
    for number, segment in enumerate(segments[:-1], start=1):
        assert summary(client.receive(segment).write) == [f"RR/{number % 8}P"]
    with pytest.raises(LinkLostError, match="more than 65536 octets"):
        client.receive(segments[-1])
    assert client.disconnected


# -- loss and damage ------------------------------------------------------------------------------------------


def test_a_lost_request_is_not_repeated_before_the_meter_says_that_it_misses_it():
    client = connected()
    request = client.send(b"activate")
    assert summary(client.timed_out()) == ["RR/0P"]
    assert client.receive(of_meter(FrameType.RR, nr=0)).write == request
    assert client.receive(answer(b"yes", ns=0, nr=1)).apdu == b"yes"


def test_a_lost_answer_is_asked_for_and_the_request_is_not_sent_again():
    client = connected()
    client.send(b"activate")
    assert summary(client.timed_out()) == ["RR/0P"]
    assert client.receive(answer(b"yes", ns=0, nr=1)) == Reaction(b"", b"yes", heard=True)


def test_a_meter_that_took_the_request_and_has_no_answer_yet_is_left_in_peace_until_the_time_out():
    client = connected()
    client.send(b"verify")
    for _ in range(5):
        assert summary(client.timed_out()) == ["RR/0P"]
        assert client.receive(of_meter(FrameType.RR, nr=1)) == Reaction(b"", None, heard=True)
    client.timed_out()
    assert client.receive(answer(b"yes", ns=0, nr=1)).apdu == b"yes"


def test_only_what_is_missing_of_a_window_is_sent_again():
    client = connected(Parameters(128, 64, 1, 4))
    client.send(bytes(64 * 6))
    # The third frame was lost; the meter heard the one with P and says from where on.
    reaction = client.receive(of_meter(FrameType.RR, nr=2))
    assert summary(reaction.write) == ["I2/0+", "I3/0+", "I4/0+", "I5/0P+"]
    # All of that was lost.
    assert summary(client.timed_out()) == ["RR/0P"]
    assert summary(client.receive(of_meter(FrameType.RR, nr=4)).write) == ["I4/0+", "I5/0+", "I6/0P"]


def test_an_acknowledgement_heard_twice_makes_nothing_sent_twice():
    client = connected()
    client.send(bytes(200))
    acknowledgement = of_meter(FrameType.RR, nr=1)
    assert summary(client.receive(acknowledgement + acknowledgement).write) == ["I1/0P"]
    assert client.receive(acknowledgement) == Reaction(b"", None, heard=True)


def test_a_busy_meter_is_asked_again_after_the_time_out_and_then_gets_the_rest():
    client = connected()
    client.send(bytes(200))
    for _ in range(3):
        assert client.receive(of_meter(FrameType.RNR, nr=1)) == Reaction(b"", None, heard=True)
        assert summary(client.timed_out()) == ["RR/0P"]
    assert summary(client.receive(of_meter(FrameType.RR, nr=1)).write) == ["I1/0P"]


def test_a_damaged_answer_is_asked_for_at_once():
    client = connected()
    client.send(b"read")
    reply = answer(b"yes", ns=0, nr=1)
    reaction = client.receive(damaged(reply))
    assert (summary(reaction.write), reaction.apdu, reaction.heard) == (["RR/0P"], None, True)
    assert client.receive(reply).apdu == b"yes"


def test_a_damaged_frame_in_the_midst_of_a_window_is_asked_for_when_it_is_our_turn():
    client = connected(Parameters(128, 128, 3, 1))
    client.send(b"read")
    window = [
        of_meter(FrameType.I, ns=0, nr=1, final=False, more=True, info=b"\xe6\xe7\x00ab"),
        of_meter(FrameType.I, ns=1, nr=1, final=False, more=True, info=b"cd"),
        of_meter(FrameType.I, ns=2, nr=1, info=b"ef"),
    ]
    reaction = client.receive(window[0] + damaged(window[1]) + window[2])
    assert (summary(reaction.write), reaction.apdu) == (["RR/1P"], None)
    assert client.receive(window[1] + window[2]) == Reaction(b"", b"abcdef", heard=True)


def test_a_frame_damaged_beyond_its_header_check_says_nothing():
    client = connected()
    client.send(b"read")
    ruined = bytearray(answer(b"yes", ns=0, nr=1))
    ruined[6] ^= 1
    assert client.receive(bytes(ruined)) == Reaction()


def test_half_an_answer_does_not_swallow_what_comes_after_the_time_out():
    client = connected()
    client.send(b"read")
    assert client.receive(answer(bytes(100), ns=0, nr=1)[:40]) == Reaction()
    client.timed_out()
    assert client.receive(of_meter(FrameType.RR, nr=1)).heard
    assert client.receive(answer(bytes(100), ns=0, nr=1)).apdu == bytes(100)


def test_an_answer_heard_twice_is_given_once():
    """The time-out was too short: the meter answers the request, and then the RR."""
    client = connected()
    client.send(b"one")
    client.timed_out()
    late = answer(b"yes", ns=0, nr=1)
    assert client.receive(late).apdu == b"yes"
    assert summary(client.send(b"two")) == ["I1/1P"]
    assert client.receive(late) == Reaction(b"", None, heard=True)
    assert client.receive(answer(b"no", ns=1, nr=2)).apdu == b"no"


def test_two_answers_in_one_read_come_one_after_the_other():
    client = connected(Parameters(128, 128, 2, 1))
    client.send(b"one")
    both = of_meter(FrameType.I, ns=0, nr=1, final=False, info=b"\xe6\xe7\x00event") + answer(
        b"yes", ns=1, nr=1
    )
    assert client.receive(both).apdu == b"event"
    assert client.receive(b"") == Reaction(b"", b"yes", heard=False)
    assert client.receive(b"") == Reaction()


def test_an_apdu_sent_while_an_earlier_one_is_open_waits_for_its_turn():
    client = connected()
    client.send(b"given up")
    assert summary(client.send(b"next")) == ["RR/0P"]
    assert summary(client.receive(of_meter(FrameType.RR, nr=0)).write) == ["I0/0P"]
    client.receive(answer(b"late", ns=0, nr=1))
    assert summary(client.timed_out()) == ["RR/1P"]
    assert summary(client.receive(of_meter(FrameType.RR, nr=1)).write) == ["I1/1P"]


@pytest.mark.parametrize("type_", [FrameType.DM, FrameType.FRMR], ids=lambda type_: type_.name)
def test_the_link_is_lost_when_the_meter_says_so(type_: FrameType):
    client = connected()
    client.send(b"ask")
    with pytest.raises(LinkLostError, match=type_.name):
        client.receive(of_meter(type_))
    assert client.disconnected
    assert summary(client.connect()) == ["SNRMP"]


def test_a_frmr_is_explained_in_the_detail():
    client = HdlcClient(Address(1), 16)
    client.connect()
    client.receive(vector("hdlc-ua-noparams").octets)
    client.send(b"ask")
    with pytest.raises(LinkLostError) as caught:
        client.receive(vector("hdlc-frmr-tpc").octets)
    assert caught.value.detail == "rejected control 10, V(S)=0, V(R)=0, reasons w"


@pytest.mark.parametrize(
    "again",
    [of_meter(FrameType.RR, nr=0), of_meter(FrameType.RNR, nr=0), of_meter(FrameType.RR, nr=5)],
    ids=["misses it again and again", "busy for ever", "acknowledges what was never sent"],
)
def test_a_meter_that_makes_no_progress_is_given_up(again: bytes):
    client = connected()
    client.send(b"ask")
    for _ in range(LARGEST_STALL):
        client.timed_out()
        client.receive(again)
    with pytest.raises(LinkLostError, match="without anything new"):
        client.receive(again)
    assert client.disconnected


# -- who speaks -----------------------------------------------------------------------------------------------


def test_a_meter_may_answer_with_a_longer_address():
    client = connected()
    client.send(b"ask")
    reply = of_meter(FrameType.I, nr=1, info=b"\xe6\xe7\x00yes", source=Address(1, 17, 4))
    assert client.receive(reply).apdu == b"yes"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(
            of_meter(FrameType.I, nr=1, info=b"\xe6\xe7\x00no", source=Address(1, 18)), id="another meter"
        ),
        pytest.param(
            of_meter(FrameType.I, nr=1, info=b"\xe6\xe7\x00no", source=Address(2, 17)), id="another device"
        ),
        pytest.param(
            of_meter(FrameType.I, nr=1, info=b"\xe6\xe7\x00no", source=Address(1)), id="a short address"
        ),
        pytest.param(of_meter(FrameType.DM, source=Address(1, 18)), id="another meter's DM"),
        pytest.param(
            of_meter(FrameType.I, nr=1, info=b"\xe6\xe7\x00no", destination=Address(1)), id="another client"
        ),
        pytest.param(of_meter(FrameType.UI, info=b"\xe6\xe7\x00\x0fpush"), id="a push of our meter"),
        pytest.param(
            of_meter(FrameType.UI, final=False, info=b"\xe6\xe7\x00\x0fpush"), id="a push without F"
        ),
        pytest.param(vector("hdlc-i-get-clock").octets, id="another client's request"),
    ],
)
def test_what_is_no_answer_of_our_meter_is_dropped(frame: bytes):
    client = connected()
    client.send(b"ask")
    assert client.receive(frame) == Reaction()
    assert client.receive(answer(b"yes", ns=0, nr=1)).apdu == b"yes"


def test_the_echo_of_an_optical_head_is_no_answer():
    client = connected()
    assert client.receive(client.send(b"ask")) == Reaction()


# -- everything -----------------------------------------------------------------------------------------------


def frames_of_our_meter() -> st.SearchStrategy[bytes]:
    return st.builds(
        of_meter,
        st.sampled_from(FrameType),
        nr=st.integers(0, 7),
        ns=st.integers(0, 7),
        final=st.booleans(),
        info=st.one_of(
            st.just(b""),
            st.binary(max_size=20),
            st.binary(max_size=20).map(lambda octets: b"\xe6\xe7\x00" + octets),
            st.just(Parameters(512, 64, 3, 7).encode()),
        ),
        more=st.booleans(),
    )


@given(
    st.lists(
        st.one_of(
            frames_of_our_meter(),
            frames_of_our_meter().map(damaged),
            st.binary(max_size=40),
            st.sampled_from(["connect", "send", "timed_out", "disconnect"]),
        ),
        max_size=30,
    )
)
def test_whatever_comes_only_wire_errors_are_raised_and_the_window_is_kept(happenings: list[bytes | str]):
    client = HdlcClient(METER, 16)
    for happening in [
        "connect",
        of_meter(FrameType.UA, info=Parameters(128, 32, 7, 3).encode()),
        *happenings,
    ]:
        written = b""
        with contextlib.suppress(WireError):
            match happening:
                case bytes():
                    written = client.receive(happening).write
                case "send":
                    written = client.send(bytes(100))
                case _:
                    written = getattr(client, happening)()
        sent = frames_of(written)
        assert sum(frame.type is FrameType.I for frame in sent) <= client.limits.window_tx
        assert [frame.poll_final for frame in sent] == [False] * (len(sent) - 1) + [True] * bool(sent)
        assert all(len(frame.info) <= client.limits.max_info_tx for frame in sent)


@given(st.binary(max_size=200))
def test_arbitrary_octets_raise_only_wire_errors(octets: bytes):
    client = connected()
    client.send(b"ask")
    with contextlib.suppress(WireError):
        client.receive(octets)
