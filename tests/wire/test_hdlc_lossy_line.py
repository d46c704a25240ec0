"""Two stations over a line that loses, damages and doubles frames, and a meter that is slower than the time-out:
every APDU arrives once and in order, and only a meter that forgets the link makes it lost."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.secondary import Secondary

from gateway.errors import LinkLostError
from gateway.wire.client import Reaction
from gateway.wire.hdlc import Address, Frame, FrameReader, Parameters
from gateway.wire.hdlc_client import HdlcClient

METER, US = Address(1, 17), Address(16)
SILENCES_IN_A_ROW = 100
EXCHANGES = 10


@dataclass(frozen=True)
class Trouble:
    """Probabilities for each frame, and for each write that the answer comes only after the time-out."""

    loss: float = 0.0
    damage: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    forgets_after: int | None = None
    """The meter loses its link once it has taken so many requests."""


class Line:
    """What is written comes to the meter at once, and its answer back with the next read, if at all."""

    def __init__(self, meter: Secondary, trouble: Trouble, random: Random) -> None:
        self._meter = meter
        self._trouble = trouble
        self._random = random
        self._late = b""

    def exchange(self, octets: bytes) -> bytes:
        """Write, then read until the time-out: b"" is silence."""
        if len(self._meter.requests) == self._trouble.forgets_after:
            self._meter.connected = False
        heard = self._late
        self._late = self._pass(self._meter.receive(self._pass(octets)))
        if self._random.random() >= self._trouble.slow:
            heard, self._late = heard + self._late, b""
        return heard

    def _pass(self, octets: bytes) -> bytes:
        passed = []
        for frame in FrameReader().feed(octets):
            assert isinstance(frame, Frame)
            copies = [frame.encode()] * (1 + (self._random.random() < self._trouble.double))
            passed += [self._spoil(copy) for copy in copies if self._random.random() >= self._trouble.loss]
        return b"".join(passed)

    def _spoil(self, octets: bytes) -> bytes:
        if self._random.random() >= self._trouble.damage:
            return octets
        # At most 16 bits in a row: the checks are sure to find that.
        at = self._random.randrange(len(octets) - 1)
        burst = self._random.randrange(1, 1 << 16).to_bytes(2, "big")
        return octets[:at] + bytes((octets[at] ^ burst[0], octets[at + 1] ^ burst[1])) + octets[at + 2 :]


def converse(line: Line, client: HdlcClient, apdus: list[bytes]) -> list[bytes]:
    """Connect, then send each APDU when the one before was answered: the answers."""
    pending = client.connect()
    while not client.connected:
        client.receive(line.exchange(pending))
        pending = client.timed_out()
    return [answer_to(apdu, line, client) for apdu in apdus]


def answer_to(apdu: bytes, line: Line, client: HdlcClient) -> bytes:
    pending, silences = client.send(apdu), 0
    while silences < SILENCES_IN_A_ROW:
        reaction = client.receive(line.exchange(pending))
        if reaction.apdu is not None:
            return reaction.apdu
        silences = 0 if reaction.heard else silences + 1
        pending = reaction.write or client.timed_out()
    raise AssertionError("silent for ever")


def reply_to(apdu: bytes) -> bytes:
    return b"to " + apdu[:4] + apdu[::-1]


PARAMETERS = st.builds(
    Parameters,
    st.sampled_from([32, 64, 2030]),
    st.sampled_from([32, 64, 2030]),
    st.integers(1, 7),
    st.integers(1, 7),
)


def scenario(seed: int, parameters: Parameters, trouble: Trouble):
    random = Random(seed)
    apdus = [
        bytes((number,)) * 4 + random.randbytes(random.choice([0, 30, 100, 400]))
        for number in range(EXCHANGES)
    ]
    meter = Secondary(METER, US, parameters=parameters, answer=reply_to)
    return meter, apdus, Line(meter, trouble, random)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), PARAMETERS, st.builds(Trouble, *[st.sampled_from([0.0, 0.05, 0.2])] * 4))
def test_every_apdu_arrives_once_and_in_order(seed, parameters, trouble):
    meter, apdus, line = scenario(seed, parameters, trouble)
    assert converse(line, HdlcClient(METER, 16), apdus) == [reply_to(apdu) for apdu in apdus]
    assert meter.requests == apdus


@settings(deadline=None)
@given(st.integers(0, 2**32), PARAMETERS, st.integers(1, EXCHANGES - 1), st.sampled_from([0.0, 0.2]))
def test_a_meter_that_forgets_the_link_is_noticed_and_has_taken_nothing_twice(seed, parameters, when, loss):
    trouble = Trouble(loss=loss, slow=loss, forgets_after=when)
    meter, apdus, line = scenario(seed, parameters, trouble)
    client = HdlcClient(METER, 16)
    with pytest.raises(LinkLostError):
        converse(line, client, apdus)
    assert client.disconnected
    assert meter.requests == apdus[:when]


@settings(deadline=None)
@given(st.integers(0, 2**32), PARAMETERS)
def test_on_a_perfect_line_no_time_out_is_needed(seed, parameters):
    meter, apdus, line = scenario(seed, parameters, Trouble())
    client = HdlcClient(METER, 16)
    client.receive(line.exchange(client.connect()))
    for apdu in apdus:
        reaction = Reaction(write=client.send(apdu))
        while reaction.write:
            reaction = client.receive(line.exchange(reaction.write))
        assert reaction.apdu == reply_to(apdu)
    assert meter.requests == apdus
