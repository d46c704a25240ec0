r"""Signing on to a meter at its optical port: IEC 62056-21, protocol mode E, up to where HDLC begins.

    us     / ? [device address] ! CR LF         300 baud
    meter  / X X X Z \2 identification CR LF    300 baud: manufacturer, its highest rate, and that it speaks HDLC
    us     ACK 2 Z 2 CR LF                      300 baud: the rate agreed, both digits 2 for HDLC
    meter  ACK 2 Z 2 CR LF                      the new rate; many meters leave it out
    both   HDLC                                 the new rate, 8N1

Characters have 7 bits and even parity (7E1). On the line that is the same as 8 bits without parity whose highest is the
parity bit, so the line stands at 8N1 all the time, and neither a driver nor a pty has to know 7 bits: what is written
here carries the parity bit, and of what is read it is cut off, whether it was there or not.

Sans-io: octets in, octets out; time and port are the caller's (`gateway.link.optical`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SIGN_ON_BAUD = 300
BAUDS = {
    300: b"0", 600: b"1", 1200: b"2", 2400: b"3", 4800: b"4", 9600: b"5", 19200: b"6",
    38400: b"7", 57600: b"8", 115200: b"9",
}  # fmt: skip
"""Rates and the character Z that stands for them (6.3.14, item 13); 7 to 9 are used by newer meters."""
DEVICE_ADDRESS = re.compile(r"[0-9A-Za-z ]{0,32}")
"""6.3.14, item 22. Meters do not look at leading zeros."""

_LONGEST_IDENTIFICATION = 64
_BAUD_OF = {character: baud for baud, character in BAUDS.items()}
_IDENTIFICATION = re.compile(rb"/([A-Za-z]{3})(.)((?:\\.)*)([ -~]*)\r?", re.DOTALL)


def with_parity(characters: bytes) -> bytes:
    """Characters of 7 bits as 8N1 sends them so that they are 7E1 on the line."""
    return bytes(character | (character.bit_count() & 1) << 7 for character in characters)


BREAK = with_parity(b"\x01B0\x03q")
"""Ends a readout or a programming session (6.3.14, item 17)."""


def request(device_address: str = "") -> bytes:
    """What signs on. The address, as `DEVICE_ADDRESS`, picks one meter of several; empty: whoever is there."""
    return with_parity(b"/?" + device_address.encode("ascii") + b"!\r\n")


def acknowledgement(baud: int) -> bytes:
    """What chooses HDLC at one of `BAUDS`. Its first digit is 2: with 0 the meter would begin a readout."""
    return with_parity(b"\x062" + BAUDS[baud] + b"2\r\n")


@dataclass(frozen=True, slots=True)
class Identification:
    """What a meter says of itself."""

    manufacturer: str
    baud: int
    """Its highest rate; 0: it names none of `BAUDS`."""
    hdlc: bool
    """It offers HDLC by mode E."""
    text: str


def agreed_baud(offered: int, most: int) -> int:
    """The highest rate of `BAUDS` that is neither above what the meter offers nor above ours."""
    return max(baud for baud in BAUDS if baud <= min(offered, most))


class IdentificationReader:
    """Finds the identification in what a line delivers, in pieces of any size. Never raises, holds one line at most.

    Noise, echoes of the request, whole or cut, and lines that are none are passed over: an identification begins at
    the last "/" before its end of line.
    """

    def __init__(self) -> None:
        self.heard = 0
        """Octets so far."""
        self._line = b""

    def feed(self, octets: bytes) -> Identification | None:
        """The identification, once it is complete; what follows it is dropped."""
        self.heard += len(octets)
        for octet in octets:
            found = self._take(octet & 0x7F)
            if found is not None:
                return found
        return None

    def _take(self, character: int) -> Identification | None:
        if character == ord("/"):
            self._line = b"/"
        elif not self._line:
            pass
        elif character == ord("\n"):
            line, self._line = self._line, b""
            return _identification(line)
        elif len(self._line) < _LONGEST_IDENTIFICATION:
            self._line += bytes([character])
        else:
            self._line = b""
        return None


def _identification(line: bytes) -> Identification | None:
    """Up to its CR. Between the rate and the text stand pairs of a backslash and a character, 2 for HDLC."""
    found = _IDENTIFICATION.fullmatch(line)
    if found is None:
        return None
    manufacturer, rate, pairs, text = found.groups()
    baud = _BAUD_OF.get(rate, 0)
    offers = b"2" in pairs[1::2] and baud > 0
    return Identification(manufacturer.decode("ascii"), baud, offers, text.decode("ascii"))


def confirming(heard: bytes, sent: bytes) -> bool:
    """Whether what was heard after the acknowledgement `sent` ends amid a confirmation: the same characters once
    more. One that is whole needs no more waiting, and one that does not come is not missed."""
    characters = bytes(octet & 0x7F for octet in heard)
    wanted = bytes(octet & 0x7F for octet in sent)
    return any(characters.endswith(wanted[:count]) for count in range(1, len(wanted)))
