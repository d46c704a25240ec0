"""What goes over a line, taken apart for whoever watches: frames, and the APDUs in them in words.

Pure, and it never raises, whatever the octets are. It follows both directions of a line, since an answer cannot be
told without its request: what was asked for may be a secret. What is secret is left out of the words and overwritten
in the octets (invariant 13; `gateway.wire.hidden` knows what), also in pieces of frames that are none: while the last
thing that was said holds a secret, octets that are not understood are not shown, for they may be its echo.

Ciphered APDUs are told by their headers, and deciphered where keys are given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from gateway.errors import MeterError
from gateway.wire.deciphering import Deciphering, dedicated_key_in, initiate_in, opened, title_in
from gateway.wire.describe import describe
from gateway.wire.hdlc import Address, Frame, FrameType, Parameters, describe_frmr
from gateway.wire.hidden import SEALED, asks_for_secret, hidden_from
from gateway.wire.mode_e import BAUDS, BREAK, IdentificationReader, acknowledgement
from gateway.wire.pieces import WRAPPER_HEADER, HdlcPieces, Piece, WrapperPieces

HIDDEN = 0x2A
"""Stands in the place of each octet that is not shown: an asterisk."""
SILENCE_S = 2.0
"""After so long nothing more comes of a frame that has begun (IEC 62056-46: 20 ms to 6 s)."""

_FRAME_TAIL = 3
"""Frame check and flag."""
_LLC = (b"\xe6\xe6\x00", b"\xe6\xe7\x00")
_APDU_LIMIT = 1 << 17
_LINKS_LIMIT = 64
_LATELY = 8
"""So many of our frames may be on their way back."""
_LLS_NAME = bytes.fromhex("60857405080201")
"""The mechanism's name, behind which the password stands."""
_PASSWORD_COMMAND = (b"\x01P", b"\x81P", b"\x01\xd0", b"\x81\xd0")
"""SOH P, with and without parity: a password of IEC 62056-21."""


class Direction(StrEnum):
    TO_METER = "to_meter"
    FROM_METER = "from_meter"


class Kind(StrEnum):
    HDLC = "hdlc"
    WRAPPER = "wrapper"
    MODE_E = "mode_e"
    NOISE = "noise"
    LINE = "line"
    """No octets: what became of the line itself."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One frame, or what was none, in order of time."""

    at_s: float
    """When it was written, or its last octet read."""
    direction: Direction
    kind: Kind
    octets: bytes = b""
    """As they went; those that are not shown are `HIDDEN`."""
    hidden: int = 0
    """How many are not shown."""
    server: Address | None = None
    """The meter; behind the wrapper the upper address is its port."""
    frame: Mapping[str, Any] = field(default_factory=dict)
    """What the header says."""
    words: str = ""
    """Characters of mode E, parameters, why a frame was rejected, what became of the line."""
    wrong: str = ""
    """What is wrong with it."""
    apdu: str = ""
    deciphered: str = ""


@dataclass(slots=True)
class _Way:
    """One direction of a link: the segments of the APDU that is on its way, and how much of it is not shown."""

    segments: list[tuple[int, bytes]] = field(default_factory=list)
    begun: bool = False
    """The first of them is the first of the APDU."""
    hidden_from: int | None = None
    last: tuple[int, bytes] | None = None


@dataclass(slots=True)
class _Link:
    """What is between one client and one meter."""

    ways: dict[Direction, _Way] = field(default_factory=lambda: {way: _Way() for way in Direction})
    asked: bool = True
    """What was asked last may be a secret; who knows, before anything was asked."""
    title: bytes = b""
    """The meter's."""
    dedicated_key: bytes = field(default=b"", repr=False)


