"""First contact, refused counters and silence on real lines: behind a TCP port, and on HDLC over TCP."""

import os
from dataclasses import replace

import pytest
from support.desk import memory_directory, open_store
from support.world import ciphered

from gateway.board import Board
from gateway.clock import SystemClock
from gateway.errors import CounterRefusedError, SecurityError, SilentError
from gateway.link.port import open_port
from gateway.model import Authentication, Framing, Meter, PortKind, PortSettings, Profile, Security
from gateway.simulator import Faults, TcpLine, VirtualMeter, What
from gateway.wire import apdu
from gateway.worker.contact import COUNTER_MARGIN, Contact
from gateway.worker.figures import Figures
from gateway.worker.learning import Learning

TITLE = b"MGW\x00\x00\x00\x00\x01"
NAME = apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)


class Bench:
    """One meter behind a TCP port, and the contact with it."""

    def __init__(self, directory, line, meter, *, framing, profile, initial, patience_s):
        self.device = meter
        self.settings = PortSettings(
            "lan",
            PortKind.TCP,
            address=line.address,
            framing=framing,
            response_timeout_s=patience_s,
            attempts=2,
        )
        self.meter = Meter(
            "MTR1", "lan", authentication=Authentication.HLS_GMAC, security=Security.BOTH,
            profile=profile or Profile(),
        )  # fmt: skip
        self.keys = replace(meter.spec.keys, initial_counter=initial)
        self.store = open_store(directory, SystemClock())
        self.port = open_port(self.settings)
        self.contact = Contact(
            self.settings, keys={"MTR1": self.keys}, system_title=TITLE, store=self.store, clock=SystemClock(),
            random_octets=os.urandom, figures=Figures("lan", board=Board(), clock=SystemClock()),
            learning=Learning(self.settings, store=self.store, clock=SystemClock()),
        )  # fmt: skip

    def associate(self):
        return self.contact.associate(self.port, self.meter)

    def close(self):
        self.port.close()
        self.store.close()


@pytest.fixture(params=[Framing.WRAPPER, Framing.HDLC])
def bench(request):
    """Makes one: the spec's changes and the faults are the meter's. Whoever shall be silent needs no long patience."""
    opened = []
    with memory_directory() as directory:

        def made(*, faults=None, profile=None, initial=None, patience_s=10.0, **changes):
            meter = VirtualMeter(ciphered(**changes), faults=faults or Faults())
            line = TcpLine([meter], framing=request.param)
            line.start()
            bench = Bench(
                directory, line, meter, framing=request.param,
                profile=profile, initial=initial, patience_s=patience_s,
            )  # fmt: skip
            opened.extend((bench.close, line.stop))
            return bench

        yield made
        for close in opened:
            close()


def test_the_first_message_has_a_counter_above_the_meters(bench):
    bench = bench(client_counter=700)
    session = bench.associate()
    assert session.get(NAME).value == b"SIM0000000000001"
    assert bench.device.counters.client >= 700 + COUNTER_MARGIN
    assert bench.device.history.count(What.SECURITY) == 0


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_a_jump_between_two_associations_is_followed(bench, silent):
    bench = bench(faults=Faults(silent_refusals=silent), patience_s=1.0 if silent else 10.0)
    bench.associate().close()
    bench.device.counters.client += 5000
    session = bench.associate()
    assert session.get(NAME).value == b"SIM0000000000001"
    assert bench.device.history.count(What.SECURITY) == 1


def test_a_jump_within_an_association_ends_it_and_is_followed_in_the_next(bench):
    bench = bench()
    session = bench.associate()
    sent = bench.device.counters.client + 1
    bench.device.counters.client += 5000
    with pytest.raises(CounterRefusedError) as refused:
        session.get(NAME)
    assert (refused.value.sent, refused.value.expected) == (sent, sent + 5000)
    judged = bench.contact.judge(bench.meter, session, refused.value)
    assert judged.retryable
    assert bench.store.all_parked() == {}
    assert bench.associate().alive
    assert bench.device.history.count(What.SECURITY) == 1


def test_a_meter_that_hears_nobody_is_silent_and_not_parked(bench):
    bench = bench(initial=5, patience_s=0.2)
    bench.device._deaf_until_s = 1e9
    with pytest.raises(SilentError) as silence:
        bench.associate()
    assert bench.contact.judge(bench.meter, None, silence.value) is silence.value
    assert bench.store.all_parked() == {}


def test_a_counter_that_would_lead_back_is_believed_by_nobody(bench):
    """As a recording played back would say it."""
    bench = bench()
    session = bench.associate()
    forged = CounterRefusedError("refused", sent=bench.device.counters.client, expected=3)
    judged = bench.contact.judge(bench.meter, session, forged)
    assert type(judged) is SecurityError
    assert "never go back" in judged.message
    assert list(bench.store.all_parked()) == ["MTR1"]


def test_an_operators_counter_is_used_from_the_next_association_on(bench):
    bench = bench()
    bench.associate().close()
    bench.store.seed_counter("MTR1", 80_000)
    bench.associate().close()
    assert bench.device.counters.client >= 80_000
