"""The meter's end of an HDLC link, as small as a test can have it: a second reading of IEC 62056-46, independent of
both `gateway.wire.hdlc_client` and the simulator. It speaks only when it was polled, and never by itself."""

from __future__ import annotations

from collections.abc import Callable

from gateway.wire.hdlc import Address, Frame, FrameReader, FrameType, Parameters, negotiated


class Secondary:
    """One meter. `requests` collects every APDU that it took, in order."""

    def __init__(
        self,
        address: Address,
        client: Address,
        *,
        parameters: Parameters,
        answer: Callable[[bytes], bytes],
    ) -> None:
        self.address = address
        self.client = client
        self.parameters = parameters
        self.answer = answer
        self.requests: list[bytes] = []
        self.connected = False
        self._reader = FrameReader()
        self._reset(Parameters())

    def _reset(self, limits: Parameters) -> None:
        self._limits = limits
        self._expected = 0
        self._oldest = 0
        self._sent = 0
        self._segments: list[tuple[bytes, bool]] = []
        self._request = b""

    def receive(self, octets: bytes) -> bytes:
        """What the meter says after these octets."""
        return b"".join(
            self._on_frame(frame)
            for frame in self._reader.feed(octets)
            if isinstance(frame, Frame) and frame.destination == self.address and frame.source == self.client
        )

    def _on_frame(self, frame: Frame) -> bytes:
        match frame.type:
            case FrameType.SNRM:
                self._reset(negotiated(self.parameters, Parameters.decode(frame.info)))
                self.connected = True
                return self._say(FrameType.UA, info=self.parameters.encode())
            case FrameType.DISC:
                was_connected, self.connected = self.connected, False
                return self._say(FrameType.UA if was_connected else FrameType.DM)
            case FrameType.I | FrameType.RR if not self.connected:
                return self._say(FrameType.DM) if frame.poll_final else b""
            case FrameType.I | FrameType.RR:
                self._release(frame.receive_seq)
                if frame.type is FrameType.I and frame.send_seq == self._expected:
                    self._take(frame)
                return self._speak() if frame.poll_final else b""
        return b""

    def _release(self, receive_seq: int) -> None:
        count = (receive_seq - self._oldest) % 8
        if count <= self._sent:
            self._oldest = receive_seq
            self._sent -= count
            del self._segments[:count]

    def _take(self, frame: Frame) -> None:
        assert len(frame.info) <= self._limits.max_info_rx
        self._expected = (self._expected + 1) % 8
        self._request += frame.info
        if frame.segmented:
            return
        assert self._request.startswith(b"\xe6\xe6\x00")
        self.requests.append(self._request[3:])
        info, size = b"\xe6\xe7\x00" + self.answer(self._request[3:]), self._limits.max_info_tx
        self._request = b""
        self._segments += [(info[at : at + size], at + size < len(info)) for at in range(0, len(info), size)]

    def _speak(self) -> bytes:
        window = self._segments[: self._limits.window_tx]
        self._sent = len(window)
        if not window:
            return self._say(FrameType.RR)
        return b"".join(
            self._say(
                FrameType.I, final=at == len(window) - 1, number=self._oldest + at, info=info, more=more
            )
            for at, (info, more) in enumerate(window)
        )

    def _say(
        self, type_: FrameType, *, final: bool = True, number: int = 0, info: bytes = b"", more: bool = False
    ) -> bytes:
        return Frame(self.client, self.address, type_, final, number % 8, self._expected, info, more).encode()
