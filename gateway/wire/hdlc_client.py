"""The primary station of HDLC, for one meter (IEC 62056-46, normal response mode over a two-way alternate line).

How a conversation goes. The meter may speak only when it was polled: when the last frame it was sent has P = 1. Its
last frame of an answer has F = 1, and then it is our turn again.

- `connect`: SNRM, answered by UA; both name their parameters, the smaller ones hold.
- `send`: the APDU behind an LLC header, cut into I frames; as many go at once as the window allows, P on the last.
  The meter's N(R) says which arrived; the next ones go, beginning with the first that is missing.
- The answer comes in I frames too; after each window of it that is not the last, RR asks for the next.
- `timed_out`: a frame was lost, ours or the meter's. RR with P asks, and the answer shows: N(R) what of ours is
  missing, or the meter sends again what we have not acknowledged. An I frame is never repeated without that.
- `disconnect`: DISC, answered by UA, or DM where the link was gone already.

What became of an APDU that was not answered when the link was lost is for the layers above to find out.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from gateway.errors import LinkLostError, WireError
from gateway.wire.client import Cost, Reaction
from gateway.wire.hdlc import (
    LARGEST_INFO,
    LARGEST_WINDOW,
    Address,
    Damaged,
    Frame,
    FrameReader,
    FrameType,
    Parameters,
    control_octet,
    describe_frmr,
    encode_frame,
    information_octet,
    negotiated,
)
from gateway.wire.masters import addressed_to_meter
from gateway.wire.tally import Tally
from gateway.wire.tuning import Request

PROPOSAL = Parameters(LARGEST_INFO, LARGEST_INFO, LARGEST_WINDOW, LARGEST_WINDOW)
LARGEST_APDU = 64 * 1024
"""An answer that grows beyond this is nobody's answer to us."""
LARGEST_STALL = 100
"""Frames of the meter in a row without anything new before the link counts as lost: more than three minutes of
"busy" at a poll every two seconds, and a quick end to a meter that answers every frame with the same."""

_AROUND_INFORMATION = 9
"""Flags, format, control and both checks; an RR has one check, as there is no information."""
_CHECK_OCTETS = 2
_LLC_OF_CLIENT = b"\xe6\xe6\x00"
_LLC_OF_METER = b"\xe6\xe7\x00"
_LLC_OCTETS = 3


class _State(Enum):
    DISCONNECTED = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    DISCONNECTING = auto()


