"""What meters tell everybody: associations with the public client (16), who needs no keys and may know little."""

from __future__ import annotations

from dataclasses import replace

from gateway.clock import Clock
from gateway.errors import AssociationError
from gateway.link.conversation import PUBLIC_CLIENT
from gateway.link.counters import Counters
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import Authentication, Meter, MeterKeys, PortSettings, Security
from gateway.wire import apdu
from gateway.wire.tally import Tally
from gateway.wire.tuning import Limits


def public_session(
    port: Port, settings: PortSettings, meter: Meter, *, clock: Clock, limits: Limits, tally: Tally
) -> Session:
    """Not opened."""
    return Session(
        port, settings, _as_public(meter), MeterKeys(),
        system_title=b"", counters=Counters(lambda _: 0), clock=clock, random_octets=bytes,
        limits=limits, tally=tally,
    )  # fmt: skip


def read_public_counter(
    port: Port,
    settings: PortSettings,
    meter: Meter,
    *,
    clock: Clock,
    limits: Limits,
    tally: Tally,
) -> int:
    """The meter's invocation counter, read with the public client (16), unprotected: whoever uses it must limit how
    far it is believed. Raises AccessError or AssociationError where the meter does not tell it."""
    session = public_session(port, settings, meter, clock=clock, limits=limits, tally=tally)
    try:
        session.open()
        value = session.get(apdu.Attribute(1, apdu.obis(meter.profile.counter_object), 2)).value
    finally:
        session.close()
    if not isinstance(value, int) or value < 0:
        raise AssociationError(f"{meter.profile.counter_object} holds no counter")
    return value


def _as_public(meter: Meter) -> Meter:
    return replace(
        meter,
        client=PUBLIC_CLIENT,
        authentication=Authentication.NONE,
        security=Security.NONE,
        dedicated_key=False,
    )
