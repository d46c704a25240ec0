"""Coming into contact with the meters of one port: their invocation counters, and when they are left alone.

Where a counter comes from (invariant 7). A range is durable, in the database and in a second file, before its first
use, so what the Store says is above everything this gateway ever sent: a restart has nothing to ask the meter for.
What the Store cannot know is whether it is itself an old copy: an SD card that was put back to an earlier day would
use counters, and so nonces, a second time, and the first message under one of them has done the damage before the meter
could refuse it. So once in each process, before the first message to a meter that is protected, its counter is read
with the public client, as head-ends do before each association; a meter that does not tell it is believed to agree.

A wrong tag parks the meter, as any failure of keys does, but for one case: in an association that meter and gateway
opened with their proofs, on a line with HDLC. There it is most likely that the line damaged the answer and the frame
check let it through: 16 bits miss one in 65536 of what noise makes of a frame. The meter never learns that its answer
was refused, so no lock-out comes nearer; in the next association both prove themselves again, and keys that are wrong
park the meter then. So it costs the association, and what the meter did is surveyed (invariant 1). Once in an hour:
noise does not strike so twice, somebody who forges answers does, and the second one parks the meter. Over TCP, which
checks what it carries, the first one does.

An unprotected word of a meter is believed upward only, by less than 2^20 in all for each process: a forged counter
near the end would lock the meter for ever. Beyond that an operator decides (`counter.adopt`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.clock import Clock
from gateway.errors import (
    AccessError,
    AssociationError,
    CounterRefusedError,
    CounterSpentError,
    DamagedAnswerError,
    LinkLostError,
    MeterError,
    NoHdlcError,
    ParkedError,
    PortError,
    SecurityError,
    SilentError,
    WireError,
)
from gateway.link.counters import Counters
from gateway.link.port import Port
from gateway.link.public_client import read_public_counter
from gateway.link.session import Session
from gateway.model import Authentication, Meter, MeterKeys, PortSettings, Security
from gateway.store import Store
from gateway.store.parking import refusal
from gateway.worker.figures import Figures
from gateway.worker.learning import Learning

MAX_COUNTER_JUMP = 1 << 20
"""How far unprotected words of a meter are believed, all together."""
COUNTER_MARGIN = 1024
"""Some meters tell the counter that they saw last, others the one that they expect; and what an older copy of this
gateway sent last may never have reached them."""

DAMAGE_FORGIVEN_S = 3600.0
"""One answer with a wrong tag, in a proven association on a serial line, is noise; two within this time are not."""

_TEMPORARY_FAILURE = 2


class Contact:
    """Associates with the meters of one port, and judges what their refusals mean."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        keys: Mapping[str, MeterKeys],
        system_title: bytes,
        store: Store,
        clock: Clock,
        random_octets: Callable[[int], bytes],
        figures: Figures,
        learning: Learning,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._title = system_title
        self._store = store
        self._clock = clock
        self._random = random_octets
        self._figures = figures
        self._learning = learning
        self._counters: dict[str, Counters] = {}
        self._looked: set[str] = set()
        """Meters whose counter was compared with ours in this process, and not in doubt since."""
        self._believed: dict[str, int] = {}
        """How far each meter's counter was raised at its unprotected word."""
        self._damaged_at_s: dict[str, float] = {}
        """When a meter's answer last had a wrong tag in a proven association."""

    def check(self, meter: Meter) -> None:
        """Raises ParkedError where nothing may be begun with this meter, MachineError where no gateway with this state
        may."""
        self.check_machine(meter)
        parked = self._store.parked(meter.id)
        if parked:
            raise refusal(parked)

    def check_machine(self, meter: Meter) -> None:
        """Raises MachineError where the meter is ciphered with and the state is another machine's."""
        if needs_counters(meter):
            self._store.check_machine()

    def associate(self, port: Port, meter: Meter) -> Session:
        """An open association. A meter that refuses our counter is believed, within limits, and asked once more.
        Raises what `Session.open` raises."""
        session = self._open(port, meter)
        self._learning.note_association(meter, session)
        return session

    def _open(self, port: Port, meter: Meter) -> Session:
        if needs_counters(meter) and meter.id not in self._looked:
            self._compare_counters(port, meter)
        session = self._session(port, meter)
        try:
            session.open()
            return session
        except CounterRefusedError as refused:
            if refused.expected is None:
                self._find_out(port, meter, session, refused)
            else:
                self._take_refusal(meter, refused, refused.expected)
        except SilentError as silence:
            if isinstance(silence, WireError) or not session.linked or not needs_counters(meter):
                raise
            self._find_out(port, meter, session, silence)
        session = self._session(port, meter)
        try:
            session.open()
        except CounterRefusedError as refused:
            found = f"{refused.message}, for the second time: see hls_counter in its profile"
            raise SecurityError(found, detail=refused.detail) from None
        return session

    def judge(self, meter: Meter, session: Session | None, error: MeterError) -> MeterError:
        """What came of an error in `session`, or before there was one: a counter that the meter refused is raised, if
        it can be, and that error is returned, which is worth another try; any other failure of keys parks the meter."""
        match error:
            case SilentError() if session and session.unanswered:
                # It has our request: perhaps it refuses the counter without a word.
                self._looked.discard(meter.id)
                return error
            case ParkedError() | CounterSpentError():
                return error
            case CounterRefusedError(expected=int(expected)):
                try:
                    self._take_refusal(meter, error, expected)
                except SecurityError as beyond:
                    error = beyond
                else:
                    return CounterRefusedError(
                        f"{error.message}: the gateway goes on at that",
                        sent=error.sent,
                        expected=expected,
                        detail=error.detail,
                    )
            case CounterRefusedError():
                return error  # In mid-association and without a number: the next association finds out.
            case DamagedAnswerError():
                if self._forgives_damage(meter):
                    return error
                again = f"{error.message}, for the second time within an hour"
                error = SecurityError(again, detail=error.detail)
            case SecurityError():
                pass
            case _:
                return error
        self._forget(meter)
        self._store.park(
            meter.id, self._keys_of(meter), code=error.code, message=error.message, port=self._settings.name
        )
        return error

    def _forgives_damage(self, meter: Meter) -> bool:
        now_s = self._clock.monotonic()
        before_s = self._damaged_at_s.get(meter.id)
        self._damaged_at_s[meter.id] = now_s
        return before_s is None or now_s - before_s > DAMAGE_FORGIVEN_S

    # -- counters ------------------------------------------------------------------------------------------------

    def _compare_counters(self, port: Port, meter: Meter) -> None:
        """At first contact, and when in doubt: the highest of what the Store, keys.toml and the meter say. What is
        left of an earlier reservation may be behind the meter, and is let go."""
        self._counters.pop(meter.id, None)
        initial = self._keys_of(meter).initial_counter
        if initial is not None:
            self._store.seed_counter(
                meter.id, initial, "initial_counter in keys.toml", port=self._settings.name
            )
        known = self._store.counter(meter.id)
        try:
            told = self._read_counter(port, meter)
        except MeterError as error:
            if known is None:
                raise _unreadable(meter, error) from None
            self._looked.add(meter.id)
            if isinstance(error, PortError):
                raise
            return
        if known is None or told >= known:
            self._believe(meter, told, known, margin=COUNTER_MARGIN)
        self._looked.add(meter.id)

    def _find_out(self, port: Port, meter: Meter, session: Session, failure: MeterError) -> None:
        """The meter's link stands, and our association came to nothing without a number: is it the counter?
        Returns where it was, and is raised. Raises SecurityError where the meter refuses us, or has our request,
        answers others and does not answer us; else `failure`, which is silence. An answer that noise damaged is one."""
        sent, unanswered = self._counters[meter.id].last, session.unanswered
        silence = isinstance(failure, SilentError)
        unexplained = failure if silence else SecurityError(failure.message, detail=failure.detail)
        session.close()
        try:
            told = self._read_counter(port, meter)
        except (AccessError, AssociationError) as error:
            if _for_now(error):
                raise unexplained from None
            told = -1
        except SilentError:
            raise unexplained from None
        if told > sent:
            self._believe(meter, told, sent, margin=COUNTER_MARGIN)
        elif unanswered and silence:
            raise SecurityError(
                f"{meter.id} has our request, answers the public client and does not answer us: it does not accept our "
                f"keys, or counter {sent}",
                detail=failure.detail,
            ) from None
        else:
            raise unexplained

    def _take_refusal(self, meter: Meter, refused: CounterRefusedError, expected: int) -> None:
        if expected <= refused.sent:
            raise SecurityError(f"{refused.message}: counters never go back", detail=refused.detail)
        self._believe(meter, expected, refused.sent)

    def _believe(self, meter: Meter, told: int, known: int | None, *, margin: int = 0) -> None:
        """Go on at `told` and `margin`, not below `known`, where that is not too far. Raises SecurityError."""
        jump = told - (known or 0)
        before = 0 if known is None else self._believed.get(meter.id, 0)
        found = (
            f"{meter.id} names invocation counter {told}, ours is {'not known' if known is None else known}"
        )
        if before + jump >= MAX_COUNTER_JUMP:
            raise SecurityError(
                f"{found}: unprotected as that is, less than {MAX_COUNTER_JUMP} more is believed; if it is right, "
                f"adopt it: meter-gateway counter adopt {meter.id} {told + margin}"
            )
        if known is not None:
            self._believed[meter.id] = before + jump
        self._store.seed_counter(meter.id, told + margin, "the meter expects it", port=self._settings.name)
        self._counters.pop(meter.id, None)

    def _counters_of(self, meter: Meter) -> Counters:
        """Those of the process so far, unless an operator has raised them meanwhile."""
        counters = self._counters.get(meter.id)
        if counters is None or counters.end != self._store.counter(meter.id):
            counters = Counters(lambda count: self._store.reserve_counters(meter.id, count))
            self._counters[meter.id] = counters
        return counters

    def _forget(self, meter: Meter) -> None:
        """What an operator does about a parked meter changes what is known of it."""
        self._counters.pop(meter.id, None)
        self._looked.discard(meter.id)
        self._believed.pop(meter.id, None)

    # -- below ---------------------------------------------------------------------------------------------------

    def _read_counter(self, port: Port, meter: Meter) -> int:
        tally = self._figures.of(meter.id)
        limits = self._learning.limits(meter)
        return read_public_counter(port, self._settings, meter, clock=self._clock, limits=limits, tally=tally)

    def _session(self, port: Port, meter: Meter) -> Session:
        return Session(
            port, self._settings, meter, self._keys_of(meter),
            system_title=self._title, counters=self._counters_of(meter), clock=self._clock,
            random_octets=self._random, limits=self._learning.limits(meter), tally=self._figures.of(meter.id),
        )  # fmt: skip

    def _keys_of(self, meter: Meter) -> MeterKeys:
        return self._keys.get(meter.id, MeterKeys())


def needs_counters(meter: Meter) -> bool:
    return meter.security is not Security.NONE or meter.authentication is Authentication.HLS_GMAC


def _unreadable(meter: Meter, error: MeterError) -> MeterError:
    """No counter is known, and the meter did not tell it: now, or ever?"""
    remedy = "is counter_object right in its profile? If it never tells it, set initial_counter in keys.toml"
    found = f"the invocation counter of {meter.id} cannot be read ({error.message}); {remedy}"
    match error:
        case NoHdlcError():
            return error
        case AccessError() | AssociationError() if not _for_now(error):
            return SecurityError(found, detail=error.detail)
        case AccessError():
            return SilentError(found, detail=error.detail)
        case LinkLostError():
            return LinkLostError(found, detail=error.detail)
        case _:
            return error


def _for_now(error: MeterError) -> bool:
    return isinstance(error, AccessError) and error.result == _TEMPORARY_FAILURE
