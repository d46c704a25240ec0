"""The meter's own schedule of image activation: class 22, and the clock that it goes by (Blue Book)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.errors import WireError
from gateway.simulator.clock import EPOCH
from gateway.simulator.faults import Faults
from gateway.simulator.history import History, What
from gateway.simulator.spec import MeterSpec
from gateway.wire import action_schedule, axdr
from gateway.wire.action_schedule import Execution, Script
from gateway.wire.apdu import DataAccessResult, obis
from gateway.wire.axdr import Data


class MeterClock:
    """Counts from the same moment as all virtual time, and shows local time."""

    def __init__(self, spec: MeterSpec, faults: Faults) -> None:
        self._zone = ZoneInfo(spec.timezone)
        self._off = timedelta(seconds=faults.clock_off_s)

    def shows(self, now_s: float) -> datetime:
        """The local time at `now_s`, with its zone."""
        return (EPOCH + timedelta(seconds=now_s) + self._off).astimezone(self._zone)

    def when_it_shows(self, wall: datetime) -> float:
        """The virtual time at which it shows `wall`; of a time that comes twice the first."""
        return (wall.replace(tzinfo=self._zone).astimezone(UTC) - self._off - EPOCH).total_seconds()

    def shown(self, now_s: float) -> Data:
        """Attribute 2 of class 8: local time, and by how many minutes UTC differs from it."""
        now = self.shows(now_s)
        offset = now.utcoffset() or timedelta()
        return axdr.octet_string(
            now.year.to_bytes(2, "big")
            + bytes((now.month, now.day, now.isoweekday(), now.hour, now.minute, now.second))
            + bytes((now.microsecond // 10_000,))
            + round(-offset.total_seconds() / 60).to_bytes(2, "big", signed=True)
            + bytes(1)
        )


class ActionSchedule:
    """Armed or not. What is in the past when it is written is never run."""

    def __init__(self, spec: MeterSpec, faults: Faults, history: History) -> None:
        self._faults = faults
        self._history = history
        self.clock = MeterClock(spec, faults)
        self._activates = Script(obis(spec.activation_script), spec.activation_selector)
        self.script = Script(obis(spec.activation_script), spec.armed_selector)
        self.executions: tuple[Execution, ...] = spec.armed
        self._done_until_s = 0.0

    def get(self, number: int) -> Data | DataAccessResult:
        match number:
            case action_schedule.EXECUTED_SCRIPT:
                return action_schedule.script_data(self.script)
            case action_schedule.EXECUTION_TIME:
                return action_schedule.execution_data(self.executions)
            case _:
                return DataAccessResult.OBJECT_UNDEFINED

    def set(self, number: int, value: Data, now_s: float) -> int:
        """A DataAccessResult."""
        try:
            match number:
                case action_schedule.EXECUTED_SCRIPT if not self._faults.script_denied:
                    self.script = action_schedule.script(value)
                case action_schedule.EXECUTION_TIME:
                    return self._arm(action_schedule.executions(value), now_s)
                case _:
                    return DataAccessResult.READ_WRITE_DENIED
        except WireError:
            return DataAccessResult.TYPE_UNMATCHED
        return DataAccessResult.SUCCESS

    def _arm(self, executions: tuple[Execution, ...], now_s: float) -> int:
        refused = self._faults.schedule_refused if executions else self._faults.clearing_refused
        if refused:
            return refused
        if len(executions) > 1:
            return DataAccessResult.TYPE_UNMATCHED  # type 1
        self._history.note(now_s, What.SCHEDULED, len(executions))
        self.executions = executions
        if self._faults.schedule_drops_minutes:
            self.executions = tuple([execution._replace(minute=0) for execution in executions])
        self._done_until_s = now_s
        return DataAccessResult.SUCCESS

    def take_due(self, now_s: float) -> float | None:
        """When, since it was asked last, the image was to be activated; None: it was not."""
        if not self.executions:
            return None
        since_s, self._done_until_s = self._done_until_s, now_s
        for wall in filter(None, (execution.wall for execution in self.executions)):
            due_s = self.clock.when_it_shows(wall)
            if since_s < due_s <= now_s and self.script == self._activates:
                return due_s
        return None
