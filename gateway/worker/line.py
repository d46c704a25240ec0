"""The line as every exchange meets it: there or lost, ours alone or shared with another master."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gateway.clock import Clock
from gateway.errors import MeterError, PortError
from gateway.model import PortSettings
from gateway.store import Store
from gateway.worker.line_watch import LineWatch
from gateway.worker.sessions import Sessions
from gateway.worker.shared_line import SharedLine


class Line:
    """Of one port. `clients`: who this gateway is on it; `back()` is called when a line that was lost is back."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        clients: Collection[int],
        sessions: Sessions,
        store: Store,
        clock: Clock,
        back: Callable[[], None],
    ) -> None:
        self._watch = LineWatch(settings, store=store, clock=clock)
        self._shared = SharedLine(settings, clients=clients, store=store, clock=clock)
        self._sessions = sessions
        self._back = back

    @property
    def look_at_s(self) -> float:
        """When `look` has something to do."""
        return min(self._watch.look_at_s, self._shared.calm_at_s)

    def look(self, now_s: float) -> None:
        """A device that is not there is told before a job needs it; one that is back is opened at once."""
        if now_s >= self._watch.look_at_s:
            self._look_for_device()
        if now_s >= self._shared.calm_at_s:
            self._shared.calm()

    def _look_for_device(self) -> None:
        missing = self._watch.missing()
        try:
            if missing:
                raise PortError(missing)
            if self._watch.lost:
                self._sessions.port()
                self._is_back()
        except PortError as error:
            self.fail(error)

    def listen(self, now_s: float, *, associating: bool) -> None:
        """Before we talk. Raises as `SharedLine.listen` does, and PortError where the line cannot be had."""
        if associating or now_s >= self._shared.listen_at_s:
            self._shared.listen(self._sessions.port())

    def works(self) -> None:
        """A meter answered."""
        if self._watch.lost:
            self._is_back()

    def used(self, at_s: float) -> None:
        """An exchange has ended."""
        self._shared.used(at_s)

    def blame(self, error: MeterError, others: int) -> MeterError:
        """As `SharedLine.blame`."""
        return self._shared.blame(error, others)

    def lose(self, meter_id: str, error: MeterError) -> None:
        """After an error in an exchange with this meter."""
        self._sessions.lose(meter_id, error)
        if isinstance(error, PortError):
            self._watch.gone(error.message)

    def fail(self, error: PortError) -> None:
        """The line itself cannot be used."""
        self._sessions.close_port()
        self._watch.gone(error.message)

    def _is_back(self) -> None:
        self._watch.back()
        self._back()
