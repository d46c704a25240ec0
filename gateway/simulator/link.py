"""The secondary station of HDLC: a meter's end of the link with one client (IEC 62056-46, normal response mode).

It speaks only when polled (P = 1) and then says everything it has, within the window, F = 1 on the last frame. It
keeps what it said until N(R) acknowledges it, and says it again where N(R) asks for it. It is strict: what a
client must not do is answered by FRMR, and what is not for it by nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntFlag
from itertools import islice
from typing import NamedTuple

from gateway.errors import WireError
from gateway.simulator.faults import Faults
from gateway.wire.hdlc import (
    Address,
    Frame,
    FrameType,
    Parameters,
    control_octet,
    encode_frame,
    information_octet,
    negotiated,
)

LARGEST_APDU = 64 * 1024
"""Segments beyond this are dropped: the application refuses what is longer than its PDU anyhow."""

_LLC_OF_CLIENT = b"\xe6\xe6\x00"
_LLC_OF_METER = b"\xe6\xe7\x00"


class Reply(NamedTuple):
    """What the application says to an APDU."""

    apdu: bytes | None
    late_s: float = 0.0
    """It takes so long to say it."""


class Sent(NamedTuple):
    """A frame or message that leaves the meter."""

    late_s: float
    octets: bytes


class _Rejected(IntFlag):
    """Why a frame was rejected: third octet of FRMR (ISO/IEC 13239)."""

    CONTROL = 1
    TOO_LONG = 4
    RECEIVE_SEQUENCE = 8


class SecondaryLink:
    """One client's link. `answer` is the application: an APDU and the time give a reply; `dropped` tells it that
    the link, and with it any association, is gone."""

    def __init__(
        self,
        meter: Address,
        client: Address,
        *,
        own: Parameters,
        inactivity_s: float,
        faults: Faults,
        answer: Callable[[bytes, float], Reply],
        dropped: Callable[[], None],
    ) -> None:
        self._addresses = client.encode() + (faults.answers_as or meter).encode()
        self._own = own
        self._inactivity_s = inactivity_s
        self._faults = faults
        self._answer = answer
        self._dropped = dropped
        self._heard_at_s = 0.0
        self.connected = False
        self._reset(own)

    def _reset(self, agreed: Parameters) -> None:
        self.agreed = agreed
        """What was negotiated: our transmit, our receive."""
        self._send_first = 0
        """N(S) of the oldest frame that is not acknowledged."""
        self._unacknowledged: deque[tuple[bytes, bool]] = deque()
        """Information and "more follows" of each frame from there on."""
        self._in_flight = 0
        """How many of those were sent."""
        self._receive_next = 0
        self._taken = 0
        """I frames taken since we last acknowledged."""
        self._incoming = b""
        self._rejected: bytes = b""
        self._wedged = False

    def drop(self) -> None:
        """The link is gone, without a word."""
        if self.connected:
            self.connected = False
            self._dropped()

    def hear(self, frame: Frame, now_s: float) -> list[Sent]:
        """A sound frame from this client to this meter; the frames that answer it."""
        if self.connected and 0.0 < self._inactivity_s < now_s - self._heard_at_s:
            self.drop()
        if 0 < self._faults.hears_info_octets < len(frame.info):
            return []
        self._heard_at_s = now_s
        if self._wedged and frame.type is not FrameType.SNRM:
            return []
        match frame.type:
            case FrameType.SNRM:
                return self._connect(frame) if frame.poll_final else []
            case FrameType.DISC:
                return self._disconnect() if frame.poll_final else []
            case FrameType.UI:
                return []
            case _ if not self.connected:
                return [self._unnumbered(FrameType.DM)] if frame.poll_final else []
            case _ if self._rejected:
                return [self._unnumbered(FrameType.FRMR, self._rejected)] if frame.poll_final else []
            case FrameType.I:
                return self._take(frame, now_s)
            case FrameType.RR | FrameType.RNR:
                return self._polled(frame)
            case _:
                return self._reject(frame, _Rejected.CONTROL)

    # -- connecting -------------------------------------------------------------------------------------------

    def _connect(self, frame: Frame) -> list[Sent]:
        if frame.info and self._faults.ignores_snrm_parameters:
            return []
        try:
            agreed = negotiated(self._own, Parameters.decode(frame.info))
            if self._faults.ua_repeats_own:
                agreed = self._own
            answer = agreed.encode()
        except WireError:
            return [self._unnumbered(FrameType.DM)]
        if frame.info and self._faults.refuses_snrm_parameters:
            return [self._unnumbered(FrameType.DM)]
        self.drop()
        self.connected = True
        self._reset(agreed)
        return [self._unnumbered(FrameType.UA, answer)]

    def _disconnect(self) -> list[Sent]:
        answer = FrameType.UA if self.connected else FrameType.DM
        self.drop()
        return [self._unnumbered(answer)]

    # -- what comes in ----------------------------------------------------------------------------------------

    def _take(self, frame: Frame, now_s: float) -> list[Sent]:
        if len(frame.info) > self.agreed.max_info_rx:
            return self._reject(frame, _Rejected.TOO_LONG)
        if self._taken and self._faults.hears_one_of_window:
            return []
        if self._taken and self._faults.wedges_on_window:
            self._wedged = True
            return []
        if not self._acknowledge(frame.receive_seq):
            return self._reject(frame, _Rejected.RECEIVE_SEQUENCE)
        late_s = 0.0
        if frame.send_seq == self._receive_next:
            if self._taken == self.agreed.window_rx:
                return self._reject(frame, _Rejected.CONTROL)
            self._taken += 1
            self._receive_next = (self._receive_next + 1) & 7
            if len(self._incoming) <= LARGEST_APDU:
                self._incoming += frame.info
            if not frame.segmented:
                late_s = self._consume(self._incoming, now_s)
                self._incoming = b""
        elif self._faults.frmr_on_repeat:
            return self._reject(frame, _Rejected.CONTROL)
        return self._speak(late_s) if frame.poll_final else []

    def _consume(self, info: bytes, now_s: float) -> float:
        """A whole APDU is here: let it be answered. How late the answer is."""
        if not info.startswith(_LLC_OF_CLIENT):
            return 0.0
        reply = self._answer(info[3:], now_s)
        if reply.apdu is not None:
            said, size = _LLC_OF_METER + reply.apdu, self.agreed.max_info_tx
            for start in range(0, len(said), size):
                self._unacknowledged.append((said[start : start + size], start + size < len(said)))
        return reply.late_s

    def _polled(self, frame: Frame) -> list[Sent]:
        if not self._acknowledge(frame.receive_seq):
            return self._reject(frame, _Rejected.RECEIVE_SEQUENCE)
        if not frame.poll_final or self._faults.ignores_poll:
            return []
        if frame.type is FrameType.RNR:
            return [self._ready()]
        return self._speak(0.0)

    def _acknowledge(self, receive_seq: int) -> bool:
        """Forget what the client has; False if it acknowledges what was never sent."""
        count = (receive_seq - self._send_first) & 7
        if count > self._in_flight:
            return False
        for _ in range(count):
            self._unacknowledged.popleft()
        self._send_first = receive_seq
        self._in_flight -= count
        return True

    def _reject(self, frame: Frame, why: _Rejected) -> list[Sent]:
        control = control_octet(frame.type, frame.poll_final, frame.send_seq, frame.receive_seq)
        send_next = self._send_first + self._in_flight & 7
        self._rejected = bytes((control, self._receive_next << 5 | send_next << 1, why))
        return [self._unnumbered(FrameType.FRMR, self._rejected)] if frame.poll_final else []

    # -- what goes out ----------------------------------------------------------------------------------------

    def _speak(self, late_s: float) -> list[Sent]:
        """Everything from the oldest frame that is not acknowledged, within the window; RR if there is none."""
        count = self._in_flight = min(len(self._unacknowledged), self.agreed.window_tx)
        if not count:
            return [self._ready()]
        self._taken = 0
        sent, last = [], self._send_first + count - 1
        for send_seq, (info, segmented) in enumerate(islice(self._unacknowledged, count), self._send_first):
            control = information_octet(send_seq == last, send_seq, self._receive_next)
            sent.append(Sent(late_s, encode_frame(self._addresses, control, info, segmented=segmented)))
            late_s = 0.0
        return sent

    def _ready(self) -> Sent:
        self._taken = 0
        control = control_octet(FrameType.RR, poll_final=True, receive_seq=self._receive_next)
        return Sent(0.0, encode_frame(self._addresses, control))

    def _unnumbered(self, type_: FrameType, info: bytes = b"") -> Sent:
        return Sent(0.0, encode_frame(self._addresses, control_octet(type_, poll_final=True), info))
