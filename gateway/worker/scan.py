"""`port.scan`: who is on this line? One address a step, so that the jobs of the line go on in between.

Each address is asked once, as the public client (16), without HDLC parameters, which every meter takes; one that is
silent costs one short wait. What answers at all is found, whatever it answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.clock import Clock
from gateway.errors import AccessError, MeterError, PortError, SilentError, WireError
from gateway.link.port import Port
from gateway.link.public_client import public_session
from gateway.link.session import Session
from gateway.model import Errand, Meter, PortSettings, Profile
from gateway.transfer import Item
from gateway.wire.tally import Tally
from gateway.wire.tuning import Limits
from gateway.worker import objects

SMALLEST_INFO = 128
"""What holds where nothing is negotiated (IEC 62056-46)."""
NOTE_S = 10.0
"""How often the address that the scan has come to is made durable."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a meter may be: upper and lower HDLC address. With one octet there is an upper one alone."""

    logical: int
    physical: int | None

    def __str__(self) -> str:
        return f"{self.logical}" if self.physical is None else f"{self.logical}/{self.physical}"


class Scan:
    """What an errand asks for, how far it is, and what was found."""

    def __init__(
        self,
        errand: Errand,
        settings: PortSettings,
        *,
        meters: Mapping[str, Meter],
        clock: Clock,
        tally: Tally,
    ) -> None:
        args = errand.args
        wait_s = min(args["timeout_s"], settings.response_timeout_s)
        self.errand = errand
        self.found: list[dict[str, Any]] = []
        self.noted_at_s = clock.monotonic()
        self._settings = replace(settings, attempts=1, response_timeout_s=wait_s)
        self._limits = Limits(max_info=SMALLEST_INFO, window=1, snrm_parameters=False, wait_s=wait_s)
        self._octets = args["address_bytes"]
        self._places = _places(args)
        self._next = 0
        self._clock = clock
        self._tally = tally
        self._known = {
            Place(
                meter.logical_address, None if meter.address_bytes == 1 else meter.physical_address
            ): meter.id
            for meter in meters.values()
        }

    @property
    def place(self) -> Place | None:
        """Who is asked next; None: everybody was."""
        return self._places[self._next] if self._next < len(self._places) else None

    @property
    def meter_id(self) -> str | None:
        """The configured meter that is there, if one is."""
        return self._known.get(self.place) if self.place else None

    def progress(self) -> dict[str, int]:
        return {"done": self._next, "total": len(self._places), "found": len(self.found)}

    def result(self) -> dict[str, Any]:
        return {"port": self._settings.name, "addresses": len(self._places), "found": self.found}

    def step(self, port: Port) -> str:
        """Ask the next address. Raises PortError."""
        place = self._places[self._next]
        meter = Meter(
            f"at {place}", self._settings.name, physical_address=place.physical or 0, logical_address=place.logical,
            address_bytes=self._octets,
        )  # fmt: skip
        damaged = self._tally.damaged
        session = public_session(
            port, self._settings, meter, clock=self._clock, limits=self._limits, tally=self._tally
        )
        told: dict[str, str] | None
        try:
            session.open()
            told = _identity(session)
        except PortError:
            raise
        except MeterError as error:
            silent = (
                isinstance(error, SilentError) and not isinstance(error, WireError) and not session.linked
            )
            told = None if silent and self._tally.damaged == damaged else {"remark": error.message}
        finally:
            session.close()
        self._next += 1
        if told is None:
            return f"nobody at {place}"
        self.found.append(self._document(place, told))
        return f"somebody at {place}"

    def _document(self, place: Place, told: Mapping[str, str]) -> dict[str, Any]:
        return {
            "logical_address": place.logical,
            "physical_address": place.physical,
            "address_bytes": self._octets or None,
            "meter": self._known.get(place),
            "logical_device_name": told.get("logical_device_name"),
            "firmware_version": told.get("firmware_version"),
            "remark": told.get("remark", ""),
        }


def _places(args: Mapping[str, Any]) -> list[Place]:
    numbers = range(args["from"], args["to"] + 1)
    if args["address_bytes"] == 1:
        return [Place(number, None) for number in numbers]
    return [Place(logical, number) for number in numbers for logical in args["logical"]]


def _identity(session: Session) -> dict[str, str]:
    """What the public client may know."""
    told, remarks = {}, []
    for name, item in (("logical_device_name", Item.DEVICE_NAME), ("firmware_version", Item.VERSION)):
        try:
            told[name] = objects.as_text(session.get(objects.attribute_of(item, Profile(), "")))
        except (AccessError, WireError) as error:
            if not session.alive:
                raise
            remarks.append(f"{item.value}: {error.message}")
    return {**told, "remark": "; ".join(remarks)}
