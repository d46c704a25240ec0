"""Octets and time: one APDU for another with one meter, over HDLC or the TCP wrapper.

Repetition (invariant 11): the link repeats by the rules of IEC 62056-46 (poll with RR after silence, send again only
what N(R) shows missing), at most `attempts` times for one exchange. A request that the meter has received is therefore
never executed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tenacity import Retrying, retry_if_exception, stop_after_attempt

from gateway.clock import Clock
from gateway.errors import LinkLostError, SilentError
from gateway.link.optical import SignOn
from gateway.link.port import Port
from gateway.model import Framing, Meter, PortKind, PortSettings
from gateway.wire.client import Client
from gateway.wire.hdlc import Address, Parameters
from gateway.wire.hdlc_client import HdlcClient
from gateway.wire.mode_e import SIGN_ON_BAUD
from gateway.wire.tally import Tally
from gateway.wire.tuning import OF_MANY, Limits, Request, Slow
from gateway.wire.wrapper import WrapperClient

READ_LIMIT = 16 * 1024
"""A whole window of the longest frames; more at once would only let a babbling line hold its worker up."""
MAX_FRAMES_PER_ANSWER = 1024
"""A meter that goes on sending valid frames without ever ending its answer is given up."""
EXCHANGE_LIMIT_S = 100.0
"""So long one exchange may take in all, beyond the time on the line: a meter that sends octet by octet is given up
before its worker counts as hanging."""
HANDSHAKE_OCTETS = 64
"""More than UA and DM have, with parameters and the longest addresses: a silent meter is not waited for as if it could
answer SNRM with the longest frame."""
MAX_REPEATS = 6
"""So often the same frame goes again after silence."""
BUSY_LIMIT_S = 90.0
"""So long a meter may acknowledge a request and not answer it: flash erase takes up to 60 s in the field."""

PUBLIC_CLIENT = 16
"""The client SAP that needs no secret (Green Book)."""

_PUSHES = (b"\x0f", b"\xc2", b"\xca", b"\xd2")
"""data-notification and event-notification, plain and ciphered: meters send them unasked, and they answer nothing."""


class Conversation:
    """The link to one meter on one line. Everything raises SilentError, LinkLostError or PortError, and `connect`
    NoHdlcError."""

    def __init__(
        self,
        port: Port,
        settings: PortSettings,
        meter: Meter,
        clock: Clock,
        *,
        limits: Limits,
        tally: Tally,
    ) -> None:
        self._port = port
        self._settings = settings
        self._meter = meter
        self._clock = clock
        self._tally = tally
        self._limits = limits
        self._keep_time(settings.baud)
        self.untaken = False
        """The meter answered, and did not get the last request however often it was sent."""
        self.parameters_refused = False
        """The meter took an SNRM without parameters only."""
        self.slow: deque[Slow] = deque(maxlen=OF_MANY)
        """The latest exchanges in which the meter was asked again."""
        self.exchanges = 0
        self._began_with = (0.0, 0)
        """Busy seconds and octets of the meter's tally when the link stood."""
        self._heard = False
        self._before = (0, 0, 0)
        """Octets in, foreign and damaged frames when the exchange began."""
        self._began_s = 0.0
        self._end_s = float("inf")
        self._link = self._make_link(meter.client, send_parameters=limits.snrm_parameters)

    @property
    def linked(self) -> bool:
        """The link to the meter stands; over the TCP wrapper nobody knows, and it counts as standing."""
        return self._link.connected

    @property
    def unanswered(self) -> bool:
        """The meter has acknowledged the last request, its link is there, and nothing of an answer came."""
        return self._heard and self._link.unanswered

    @property
    def request(self) -> Request:
        """The frames of the last request. What TCP does with it nobody knows, and it counts as nothing special."""
        return self._link.request if isinstance(self._link, HdlcClient) else Request(0, 1)

    def connect(self) -> None:
        """Set up the link, on a line that is cleared first; where the port says so, after signing on (mode E)."""
        if self._settings.mode_e:
            self._begin(0)
            try:
                self._keep_time(self._sign_on())
            finally:
                self._note_busy()
        self._port.discard()
        try:
            self._handshake()
        except LinkLostError:
            if not self._limits.snrm_parameters or self._settings.framing is Framing.WRAPPER:
                raise
            # DM to an SNRM with parameters: some meters only take an empty one (IEC 62056-46).
            self._link = self._make_link(self._meter.client, send_parameters=False)
            self._handshake()
            self.parameters_refused = True
        self._began_with = self._tally.busy_s, self._moved
        if isinstance(self._link, HdlcClient):
            self._expect_frames(self._link.limits.max_info_rx)

    def _expect_frames(self, info_octets: int) -> None:
        """The meter's frames have so much information at most: a whole one must be here in time."""
        self._longest_frame_s = self._line_octet_s * info_octets
        wait_s = max(self._settings.response_timeout_s, self._limits.wait_s)
        self._wait_s = wait_s + self._longest_frame_s

    def disconnect(self) -> None:
        """End the link, where there is one."""
        if self._link.connected:
            self._begin(0)
            octets = self._link.disconnect()
            try:
                self._write(octets)
                self._listen(len(octets))
                if self._settings.mode_e and self._link.disconnected:
                    self._port.set_baud(SIGN_ON_BAUD)
            finally:
                self._note_busy()

    def keep_alive(self) -> bool:
        """Ask the meter's link for a sign of life, so that it does not end for want of frames. False: none came."""
        octets = self._link.timed_out()
        self._tally.polls += 1
        self._begin(len(octets))
        try:
            self._write(octets)
            self._listen(len(octets), until_heard=True)
        finally:
            self._note_busy()
        return self._heard

    def exchange(self, apdu: bytes, *, patience_s: float = 0.0) -> bytes:
        """Send an APDU, and wait for the one that answers. `patience_s`: how long a meter whose link answers may be
        at work on it, beyond the time-outs of the port."""
        self._link.drop_arrived()  # what came late, or unasked, is not the answer to this
        octets = self._link.send(apdu)
        written = len(octets)
        self._tally.exchanges += 1
        self.exchanges += 1
        self._begin(written)
        self._tally.octets_out += written
        try:
            self._port.write(octets)
            answer = self._listen(written)
            if answer is None:
                answer = self._ask_again(written, patience_s)
        finally:
            self._note_busy()
        return answer

    def expected_s(self, request: int, answer: int) -> float:
        """How long an exchange of APDUs of so many octets takes, if nothing is lost: the time of the line, and at each
        turn as long a pause as the meter made on average in the exchanges so far."""
        busy_s, moved = self._tally.busy_s - self._began_with[0], self._moved - self._began_with[1]
        pause_s = max(0.0, busy_s - moved * self._line_octet_s) / max(1, self.exchanges)
        cost = self._link.cost(request, answer)
        return cost.octets * self._line_octet_s + cost.turns * pause_s

    @property
    def _moved(self) -> int:
        return self._tally.octets_in + self._tally.octets_out

    def _ask_again(self, written: int, patience_s: float) -> bytes:
        """After silence; what came of it is kept for who learns from it."""
        before = self._repeats
        answer = self._recover(lambda answer: answer is not None, patience_s)
        assert answer is not None
        took_s = self._clock.monotonic() - self._began_s - self._line_octet_s * written
        self.slow.append(Slow(self.exchanges, self._repeats > before, took_s))
        return answer

    @property
    def _repeats(self) -> int:
        return self._link.repeats if isinstance(self._link, HdlcClient) else 0

    def _sign_on(self) -> int:
        clients = dict.fromkeys((self._meter.client, PUBLIC_CLIENT))
        links = [self._make_link(client, send_parameters=False) for client in clients]
        return SignOn(self._port, self._settings, self._meter, self._clock).sign_on(links)

    def _keep_time(self, baud: int) -> None:
        self._line_octet_s = seconds_per_octet(self._settings, baud)
        self._expect_frames(self._limits.max_info)
        self._handshake_wait_s = self._settings.response_timeout_s + self._line_octet_s * HANDSHAKE_OCTETS

    def _begin(self, written: int) -> None:
        line_s = self._line_octet_s * written + 2 * self._longest_frame_s
        self._began_s = self._clock.monotonic()
        self._end_s = self._began_s + EXCHANGE_LIMIT_S + line_s
        tally = self._tally
        self._before = tally.octets_in, tally.foreign, tally.damaged

    def _note_busy(self) -> None:
        self._tally.busy_s += self._clock.monotonic() - self._began_s

    def _write(self, octets: bytes) -> None:
        self._tally.octets_out += len(octets)
        self._port.write(octets)

    def _handshake(self) -> None:
        octets = self._link.connect()
        if self._link.connected:
            return
        self._begin(len(octets))
        try:
            self._write(octets)
            self._listen(len(octets))
            if not self._link.connected:
                self._recover(lambda _: self._link.connected, 0.0)
        finally:
            self._note_busy()

    def _recover(self, satisfied: Callable[[bytes | None], bool], patience_s: float) -> bytes | None:
        """After a first silence: what the link's rules say, until the attempts of the port are used up."""
        give_up_s = self._clock.monotonic() + patience_s
        for attempt in Retrying(
            stop=stop_after_attempt(max(1, self._settings.attempts - 1)),
            retry=retry_if_exception(_is_silence),
            sleep=self._clock.sleep,
            reraise=True,
        ):
            with attempt:
                return self._poll(satisfied, give_up_s)
        raise AssertionError("tenacity ends by returning or raising")

    def _poll(self, satisfied: Callable[[bytes | None], bool], give_up_s: float) -> bytes | None:
        """Ask again as the link's rules say. A meter at work whose link answers is asked on until `give_up_s`: that
        is no failed attempt."""
        heard = self._settings.attempts > 1
        while heard and (octets := self._link.timed_out()):
            self._tally.polls += 1
            self._write(octets)
            answer = self._listen(len(octets))
            if satisfied(answer):
                return answer
            self._give_up_untaken()
            heard = self._heard and self._clock.monotonic() < give_up_s
        raise SilentError(
            f"meter {self._meter.id} does not answer: {self._settings.attempts} attempts, "
            f"{self._settings.response_timeout_s:g} s each{self._came_instead()}"
        )

    def _came_instead(self) -> str:
        """In words, what came since the exchange began and is no answer."""
        tally = self._tally
        octets, foreign, damaged = (
            now - before
            for now, before in zip((tally.octets_in, tally.foreign, tally.damaged), self._before, strict=True)
        )
        if not octets:
            return ""
        if foreign:
            return f"; {foreign} frames of others came, the last one of address {tally.stranger}"
        if damaged:
            return f"; {octets} octets came, frames among them damaged: noise, or several that talk at once"
        return (
            f"; {octets} octets came that are no frame: noise, another speed, or somebody who talks unasked"
        )

    def _give_up_untaken(self) -> None:
        """A meter that says again and again that it has not got a frame does not take it, where that is more than each
        meter takes. Raises LinkLostError."""
        link = self._link
        if isinstance(link, HdlcClient) and link.repeated > MAX_REPEATS and link.request.demanding:
            self.untaken = True
            info = link.request.longest_info
            raise LinkLostError(f"meter {self._meter.id} answers, and does not get frames of {info} octets")

    def _listen(self, written: int, *, until_heard: bool = False) -> bytes | None:
        """Read until an APDU or the state of the link answers what was written; None after silence. Each valid
        frame of the meter starts the time anew, noise does not; or it ends the waiting: `until_heard`."""
        before = self._link.connected, self._link.disconnected
        wait_s = self._wait_s if before[0] and not until_heard else self._handshake_wait_s
        left_s = self._line_octet_s * written + wait_s
        deadline_s = self._clock.monotonic() + left_s
        frames = 0
        self._heard = False
        while left_s > 0:
            octets = self._port.read(READ_LIMIT, left_s)
            if not octets:
                left_s = deadline_s - self._clock.monotonic()
                continue
            self._tally.octets_in += len(octets)
            write, answer, heard = self._link.receive(octets)
            if write:
                self._write(write)
            while answer is not None and answer[:1] in _PUSHES:
                answer = self._link.receive(b"").apdu
            if answer is not None or (self._link.connected, self._link.disconnected) != before:
                self._tally.heard_at_s = self._clock.monotonic()
                return answer
            if heard:
                self._heard = True
                if until_heard:
                    self._tally.heard_at_s = self._clock.monotonic()
                    return None
                frames += 1
                if frames > MAX_FRAMES_PER_ANSWER or self._clock.monotonic() > self._end_s:
                    raise SilentError(
                        f"meter {self._meter.id} sends frame after frame and never ends its answer"
                    )
                deadline_s = self._clock.monotonic() + self._line_octet_s * len(write) + wait_s
            left_s = deadline_s - self._clock.monotonic()
        self._tally.timeouts += 1
        return None

    def _make_link(self, client: int, *, send_parameters: bool) -> Client:
        meter, limits = self._meter, self._limits
        if self._settings.framing is Framing.WRAPPER:
            return WrapperClient(client, meter.logical_address)
        lower = None if meter.address_bytes == 1 else meter.physical_address
        return HdlcClient(
            Address(meter.logical_address, lower, meter.address_bytes),
            client,
            proposal=Parameters(limits.max_info, limits.max_info, limits.window, limits.window),
            send_parameters=send_parameters,
            tally=self._tally,
        )


def _is_silence(error: BaseException) -> bool:
    """A link that the meter says is gone is not found by asking again."""
    return isinstance(error, SilentError) and not isinstance(error, LinkLostError)


def seconds_per_octet(settings: PortSettings, baud: int) -> float:
    """Start, eight data and stop bit, and the parity bit where there is one."""
    if settings.kind is PortKind.TCP:
        return 0.0
    return (10.0 if settings.parity == "none" else 11.0) / baud