class HdlcClient:
    """One meter's link; see `gateway.wire.client.Client` for what each method promises.

    `send_parameters` False: an SNRM without information, for meters that answer parameters with DM. Then the defaults
    hold at most (128 octets, window 1).
    """

    def __init__(
        self,
        server: Address,
        client: int,
        *,
        proposal: Parameters = PROPOSAL,
        send_parameters: bool = True,
        tally: Tally | None = None,
    ) -> None:
        self._addresses = server.encode() + Address(client).encode()
        # As they come from the line, which remembers them: then the same are found to be the same at once.
        self._between = Address.decode(Address(client).encode()), Address.decode(server.encode())
        self._proposal = proposal if send_parameters else Parameters()
        self._snrm_info = proposal.encode() if send_parameters else b""
        self._tally = tally or Tally()
        self._reader = FrameReader()
        self.repeats = 0
        """Windows that went again since the beginning, for the meter had not got all of them."""
        self.repeated = 0
        """How often the oldest frame of ours went again after silence."""
        self._last = 0, Parameters()
        """Octets of the last request, and the limits it was cut by."""
        self._begin(_State.DISCONNECTED)

    def _begin(self, state: _State) -> None:
        self._state = state
        self.limits = Parameters()
        """What was negotiated; the defaults until then."""
        self._reader.reset()
        self._outgoing: list[tuple[bytes, bool]] = []
        """Information and "more follows" of each frame that is not acknowledged, the first one being V(A)."""
        self._in_flight = 0
        """How many of them were sent: V(S) is V(A) plus this."""
        self._acknowledged = 0
        """V(A): the number of the oldest frame that is not acknowledged."""
        self._expected = 0
        """V(R): the number of the frame to come."""
        self._incoming = b""
        self._spoilt = False
        """Information came damaged, and none since."""
        self._arrived: deque[bytes] = deque()
        self._polling = False
        """The last frame with P was an RR: its answer tells what is missing."""
        self._stalled = 0
        self._silent = False
        """There was silence, and nothing went again since."""

    @property
    def connected(self) -> bool:
        return self._state is _State.CONNECTED

    @property
    def disconnected(self) -> bool:
        return self._state is _State.DISCONNECTED

    @property
    def unanswered(self) -> bool:
        answers = self._incoming or self._spoilt
        return self._state is _State.CONNECTED and not self._outgoing and not answers

    @property
    def request(self) -> Request:
        """The last request, as it went."""
        octets, limits = self._last
        longest, frames = min(octets, limits.max_info_tx), -(-octets // limits.max_info_tx)
        return Request(longest, min(frames, limits.window_tx))

    # -- what the caller wants --------------------------------------------------------------------------------

    def connect(self) -> bytes:
        self._begin(_State.CONNECTING)
        return self._snrm()

    def send(self, apdu: bytes) -> bytes:
        if self._state is not _State.CONNECTED:
            raise LinkLostError("no HDLC link with the meter: connect first")
        info, size = _LLC_OF_CLIENT + apdu, self.limits.max_info_tx
        length = len(info)
        self._last = length, self.limits
        for start in range(0, length, size):
            self._outgoing.append((info[start : start + size], start + size < length))
        # Frames of an earlier APDU may still fill the window: then the meter is asked about them.
        return self._next_window() or self._poll()

    def drop_arrived(self) -> None:
        self._arrived.clear()

    def timed_out(self) -> bytes:
        self._reader.reset()
        self._silent = True
        match self._state:
            case _State.CONNECTING:
                return self._snrm()
            case _State.CONNECTED:
                return self._poll()
            case _State.DISCONNECTING:
                return self._disc()
            case _State.DISCONNECTED:
                return b""

    def disconnect(self) -> bytes:
        self._begin(_State.DISCONNECTING)
        return self._disc()

    def _is_not_ours(self, frame: Frame) -> bool:
        """A line may give back what we send."""
        return (frame.source, frame.destination) != self._between

    # -- what the meter says ----------------------------------------------------------------------------------

    def cost(self, request: int, answer: int) -> Cost:
        """In I frames, and an RR for each window but the last (IEC 62056-46)."""
        limits, around = self.limits, len(self._addresses) + _AROUND_INFORMATION
        octets = turns = 0
        for apdu, info, window in (
            (request, limits.max_info_tx, limits.window_tx),
            (answer, limits.max_info_rx, limits.window_rx),
        ):
            length = len(_LLC_OF_CLIENT) + apdu
            frames = -(-length // info)
            polls = -(-frames // window) - 1
            octets += length + frames * around + polls * (around - _CHECK_OCTETS)
            turns += polls
        return Cost(octets, turns + 1)

    def receive(self, octets: bytes) -> Reaction:
        write, heard = b"", False
        for event in self._reader.feed(octets) if octets else ():
            frame: Frame | None
            if isinstance(event, Damaged):
                self._tally.damaged += 1
                frame = event.header
            else:
                frame = event
            if frame is None or (frame.destination, frame.source) != self._between:
                if frame is not None and frame is event:
                    self._tally.foreign += 1
                    self._tally.masters += addressed_to_meter(frame) and self._is_not_ours(frame)
                    self._tally.stranger = str(frame.source)
                continue
            if frame.type is FrameType.UI or self._state is _State.DISCONNECTED:
                continue
            heard = True
            if self._state is not _State.CONNECTED:
                if frame is event:
                    self._on_answer(frame)
            elif frame is event:
                write += self._on_frame(frame)
            else:
                write += self._on_damaged(frame)
        return Reaction(write, self._arrived.popleft() if self._arrived else None, heard)

    def _on_answer(self, frame: Frame) -> None:
        """To SNRM or DISC; what is left over from before is no answer."""
        match self._state, frame.type:
            case _State.CONNECTING, FrameType.UA:
                self.limits = negotiated(self._proposal, Parameters.decode(frame.info))
                self._state = _State.CONNECTED
            case _State.CONNECTING, FrameType.DM | FrameType.FRMR:
                raise self._lost("the meter refuses SNRM", frame)
            case _State.DISCONNECTING, FrameType.UA | FrameType.DM:
                self._state = _State.DISCONNECTED

    def _on_frame(self, frame: Frame) -> bytes:
        match frame.type:
            case FrameType.I:
                return self._on_information(frame)
            case FrameType.RR:
                advanced = self._acknowledge(frame.receive_seq)
                self._note_progress(made=advanced)
                return self._continue_sending(advanced=advanced) if frame.poll_final else b""
            case FrameType.RNR:
                # Busy: the caller's time-out sets the pace of asking again.
                self._note_progress(made=self._acknowledge(frame.receive_seq))
            case FrameType.DM | FrameType.FRMR:
                raise self._lost("the meter has no link with us any more", frame)
            case _:
                # A second UA, to an SNRM that was repeated; commands are not for us.
                self._note_progress(made=False)
        return b""

    def _on_information(self, frame: Frame) -> bytes:
        advanced = self._acknowledge(frame.receive_seq)
        ahead = (frame.send_seq - self._expected) & 7
        self._note_progress(made=advanced or not ahead)
        if not ahead:
            self._take_in(frame)
        if not frame.poll_final:
            return b""
        if (not ahead and frame.segmented) or 0 < ahead < self.limits.window_rx:
            # More to come, or a gap: RR asks for what follows the last frame that was taken.
            return self._poll()
        if not ahead:
            return b""
        # A frame that came before, e.g. the second answer where the time-out was too short: it is acknowledged
        # by the number in the next frame of ours. An RR now would only make the meter answer twice again.
        return self._continue_sending(advanced=advanced)

    def _on_damaged(self, frame: Frame) -> bytes:
        """Only the header is sound: its N(R) counts, and its F makes it our turn to ask again."""
        if frame.type is not FrameType.I:
            return b""
        self._spoilt = True
        self._note_progress(made=self._acknowledge(frame.receive_seq))
        return self._poll() if frame.poll_final else b""

    def _take_in(self, frame: Frame) -> None:
        self._expected = (self._expected + 1) & 7
        self._spoilt = False
        info = self._incoming + frame.info
        if len(info) > LARGEST_APDU + _LLC_OCTETS:
            raise self._lost(f"an answer of more than {LARGEST_APDU} octets", frame)
        self._incoming = info if frame.segmented else b""
        if frame.segmented:
            return
        if info[:_LLC_OCTETS] != _LLC_OF_METER:
            raise WireError(f"LLC header {info[:_LLC_OCTETS].hex()}, expected {_LLC_OF_METER.hex()}")
        # Some meters write the header twice; no APDU begins with E6.
        while info[:_LLC_OCTETS] == _LLC_OF_METER:
            info = info[_LLC_OCTETS:]
        self._arrived.append(info)

    def _acknowledge(self, receive_seq: int) -> bool:
        """Whether N(R) acknowledges anything new. One that is out of range is of an earlier time."""
        count = (receive_seq - self._acknowledged) & 7
        if not 0 < count <= self._in_flight:
            return False
        del self._outgoing[:count]
        self._in_flight -= count
        self._acknowledged = receive_seq
        self.repeated = 0
        return True

    def _note_progress(self, *, made: bool) -> None:
        self._stalled = 0 if made else self._stalled + 1
        if self._stalled > LARGEST_STALL:
            self._begin(_State.DISCONNECTED)
            raise LinkLostError(f"the meter answered {LARGEST_STALL} times without anything new")

    def _lost(self, why: str, frame: Frame) -> LinkLostError:
        self._begin(_State.DISCONNECTED)
        detail = describe_frmr(frame.info) if frame.type is FrameType.FRMR else ""
        return LinkLostError(f"{why}: {frame.type.name}", detail=detail)

    # -- what is written --------------------------------------------------------------------------------------

    def _continue_sending(self, *, advanced: bool) -> bytes:
        """It is our turn: send on from the first frame that the meter misses. Where it acknowledges nothing new
        and was not asked, its frame may be older than ours: the time-out will ask."""
        if not advanced and not self._polling:
            return b""
        if self._in_flight:
            # Lost; or the meter's word of it is late and doubled, hence silence is what counts.
            self.repeats += 1
            self.repeated += self._silent
            self._silent = False
        self._in_flight = 0
        return self._next_window()

    def _next_window(self) -> bytes:
        frames = self._outgoing[self._in_flight : self.limits.window_tx]
        if not frames:
            return b""
        write, send_seq = b"", self._acknowledged + self._in_flight
        self._in_flight += len(frames)
        self._polling = False
        last = self._acknowledged + self._in_flight - 1
        for info, segmented in frames:
            control = information_octet(send_seq == last, send_seq, self._expected)
            write += encode_frame(self._addresses, control, info, segmented=segmented)
            send_seq += 1
        return write

    def _poll(self) -> bytes:
        self._polling = True
        return encode_frame(self._addresses, control_octet(FrameType.RR, True, 0, self._expected))

    def _snrm(self) -> bytes:
        return encode_frame(self._addresses, control_octet(FrameType.SNRM, True), self._snrm_info)

    def _disc(self) -> bytes:
        return encode_frame(self._addresses, control_octet(FrameType.DISC, True))
