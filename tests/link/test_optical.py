"""Signing on at an optical head, in virtual time: every way a meter and its head can behave, and every state that a
meter can be found in."""

from dataclasses import replace

import pytest
from support.patience import eventually

from gateway.clock import SystemClock
from gateway.errors import AssociationError, Code, SilentError, WireError
from gateway.link.conversation import Conversation
from gateway.link.counters import Counters
from gateway.link.echo import EchoFilter
from gateway.link.port import open_port
from gateway.link.session import Session
from gateway.model import Meter, MeterKeys, PortKind, PortSettings, Profile
from gateway.simulator import Head, MeterSpec, OpticalLine, OpticalPty, VirtualClock, VirtualMeter
from gateway.wire import apdu
from gateway.wire.hdlc import Address
from gateway.wire.tally import Tally
from gateway.wire.tuning import Limits

NAME = apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)
SPEC = MeterSpec(address=Address(1, 17), response_s=0.02, inactivity_s=30.0)


class Cabinet:
    """A gateway's port with a head on a meter."""

    def __init__(self, head=None, *, baud=9600, profile=None, address="", spec=SPEC):
        self.clock = VirtualClock()
        self.device = VirtualMeter(spec)
        self.line = OpticalLine(self.device, self.clock, head or Head())
        self.settings = PortSettings(
            "probe", PortKind.OPTICAL, device="/dev/ttyUSB0", baud=baud, mode_e=True, attempts=3
        )
        self.meter = Meter(
            "MTR1", "probe", physical_address=17, device_address=address, profile=profile or Profile()
        )
        self.port = EchoFilter(self.line, "probe", self.clock)

    def session(self):
        return Session(
            self.port, self.settings, self.meter, MeterKeys(), system_title=b"",
            counters=Counters(lambda _: 0), clock=self.clock, random_octets=bytes,
        )  # fmt: skip

    def associated(self):
        session = self.session()
        session.open()
        return session

    def name(self):
        """What the meter says in a whole association of its own."""
        session = self.associated()
        name = session.get(NAME).value
        session.close()
        return name

    @property
    def baud(self):
        """The rate at which the port stands."""
        now = self.line.set_baud(300)
        self.line.set_baud(now)
        return now


