"""Blocks of an image for every meter of a line at once: unconfirmed ACTIONs in UI frames to the all-station address.

UI with P = 0 is taken whether there is a link or not, and answered by nobody; the lower address is all-station, the
upper one the logical device that is meant in every meter (IEC 62056-46). Bit 6 of the ACTION's invoke-id-and-priority
is cleared as well: no service answer either. Ciphered, it goes under the global broadcast key, security control 0x70,
with the authentication key in the AAD (Green Book, "Information security"), in an association that needs no AARQ. There
is no fragmentation: a block, what is around it and the LLC header must fit the information of one frame.
"""

from __future__ import annotations

from gateway.model import BroadcastFraming, Meter, Security
from gateway.wire import image_transfer
from gateway.wire.hdlc import Address, FrameType, control_octet, encode_frame
from gateway.wire.security import KEY_OCTETS, TITLE_OCTETS, Protection

_LLC_OF_CLIENT = b"\xe6\xe6\x00"
_ALL_STATION = {1: 0x7F, 2: 0x7F, 4: 0x3FFF}


def all_stations(upper: int, octets: int) -> Address:
    """Every meter whose address has `octets` octets (1, 2 or 4) on the line, in each the logical device `upper`. An
    address of one octet has no room for that: it reaches them all."""
    if octets == 1:
        return Address(_ALL_STATION[1], None, 1)
    return Address(upper, _ALL_STATION[octets], octets)


def protection(
    *, broadcast_key: bytes, authentication_key: bytes, own_title: bytes, general: bool
) -> Protection:
    """How broadcast APDUs are sealed, and opened by the meters; `general`: as general-glo-ciphering, which names
    the sender's title, otherwise as glo-action-request, whose receivers know it. Raises SecurityError."""
    return Protection(
        encryption_key=broadcast_key,
        authentication_key=authentication_key,
        own_title=own_title,
        authenticated=True,
        encrypted=True,
        general=general,
        broadcast=True,
    )


class BlockBroadcast:
    """Blocks for one kind of meters: `stations` as `all_stations` gives it, from the client address `client`, for
    the image object `instance`, plain or under `sealed_by`."""

    def __init__(
        self, stations: Address, client: int, *, instance: bytes, sealed_by: Protection | None
    ) -> None:
        self._addresses = stations.encode() + Address(client).encode()
        self._request = image_transfer.BlockRequest(instance, confirmed=False)
        self._protection = sealed_by
        self._invoke = 0

    def frame(self, number: int, block: bytes, counter: int) -> bytes:
        """The UI frame of block `number`. `counter` was never used with this key, not even for the same block
        before; it counts for nothing where blocks go plain."""
        self._invoke = (self._invoke + 1) & 0x0F
        apdu = self._request.encode(self._invoke, number, block)
        if self._protection is not None:
            apdu = self._protection.seal(apdu, counter)
        return encode_frame(
            self._addresses, control_octet(FrameType.UI, poll_final=False), _LLC_OF_CLIENT + apdu
        )


def largest_block(meter: Meter) -> int:
    """How many octets of image fit the UI frame that this meter takes (`broadcast_max_info`); 0: not one."""
    profile, sealed_by = meter.profile, None
    if meter.security is not Security.NONE:
        lengths_only = bytes(KEY_OCTETS)
        sealed_by = protection(
            broadcast_key=lengths_only,
            authentication_key=lengths_only,
            own_title=bytes(TITLE_OCTETS),
            general=profile.broadcast_framing is BroadcastFraming.GENERAL_GLO,
        )
    room = profile.broadcast_max_info - len(_LLC_OF_CLIENT)
    return image_transfer.largest_block(room, sealed_by) if room > 0 else 0
