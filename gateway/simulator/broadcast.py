"""A meter's ear for what is said to all stations: UI frames of a pre-established broadcast client, never answered.

Strict, and silent about it (IEC 62056-46, 6.4.2.2 and "inopportune address lengths"): taken are UI frames with P = 0,
to an all-station address of a length that suits the meter's own, with an unconfirmed ACTION that is one image block,
plain or sealed just as the meter wants it, under a counter that it has not seen. Everything else is discarded.
"""

from __future__ import annotations

from gateway.errors import SecurityError, WireError
from gateway.model import BroadcastFraming, Security
from gateway.simulator.association import Counters
from gateway.simulator.spec import MeterSpec
from gateway.wire import apdu as pdu
from gateway.wire import broadcast, image_transfer
from gateway.wire.apdu import ActionRequest
from gateway.wire.hdlc import Address, Frame, FrameType
from gateway.wire.security import Protection, Sealed

_LLC_OF_CLIENT = b"\xe6\xe6\x00"
_ALL_STATION = {1: 0x7F, 2: 0x7F, 4: 0x3FFF}


def for_all(destination: Address) -> bool:
    """An address that no meter has for itself: the lower half, or the only one, is all-station."""
    last = destination.upper if destination.lower is None else destination.lower
    return last == _ALL_STATION[destination.octets]


class BroadcastEar:
    """What one meter takes of it; `counters` remembers the highest counter over reboots."""

    def __init__(self, spec: MeterSpec, counters: Counters) -> None:
        self._spec = spec
        self._counters = counters
        self._own_octets = len(spec.address.encode())
        self._protection = self._make_protection()

    def understand(self, frame: Frame) -> ActionRequest | None:
        """The block in this frame, or None: the frame is discarded."""
        spec = self._spec
        if frame.type is not FrameType.UI or frame.poll_final or frame.segmented:
            return None
        if not self._is_meant(frame.destination) or frame.source != Address(spec.broadcast_client):
            return None
        if len(frame.info) > spec.broadcast_max_info or not frame.info.startswith(_LLC_OF_CLIENT):
            return None
        try:
            request = pdu.decode(self._plain(frame.info[len(_LLC_OF_CLIENT) :]))
        except (WireError, SecurityError):
            return None
        match request:
            case ActionRequest(invoke=invoke, method=method) if not invoke.confirmed and method == (
                image_transfer.method(pdu.obis(spec.image_object), image_transfer.BLOCK_TRANSFER)
            ):
                return request
            case _:
                return None

    def _is_meant(self, destination: Address) -> bool:
        """A meter of one octet takes two where the lower half is all-station, and four where both are; others take
        their own length only."""
        own, octets = self._own_octets, destination.octets
        if octets == 1 or (own, octets) == (1, 4):
            uppers = {_ALL_STATION[octets]}
        else:
            uppers = {_ALL_STATION[octets], self._spec.address.upper}
        return octets >= own and own in (1, octets) and destination.upper in uppers

    def _plain(self, apdu: bytes) -> bytes:
        """Raises SecurityError and WireError."""
        if self._protection is None:
            if self._spec.security is not Security.NONE:
                raise SecurityError("it ciphers, and has no broadcast key")
            return apdu
        sealed = Sealed.parse(apdu)
        general = self._spec.broadcast_framing is BroadcastFraming.GENERAL_GLO
        if (sealed.plain_tag is None) is not general or sealed.counter <= self._counters.broadcast:
            raise SecurityError("another framing, or a replay")
        plain = self._protection.open(apdu)
        self._counters.broadcast = sealed.counter
        return plain

    def _make_protection(self) -> Protection | None:
        spec = self._spec
        if spec.security is Security.NONE or not spec.keys.broadcast_key:
            return None
        protection = broadcast.protection(
            broadcast_key=spec.keys.broadcast_key,
            authentication_key=spec.keys.authentication_key,
            own_title=spec.system_title,
            general=False,
        )
        protection.peer_title = spec.client_title
        return protection