HEADS = {
    "says nothing to the acknowledgement": Head(),
    "confirms the acknowledgement": Head(confirms=True),
    "takes its time": Head(reaction_s=1.5),
    "takes its time and confirms": Head(reaction_s=1.4, confirms=True),
    "echoes": Head(echoes=1.0),
    "echoes and confirms": Head(echoes=1.0, confirms=True),
    "echoes half of everything": Head(echoes=0.5),
    "echoes all but the end": Head(echoes=0.9, confirms=True),
    "offers more than the port": Head(baud=115200),
    "offers less than the port": Head(baud=2400),
    "offers nothing above 300": Head(baud=300),
    "is slow to change over": Head(deaf_after_ack_s=1.0),
    "reads out where it is not acknowledged": Head(readout_octets=2000),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_meter_is_signed_on_to_and_left_again_and_again(head):
    cabinet = Cabinet(head)
    for _ in range(3):
        session = cabinet.associated()
        assert cabinet.baud == min(head.baud, 9600)
        assert session.get(NAME).value == SPEC.logical_device_name.encode()
        session.close()
        assert cabinet.baud == 300


@pytest.mark.parametrize("baud", [300, 4800, 19200, 115200])
def test_the_rate_is_agreed_at_the_ports_limit(baud):
    cabinet = Cabinet(Head(baud=115200), baud=baud)
    cabinet.associated()
    assert cabinet.baud == baud


def test_a_sign_on_takes_no_longer_than_it_has_to():
    """Request, reaction, identification, 150 ms, acknowledgement, 200 ms, then SNRM at once."""
    cabinet = Cabinet(Head(reaction_s=0.2))
    limits = Limits(2030, 7, snrm_parameters=True, wait_s=0.0)
    Conversation(
        cabinet.port, cabinet.settings, cabinet.meter, cabinet.clock, limits=limits, tally=Tally()
    ).connect()
    octets = len("/?!\r\n") + len("/SIM5\\2SIMULATED\r\n") + len("a252\r\n")
    link_s = (34 + 32) * 10 / 9600 + SPEC.response_s
    assert cabinet.clock.monotonic() == pytest.approx(octets * 10 / 300 + 0.2 + 0.15 + 0.2 + link_s, abs=0.05)


@pytest.mark.parametrize(
    ("own", "asked", "answers"),
    [
        ("12345678", "", True),
        ("12345678", "12345678", True),
        ("12345678", "0012345678", True),
        ("12345678", "12345679", False),
        ("AB 7", "AB 7", True),
    ],
)
def test_a_meter_is_called_by_its_device_address(own, asked, answers):
    cabinet = Cabinet(Head(device_address=own), address=asked)
    if answers:
        assert cabinet.name()
    else:
        with pytest.raises(SilentError, match="does not sign on"):
            cabinet.name()


def test_who_speaks_too_early_waits_for_a_time_out_of_the_port():
    head = Head(deaf_after_ack_s=1.2)
    patient, hasty = Cabinet(head, profile=Profile(optical_delay_after_ack_s=1.25)), Cabinet(head)
    assert patient.name() == hasty.name()
    assert patient.clock.monotonic() < hasty.clock.monotonic() - 0.9


def test_the_pause_before_the_acknowledgement_is_kept():
    longer = Cabinet(profile=Profile(optical_delay_before_ack_s=1.15))
    usual = Cabinet()
    assert longer.name() == usual.name()
    assert longer.clock.monotonic() == pytest.approx(usual.clock.monotonic() + 1.0)


# -- who does not sign on -------------------------------------------------------------------------------------


def test_a_meter_without_hdlc_says_so():
    with pytest.raises(AssociationError, match="does not offer HDLC by mode E") as caught:
        Cabinet(Head(hdlc=False)).name()
    assert caught.value.code is Code.T_ASSOCIATION
    assert "SIMULATED" in caught.value.message


def test_a_silent_head_is_given_up_soon():
    cabinet = Cabinet()
    cabinet.device.reboot(0.0)
    with pytest.raises(SilentError, match="does not sign on at 300 baud") as caught:
        cabinet.name()
    assert not isinstance(caught.value, WireError)
    assert cabinet.clock.monotonic() < 12.0
    cabinet.clock.advance(60.0)
    assert cabinet.name()


def test_nonsense_is_given_up_within_minutes():
    """Something that never stops talking."""
    cabinet = Cabinet(Head(readout_octets=1_000_000, reading_out_at=19200))
    with pytest.raises(WireError, match="no identification among them"):
        cabinet.name()
    assert cabinet.clock.monotonic() < 150.0


# -- where a meter can be found -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [300, 9600])
def test_a_stuck_readout_is_broken_off(rate):
    cabinet = Cabinet(Head(readout_octets=60_000, reading_out_at=rate))
    assert cabinet.name()
    assert cabinet.clock.monotonic() < 30.0


def test_a_readout_that_cannot_be_broken_off_is_waited_for():
    cabinet = Cabinet(Head(readout_octets=60 * 480, reading_out_at=4800))
    assert cabinet.name()
    assert 60.0 < cabinet.clock.monotonic() < 100.0


def test_a_link_that_broke_is_ended_at_the_rate_it_had():
    cabinet = Cabinet(Head(baud=19200), baud=19200)
    cabinet.associated()  # and it was never closed
    began_s = cabinet.clock.monotonic()
    assert cabinet.name()
    assert cabinet.clock.monotonic() - began_s < 5.0


def test_a_gateway_that_was_killed_finds_its_meter_in_the_old_link():
    cabinet = Cabinet()
    cabinet.associated()
    cabinet.line.close()
    cabinet.line.reopen()
    assert cabinet.baud == 300
    assert cabinet.name()
    assert cabinet.clock.monotonic() < 15.0


def test_a_link_at_an_unknown_rate_is_over_when_the_meter_has_waited_long_enough():
    cabinet = Cabinet(Head(baud=2400))
    cabinet.associated()
    cabinet.line.close()
    cabinet.line.reopen()
    with pytest.raises(SilentError, match="does not sign on"):
        cabinet.name()
    cabinet.clock.advance(SPEC.inactivity_s)
    assert cabinet.name()


def test_a_link_of_the_public_client_is_ended_as_well():
    cabinet = Cabinet()
    own = cabinet.meter
    cabinet.meter = replace(own, client=16)
    cabinet.associated()
    cabinet.meter = own
    assert cabinet.name()


def test_a_meter_that_restarts_is_signed_on_to_anew():
    cabinet = Cabinet()
    session = cabinet.associated()
    cabinet.device.reboot(cabinet.clock.monotonic())
    with pytest.raises(SilentError):
        session.get(NAME)
    cabinet.clock.advance(SPEC.reboot_s)
    assert cabinet.name()


# -- in real time ---------------------------------------------------------------------------------------------


def test_the_rate_of_a_real_device_changes_when_the_acknowledgement_has_left():
    """The head reads the rate from the pty, and spoils what has not left when it changes."""
    clock, meter = SystemClock(), Meter("MTR1", "probe", physical_address=17)

    def signs_on():
        settings = PortSettings("probe", PortKind.OPTICAL, device=line.address, mode_e=True)
        port = EchoFilter(open_port(settings), "probe", clock)
        try:
            Session(
                port, settings, meter, MeterKeys(), system_title=b"", counters=Counters(lambda _: 0),
                clock=clock, random_octets=bytes,
            ).open()  # fmt: skip
        except SilentError:
            return False  # on a busy machine the head is late to look
        finally:
            port.close()
        return True

    with OpticalPty([VirtualMeter(SPEC)], Head(echoes=1.0)) as line:
        eventually(signs_on)
