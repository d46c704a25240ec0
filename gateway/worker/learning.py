"""What is learned of the meters of a port, kept in the Store, and proposed to them the next time.

It holds under the limits that it was learned under: where the profile or the line is changed, and after a week, a meter
is proposed as much as ever, for it may have been the line.
"""

from __future__ import annotations

from datetime import timedelta

from gateway.clock import Clock
from gateway.errors import MeterError, SilentError
from gateway.link.session import Session
from gateway.model import Meter, PortSettings, Tuning
from gateway.store import Store
from gateway.wire.tuning import Limits, gentler, habit, patient

HOLDS = timedelta(days=7)
CERTAIN_LOSSES = 2
"""So many lost requests without progress between them are no accident."""


class Learning:
    """Of the meters of one port."""

    def __init__(self, settings: PortSettings, *, store: Store, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._lost: dict[str, int] = {}
        """Demanding requests of each meter that were lost since its last progress."""

    def limits(self, meter: Meter) -> Limits:
        """What to propose to this meter: its profile, or less."""
        most = self._most(meter)
        tuning = self._store.tuning(meter.id)
        if tuning is None or tuning.under != _text(most) or self._clock.now() - tuning.since > HOLDS:
            return most
        return Limits(tuning.max_info, tuning.window, tuning.snrm_parameters, tuning.wait_s)

    def note_association(self, meter: Meter, session: Session) -> None:
        """It is open. A meter that took an SNRM without parameters only is spared the other one."""
        if session.parameters_refused:
            limits = self.limits(meter)._replace(snrm_parameters=False)
            self._save(meter, limits, "it refuses an SNRM with parameters and takes one without")

    def note_failure(self, meter: Meter, session: Session, error: MeterError, tries: int) -> None:
        """An exchange failed, for the `tries`-th time in a row without progress; not all of them for the same
        reason."""
        request = session.request
        if not isinstance(error, SilentError) or not request.demanding:
            return
        lost = self._lost[meter.id] = 1 if tries <= 1 else self._lost.get(meter.id, 0) + 1
        if lost < CERTAIN_LOSSES and not session.untaken:
            return
        limits = gentler(self.limits(meter), request)
        if limits is not None:
            frames = f"frames of {request.longest_info} octets, {request.together} in a row"
            self._save(meter, limits, f"no answer to {frames}: from now on {_worded(limits)}")

    def note_habit(self, meter: Meter, session: Session) -> bool:
        """Where it had to be asked again and again, and why, what to do about it; True: there is something."""
        slow = habit(session.slow, session.exchanges) if session.slow else ()
        if not slow or slow[-1].number != session.exchanges:
            return False  # what stands in `request` now went well
        before, repeated = self.limits(meter), slow[0].repeated
        limits = gentler(before, session.request) if repeated else patient(before, slow)
        session.slow.clear()
        if limits is None:
            return False
        kind = "frames are lost" if repeated else "answers come late"
        self._save(meter, limits, f"{kind} in most exchanges: from now on {_worded(limits)}")
        return True

    def _most(self, meter: Meter) -> Limits:
        profile = meter.profile
        wait_s = self._settings.response_timeout_s
        return Limits(profile.max_info, profile.window, profile.snrm_parameters, wait_s)

    def _save(self, meter: Meter, limits: Limits, why: str) -> None:
        tuning = Tuning(meter.id, *limits, under=_text(self._most(meter)), since=self._clock.now(), why=why)
        self._store.save_tuning(tuning, port=self._settings.name)


def _text(limits: Limits) -> str:
    return f"{limits.max_info}/{limits.window}/{limits.snrm_parameters:d}/{limits.wait_s:g}"


def _worded(limits: Limits) -> str:
    return f"at most {limits.max_info} octets, {limits.window} in a row, {limits.wait_s:g} s to answer"