class LineTrace:
    """Follows one line. `mode_e`: characters may go over it as well."""

    def __init__(
        self, *, wrapper: bool = False, mode_e: bool = False, deciphering: Deciphering | None = None
    ) -> None:
        make: Callable[[], HdlcPieces | WrapperPieces] = WrapperPieces if wrapper else HdlcPieces
        self._streams = {way: make() for way in Direction}
        self._mode_e = mode_e
        self._deciphering = deciphering
        self._links: dict[tuple[int, Address], _Link] = {}
        self._sent: deque[tuple[bytes, Traced]] = deque(maxlen=_LATELY)
        self._heard_at_s = dict.fromkeys(Direction, 0.0)
        self._secret_lately = False
        """The last that was said holds a secret."""
        self._asking: _Link | None = None
        """Whom we spoke to last."""

    def feed(self, direction: Direction, octets: bytes, at_s: float) -> list[Traced]:
        """What is complete with these octets, which went at `at_s`, seconds since any moment."""
        told = self.settle(at_s)
        other = Direction.FROM_METER if direction is Direction.TO_METER else Direction.TO_METER
        told += self._told(other, self._streams[other].turn(), self._heard_at_s[other])
        self._heard_at_s[direction] = at_s
        return told + self._told(direction, self._streams[direction].feed(octets), at_s)

    def settle(self, now_s: float) -> list[Traced]:
        """What was begun and never ended, once the line is silent."""
        told: list[Traced] = []
        for way, stream in self._streams.items():
            heard_at_s = self._heard_at_s[way]
            if now_s - heard_at_s >= SILENCE_S:
                told += self._told(way, stream.silence(), heard_at_s)
        return told

    def note(self, words: str, at_s: float, *, anew: bool = False) -> list[Traced]:
        """What became of the line; `anew`: what was on its way is lost."""
        told: list[Traced] = []
        if anew:
            for way, stream in self._streams.items():
                told += self._told(way, stream.end(), self._heard_at_s[way])
            self._links.clear()
            self._sent.clear()
            self._asking, self._secret_lately = None, False
        return [*told, Traced(at_s, Direction.TO_METER, Kind.LINE, words=words)]

    # -- below ------------------------------------------------------------------------------------------------

    def _told(self, way: Direction, pieces: Iterator[Piece], at_s: float) -> list[Traced]:
        return [self._piece(way, piece, at_s) for piece in pieces]

    def _piece(self, way: Direction, piece: Piece, at_s: float) -> Traced:
        match piece.found:
            case Frame() as frame if piece.wrong:
                server = frame.destination if way is Direction.TO_METER else frame.source
                told = Traced(at_s, way, Kind.HDLC, piece.octets, server=server, frame=_header(frame))
                return self._unsure(replace(told, wrong=piece.wrong))
            case Frame() as frame:
                return self._frame(way, piece.octets, frame, at_s)
            case (int(source), int(destination)):
                return self._message(way, piece.octets, source, destination, at_s)
            case _:
                return self._junk(way, piece, at_s)

    def _frame(self, way: Direction, octets: bytes, frame: Frame, at_s: float) -> Traced:
        told = Traced(at_s, way, Kind.HDLC, octets, frame=_header(frame))
        if way is Direction.FROM_METER:
            for sent, ours in self._sent:
                if octets == sent:
                    return replace(
                        ours, at_s=at_s, direction=way, words="our own, given back", apdu="", deciphered=""
                    )
            return self._said(way, replace(told, server=frame.source), frame, frame.destination.upper)
        self._secret_lately = False
        told = self._said(way, replace(told, server=frame.destination), frame, frame.source.upper)
        self._sent.append((octets, told))
        return told

    def _said(self, way: Direction, told: Traced, frame: Frame, client: int) -> Traced:
        assert told.server is not None
        link = self._link(client, told.server)
        if way is Direction.TO_METER:
            self._asking = link
        match frame.type:
            case FrameType.I:
                return self._information(link, way, told, frame)
            case FrameType.UI if frame.info:
                return self._whole(link, way, told, frame.info)
            case FrameType.SNRM | FrameType.UA:
                for one in link.ways.values():
                    one.segments.clear()
                    one.last = None
                return replace(told, words=_parameters(frame.info))
            case FrameType.FRMR:
                return replace(told, words=describe_frmr(frame.info))
        return told if not frame.info else self._unsure(told)

    def _link(self, client: int, server: Address) -> _Link:
        if len(self._links) >= _LINKS_LIMIT:
            self._links.clear()
        return self._links.setdefault((client, server), _Link())

    def _information(self, link: _Link, way: Direction, told: Traced, frame: Frame) -> Traced:
        """A segment of an APDU, often the only one. What goes back in the numbers is sent again."""
        state = link.ways[way]
        this = (frame.send_seq, frame.info)
        again = this == state.last or this in state.segments
        state.last = this
        numbers = [number for number, _ in state.segments]
        if frame.send_seq in numbers:
            del state.segments[numbers.index(frame.send_seq) :]
        elif numbers and frame.send_seq != (numbers[-1] + 1) & 7:
            state.segments.clear()
        before = sum(len(info) for _, info in state.segments)
        if not state.segments:
            state.begun = frame.info.startswith(_LLC)
            state.hidden_from = self._hidden_from(link, way, state, frame)
        if before < _APDU_LIMIT:
            state.segments.append(this)
        told = self._hide(told, state.hidden_from, before, len(frame.info))
        if again:
            told = replace(told, words="sent again")
        if frame.segmented:
            return told
        whole, begun = b"".join(info for _, info in state.segments), state.begun
        state.segments.clear()
        if not begun:
            return replace(told, apdu=f"the end of an APDU, {len(whole)} octets of it seen")
        return self._apdu(link, way, told, _without_llc(whole))

    def _hidden_from(self, link: _Link, way: Direction, state: _Way, frame: Frame) -> int | None:
        """From which octet of the information on; of an APDU whose beginning was not seen all of it may be secret."""
        if not state.begun:
            return 0 if link.asked or way is Direction.TO_METER else None
        apdu = _without_llc(frame.info)
        hidden = hidden_from(apdu, whole=not frame.segmented, asked=link.asked)
        return None if hidden is None else len(frame.info) - len(apdu) + hidden

    def _hide(self, told: Traced, hidden: int | None, before: int, info: int) -> Traced:
        if hidden is None:
            return told
        self._secret_lately = True
        start = len(told.octets) - _FRAME_TAIL - info + max(0, hidden - before)
        return _without(told, start, len(told.octets) - _FRAME_TAIL)

    def _whole(self, link: _Link, way: Direction, told: Traced, info: bytes) -> Traced:
        """An APDU in one frame that has no number."""
        apdu = _without_llc(info)
        hidden = hidden_from(apdu, whole=True, asked=link.asked)
        at = None if hidden is None else len(info) - len(apdu) + hidden
        return self._apdu(link, way, self._hide(told, at, 0, len(info)), apdu)

    def _message(self, way: Direction, octets: bytes, source: int, destination: int, at_s: float) -> Traced:
        client, server = (source, destination) if way is Direction.TO_METER else (destination, source)
        frame = {"source": source, "destination": destination, "octets": len(octets) - WRAPPER_HEADER}
        link = self._link(client, Address(server))
        apdu = octets[WRAPPER_HEADER:]
        told = Traced(at_s, way, Kind.WRAPPER, octets, server=Address(server), frame=frame)
        hidden = hidden_from(apdu, whole=True, asked=link.asked)
        self._secret_lately, self._asking = hidden is not None, link
        told = _without(told, None if hidden is None else WRAPPER_HEADER + hidden)
        return self._apdu(link, way, told, apdu)

    # -- APDUs ------------------------------------------------------------------------------------------------

    def _apdu(self, link: _Link, way: Direction, told: Traced, apdu: bytes) -> Traced:
        asked, link.asked = link.asked, asks_for_secret(apdu, link.asked)
        told = replace(told, apdu=describe(apdu, hide=told.hidden > 0))
        if way is Direction.FROM_METER and (title := title_in(apdu)):
            link.title = title
        sealed = apdu if apdu[:1] and apdu[0] in SEALED else initiate_in(apdu)
        if self._deciphering is None or not sealed or sealed[0] not in SEALED:
            return told
        title = self._deciphering.own_title if way is Direction.TO_METER else link.title
        why, plain = "no keys of this meter are known", b""
        for keys in self._deciphering.candidates(told.server, sealed):
            try:
                plain = opened(sealed, keys, title, link.dedicated_key)
                break
            except MeterError as error:
                why = error.message
        else:
            return replace(told, deciphered=f"cannot be deciphered: {why}")
        if plain[:1] == b"\x01":
            link.dedicated_key = dedicated_key_in(plain)
        hidden = hidden_from(plain, whole=True, asked=asked) is not None
        link.asked = asks_for_secret(plain, asked)
        return replace(told, deciphered=describe(plain, hide=hidden))

    # -- what is no frame -------------------------------------------------------------------------------------

    def _junk(self, way: Direction, piece: Piece, at_s: float) -> Traced:
        characters = bytes(octet & 0x7F for octet in piece.octets)
        if way is Direction.TO_METER:
            self._secret_lately = False
        if self._mode_e and all(
            0x20 <= one < 0x7F or one in b"\0\x01\x02\x03\x06\r\n\x15" for one in characters
        ):
            told = Traced(at_s, way, Kind.MODE_E, piece.octets)
            if any(start in piece.octets for start in _PASSWORD_COMMAND):
                return replace(_without(told, 0), words="a password command")
            if not (self._secret_lately and way is Direction.FROM_METER):
                return replace(told, words=_characters(piece.octets, characters))
        return self._unsure(Traced(at_s, way, Kind.NOISE, piece.octets, wrong=piece.wrong or "no frame"))

    def _unsure(self, told: Traced) -> Traced:
        """Not shown where it may be a piece of a secret that was just said."""
        asked = self._asking is not None and self._asking.asked
        return _without(told, 0) if asked or self._secret_lately or _LLS_NAME in told.octets else told


