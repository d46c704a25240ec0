"""Lines that give back what is sent: whole, in pieces, late, cut and damaged; and lines that only seem to."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.link.echo import EchoFilter
from gateway.link.port import Port
from gateway.simulator import VirtualClock
from gateway.wire.hdlc import Address, FrameType, Parameters, control_octet, encode_frame

CLIENT, SERVER = Address(1), Address(1)
"""As on a meter with one address octet: both are the same, and so are some frames."""
SNRM = encode_frame(SERVER.encode() + CLIENT.encode(), 0x93, Parameters(512, 512, 1, 1).encode())
UA = encode_frame(CLIENT.encode() + SERVER.encode(), 0x73, Parameters(512, 512, 1, 1).encode())
REQUEST = encode_frame(SERVER.encode() + CLIENT.encode(), 0x10, b"\xe6\xe6\x00" + bytes(40))
ANSWER = encode_frame(CLIENT.encode() + SERVER.encode(), 0x30, b"\xe6\xe7\x00" + bytes(20))
READY = encode_frame(CLIENT.encode() + SERVER.encode(), control_octet(FrameType.RR, True, 0, 0))


class Wire(Port):
    """A line on which comes in what a test puts there."""

    def __init__(self, clock):
        self.coming = deque()
        self.written = b""
        self._clock = clock

    def write(self, octets):
        self.written += octets

    def read(self, limit, timeout_s):
        if not self.coming:
            self._clock.advance(timeout_s)
            return b""
        return self.coming.popleft()

    def discard(self):
        self.coming.clear()

    def set_baud(self, baud):
        return 9600

    def close(self):
        pass


class Line:
    """An echo filter over such a line, and what it hands on."""

    def __init__(self):
        self.clock = VirtualClock()
        self.wire = Wire(self.clock)
        self.port = EchoFilter(self.wire, "bus", self.clock)

    def exchange(self, octets, *chunks):
        self.port.write(octets)
        return self.hear(*chunks)

    def hear(self, *chunks):
        self.wire.coming.extend(filter(None, chunks))
        heard = b""
        while octets := self.port.read(4096, 1.0):
            heard += octets
        return heard


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def echoing(line):
    assert line.exchange(SNRM, SNRM, UA) == UA
    return line


def cut(octets, sizes):
    start = 0
    for size in [*sizes, len(octets)]:
        yield octets[start : start + size]
        start += size


@given(sizes=st.lists(st.integers(1, 30), max_size=20))
def test_a_copy_is_dropped_in_whatever_pieces_it_comes(sizes):
    line = Line()
    assert line.exchange(SNRM, *cut(SNRM + UA, sizes)) == UA
    assert line.exchange(REQUEST, *cut(REQUEST + ANSWER, sizes)) == ANSWER
    assert (line.port.copies, line.port.broken) == (2, 0)


@given(sizes=st.lists(st.integers(1, 30), max_size=20))
def test_a_line_without_echo_loses_nothing(sizes):
    line = Line()
    assert line.exchange(SNRM, *cut(UA, sizes)) == UA
    assert line.exchange(REQUEST, *cut(READY, sizes)) == READY
    assert line.exchange(READY, *cut(READY, sizes)) == READY, (
        "that is the answer of a meter at the client's address"
    )
    assert line.port.copies == 0


@given(
    st.lists(st.binary(max_size=30), max_size=10), st.lists(st.binary(min_size=1, max_size=30), max_size=3)
)
def test_whatever_comes_ends_in_silence_and_nothing_is_made_up(heard, written):
    line = Line()
    for octets in written:
        line.port.write(octets)
    found = line.hear(*heard)
    assert len(found) <= len(b"".join(heard))
    assert line.clock.monotonic() < 60.0


def test_an_answer_behind_the_echo_of_an_equal_frame_is_the_meters(echoing):
    assert echoing.exchange(READY, READY, READY) == READY


def test_an_echo_that_comes_late_is_one_all_the_same(echoing):
    assert echoing.exchange(REQUEST) == b""
    assert echoing.exchange(READY, REQUEST, READY + ANSWER) == ANSWER


def test_an_echo_that_got_lost_takes_no_other_with_it(echoing):
    assert echoing.exchange(REQUEST) == b""
    assert echoing.exchange(READY, READY, ANSWER) == ANSWER


def test_an_echo_that_is_missing_for_once_costs_nothing(echoing):
    assert echoing.exchange(REQUEST, ANSWER) == ANSWER


@pytest.mark.parametrize("part", [12, 20, len(REQUEST) - 2, len(REQUEST) - 1])
def test_a_part_of_an_echo_is_dropped(line, part):
    assert line.exchange(SNRM, SNRM[: len(SNRM) // 2], UA) == UA
    assert line.exchange(REQUEST, REQUEST[:part], ANSWER) == ANSWER
    assert line.port.copies + line.port.broken == 2


def test_a_damaged_echo_is_dropped_up_to_the_damage(echoing):
    damaged = bytearray(REQUEST)
    damaged[20] ^= 0x10
    assert echoing.exchange(REQUEST, bytes(damaged), ANSWER) == bytes(damaged[20:]) + ANSWER
    assert echoing.port.broken == 1


def test_a_part_too_short_to_be_known_is_passed_on(echoing):
    assert echoing.exchange(REQUEST, REQUEST[:4], ANSWER) == REQUEST[:4] + ANSWER


def test_what_is_held_back_at_the_end_of_a_time_out_is_not_lost(line):
    assert line.exchange(SNRM, UA[:2]) == b""
    assert line.hear(UA[2:]) == UA


def test_a_head_that_was_taken_for_silent_is_found_out(line):
    """The first octet may be the noise of its power."""
    line.exchange(SNRM, b"\x00" + SNRM, UA)
    assert line.exchange(REQUEST, REQUEST, ANSWER) == ANSWER
    assert line.exchange(READY, READY, ANSWER) == ANSWER


def test_what_was_discarded_or_sent_at_another_rate_comes_back_no_more(echoing):
    for forget in (echoing.port.discard, lambda: echoing.port.set_baud(300)):
        echoing.port.write(REQUEST)
        forget()
        assert echoing.hear(REQUEST[:3] + ANSWER) == REQUEST[:3] + ANSWER


def test_what_a_line_does_is_said_once(line, caplog):
    caplog.set_level("INFO", "gateway.link.echo")
    for _ in range(3):
        line.exchange(REQUEST, REQUEST, ANSWER)
        line.exchange(REQUEST, REQUEST[:20], ANSWER)
    assert [record.getMessage() for record in caplog.records] == [
        "bus gives back what is sent: copies are dropped",
        "bus gives back what is sent, cut or damaged: is it wired and seated well?",
    ]
