"""Listening in on a line: all that went is there in order, and a line that nobody watches is as it was."""

import random

import pytest
from support.world import ciphered

from gateway.board import Board
from gateway.errors import PortError
from gateway.link.counters import Counters
from gateway.link.session import Session
from gateway.link.tap import Tap, tapped
from gateway.model import Meter, PortKind, PortSettings
from gateway.simulator import VirtualClock, VirtualLine, VirtualMeter
from gateway.wire import apdu, image_transfer
from gateway.wire.trace import Direction, LineTrace

BUS = PortSettings("bus", PortKind.RS485, device="sim")
NAME = apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)
BITMAP = apdu.Attribute(image_transfer.CLASS_ID, image_transfer.DEFAULT_INSTANCE, 3)


class Room:
    """A meter on a line that is tapped."""

    def __init__(self, spec):
        self.clock, self.board = VirtualClock(), Board()
        self.recording = self.board.recording(BUS.name)
        self.line = VirtualLine([VirtualMeter(spec)], self.clock, baud=9600)
        self.port = tapped(lambda _: self.line, self.board, self.clock)(BUS)
        meter = Meter("MTR1", BUS.name, authentication=spec.authentication, security=spec.security)
        self.session = Session(
            self.port, BUS, meter, spec.keys, system_title=b"MGW\x00\x00\x00\x00\x01", clock=self.clock,
            counters=Counters(lambda _: 100), random_octets=random.Random("tap").randbytes,
        )  # fmt: skip

    def work(self):
        self.session.open()
        value = self.session.get(NAME).value
        self.session.get(BITMAP)
        self.session.close()
        return value

    def heard(self, place):
        return self.recording.after(place, 10_000, 1 << 30)[0]


def test_a_line_that_is_watched_carries_the_same_in_the_same_time():
    quiet, watched = Room(ciphered()), Room(ciphered())
    place = watched.recording.begin()
    assert quiet.work() == watched.work() == b"SIM0000000000001"
    assert quiet.clock.monotonic() == watched.clock.monotonic()
    assert quiet.line.octets_carried == watched.line.octets_carried
    heard = watched.heard(place)
    assert sum(len(one.octets) for one in heard) == watched.line.octets_carried
    assert quiet.heard(0) == []
    assert [one.at_s for one in heard] == sorted(one.at_s for one in heard)


def test_what_was_heard_is_a_conversation_in_words():
    room = Room(ciphered())
    place = room.recording.begin()
    room.work()
    line = LineTrace()
    told = [
        told
        for one in room.heard(place)
        for told in line.feed(
            Direction.TO_METER if one.outward else Direction.FROM_METER, one.octets, one.at_s
        )
    ]
    assert [one.frame["type"] for one in told[:2]] == ["SNRM", "UA"]
    assert told[2].apdu.startswith("AARQ context ln-ciphered (3), mechanism gmac (5)")
    assert told[-2].frame["type"] == "DISC"
    assert not [one for one in told if one.wrong]


def test_what_becomes_of_the_line_is_noted():
    class Adjustable(VirtualLine):
        def set_baud(self, baud):
            return 9600

    board, clock = Board(), VirtualClock()
    recording = board.recording(BUS.name)
    recording.begin()
    line = Adjustable([VirtualMeter(ciphered())], clock, baud=9600)
    port = tapped(lambda _: line, board, clock)(BUS)
    port.set_baud(300)
    port.close()
    with pytest.raises(PortError):
        port.read(1, 0.1)

    def missing(_):
        raise PortError("cannot open /dev/ttyUSB9: No such file or directory")

    with pytest.raises(PortError):
        tapped(missing, board, clock)(PortSettings(BUS.name, PortKind.RS485, device="/dev/ttyUSB9"))
    notes = [one.note for one in recording.after(0, 100, 1 << 20)[0]]
    assert notes[:3] == ["sim is opened", "300 baud", "closed"]
    assert notes[-1] == "cannot open /dev/ttyUSB9: No such file or directory"


def test_what_is_thrown_away_is_heard():
    class Stale(VirtualLine):
        def read(self, limit, timeout_s):
            octets, self.stale = self.stale, b""
            return octets

        def discard(self):
            self.stale = b""

    clock, recording = VirtualClock(), Board().recording("bus")
    line = Stale([VirtualMeter(ciphered())], clock)
    port = Tap(line, recording, clock)
    line.stale = b"late"
    place = recording.begin()
    port.discard()
    assert [one.octets for one in recording.after(place, 10, 100)[0]] == [b"late"]
    assert line.stale == b""