# -- private --------------------------------------------------------------------------------------------------


def _header(frame: Frame) -> dict[str, Any]:
    """What the header says, numbers where the type has them."""
    header: dict[str, Any] = {
        "type": frame.type.name,
        "destination": _address(frame.destination),
        "source": _address(frame.source),
        "poll_final": frame.poll_final,
        "segmented": frame.segmented,
        "octets": len(frame.info),
    }
    if frame.type is FrameType.I:
        header["send_seq"] = frame.send_seq
    if frame.type in (FrameType.I, FrameType.RR, FrameType.RNR):
        header["receive_seq"] = frame.receive_seq
    return header


def _address(address: Address) -> str:
    """`1/17`: logical and physical; a client, or one octet, is one number."""
    return str(address.upper) if address.lower is None else f"{address.upper}/{address.lower}"


def _parameters(info: bytes) -> str:
    if not info:
        return ""
    try:
        said = Parameters.decode(info)
    except MeterError as error:
        return f"parameters that are not understood: {error.message}"
    return (
        f"information {said.max_info_tx} out, {said.max_info_rx} in, "
        f"window {said.window_tx} out, {said.window_rx} in"
    )


def _characters(octets: bytes, characters: bytes) -> str:
    """Mode E, and what it says where that is known."""
    text = ascii(characters.decode("ascii"))[1:-1]
    if octets == BREAK:
        return f"{text} (break)"
    if found := IdentificationReader().feed(octets):
        offers = "HDLC" if found.hdlc else "no HDLC"
        return f"{text} (manufacturer {found.manufacturer}, up to {found.baud} baud, {offers})"
    for baud in BAUDS:
        if octets == acknowledgement(baud):
            return f"{text} (acknowledged: HDLC at {baud} baud)"
    return text


def _without_llc(info: bytes) -> bytes:
    """The APDU behind its LLC header; some meters write it twice."""
    while info.startswith(_LLC):
        info = info[len(_LLC[0]) :]
    return info


def _without(told: Traced, start: int | None, end: int | None = None) -> Traced:
    """The octets from `start` on overwritten; None: none of them."""
    if start is None:
        return told
    octets = told.octets
    end = len(octets) if end is None else end
    count = max(0, end - start)
    return replace(
        told, octets=octets[:start] + bytes([HIDDEN]) * count + octets[start + count :], hidden=count
    )
