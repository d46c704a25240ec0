"""What is done with a meter's own schedule, so that it activates its image by itself.

When, and when not any more, `gateway.transfer.schedule` decides."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import AccessError, Code, NotNowError
from gateway.link.session import Session
from gateway.model import Campaign, JobState
from gateway.transfer import ArmSchedule, ClearSchedule, Item, LeaveToMeter, SetScript
from gateway.transfer.schedule import clock_off_s, script_differs, take_schedule, what_is_armed
from gateway.wire import axdr
from gateway.wire.cosem import DataAccessResult
from gateway.worker import objects
from gateway.worker.job_in_hand import JobInHand


class Scheduling(JobInHand):
    """A job in hand whose meter may be given the time of its activation."""

    def withdraw(self, campaign: Campaign) -> None:
        """The order was taken back, and its meter may run the image by itself: that is cleared first."""
        self.campaign = campaign
        self.view.withdrawn = True
        self.wake_at = self._clock.monotonic()

    def _take_of_schedule(self, item: Item, data: axdr.Data) -> None:
        match item:
            case Item.CLOCK:
                zone = self.meter.profile.activation_timezone
                self.view.clock_off_s = clock_off_s(objects.as_wall(data), self._clock.now(), zone)
            case Item.SCRIPT:
                self.view.script = objects.as_script(data)
            case _:
                self._take_schedule(data)

    def _take_schedule(self, data: axdr.Data) -> None:
        """That the meter has nothing armed is durable at once: it is what an order may end on."""
        view = self.view
        view.schedule = objects.as_schedule(data)
        if not take_schedule(self._goal, view) and view.record is not None and view.record.scheduled_at:
            record = replace(view.record, scheduled_at=None)
            if self.job.record is not None and not self._goal.dry_run:
                self._save(record=record)
            view.record = record
        if view.armed:
            self._tell_armed()

    def _tell_armed(self) -> None:
        message = what_is_armed(self._goal, self.view)
        self._save(state=JobState.AWAITING_ACTIVATION, code=None, message=message, next_try_at=None)

    def _write_schedule(self, step: SetScript | ArmSchedule | ClearSchedule, session: Session) -> str:
        """A time is durable before it leaves (invariant 2); writing it again does no harm, and it is read back."""
        view = self.view
        if isinstance(step, ArmSchedule):
            assert view.record is not None
            record = replace(view.record, scheduled_at=self._goal.activate_at)
            self._save(state=step.state, message="the meter is given its time", record=record)
            view.record = record
        try:
            session.set(*objects.for_schedule(step, self._goal))
        except AccessError as error:
            return self._schedule_refused(step, error)
        view.schedule = view.script = None
        view.script_set = view.script_set or isinstance(step, SetScript)
        self._progressed()
        return "wrote the meter's schedule"

    def _schedule_refused(self, step: SetScript | ArmSchedule | ClearSchedule, error: AccessError) -> str:
        if error.result == DataAccessResult.TEMPORARY_FAILURE:
            return self.fail(NotNowError("the meter's schedule cannot be written now", detail=error.detail))
        view = self.view
        match step:
            case ClearSchedule():
                view.clearing_refused = True
                if view.armed:
                    self._tell_armed()
                return "the meter refuses to clear its schedule"
            case SetScript():
                message = f"{script_differs(view, step.script)}, and refuses to change that"
            case ArmSchedule():
                message = f"the meter refuses a time in its schedule (data-access-result {error.result})"
                view.schedule_wrong = message
                view.schedule = None  # whether it has it all the same
                return message
        return self._end(JobState.FAILED, message, code=Code.T_ACTIVATE, detail=error.detail)

    def _leave_to_meter(self, step: LeaveToMeter) -> str:
        """From here it is as if activation had been ordered for that time: nothing else is sent (invariant 6)."""
        view = self.view
        assert view.record is not None
        record = replace(view.record, activate_decided=True)
        self._save(state=step.state, message="", code=None, record=record, activated_at=record.scheduled_at)
        view.record = record
        view.activated_at_s = view.now_s + step.left_s
        return "the meter runs the image by itself now"
