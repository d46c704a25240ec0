"""The jobs of one port that wait to be begun: which is next, and how one is taken in hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.board import Board
from gateway.clock import Clock
from gateway.errors import Code, GatewayError, MachineError, NotFoundError
from gateway.model import Campaign, CampaignState, Job, JobState, Meter
from gateway.states import BEGUN, in_its_meters_hands
from gateway.store import Store
from gateway.supply.images import ImageStore
from gateway.worker import crashes
from gateway.worker.contact import needs_counters
from gateway.worker.group import RunKey
from gateway.worker.hours import Hours
from gateway.worker.transfer_run import TransferRun

LOOK_AGAIN = timedelta(seconds=60)
DISK_WAIT = timedelta(seconds=60)
OPERATOR_WAIT = timedelta(minutes=50)
"""While only a word at the gateway helps, and a restart follows it: less than `store.jobs.LONGEST_PAUSE`."""


_AT_WORK = frozenset({JobState.PRECHECK, *BEGUN} - {JobState.AWAITING_ACTIVATION})


class JobQueue:
    """Of one port. `runs` are the worker's, which this adds to; the Store is asked when there may be news."""

    def __init__(
        self,
        port: str,
        *,
        meters: Mapping[str, Meter],
        store: Store,
        images: ImageStore,
        board: Board,
        clock: Clock,
        hours: Hours,
        runs: dict[RunKey, TransferRun],
    ) -> None:
        self._port = port
        self._meters = meters
        self._store = store
        self._images = images
        self._board = board
        self._clock = clock
        self._hours = hours
        self._runs = runs
        self._news = True
        self._fresh = True
        self._next: Campaign | None = None
        self.look_at_s: float | None = None
        """When a job falls due, as far as is known; None: when there is news."""

    def news(self) -> None:
        """There may be another job, or one may be due that was not."""
        self._news = True

    def next_campaign(self) -> Campaign | None:
        """That of the next job; None: none is due."""
        if self._fresh:
            self._put_aside_what_was_left()
            self._fresh = False
        if self._news or (self.look_at_s is not None and self.look_at_s <= self._clock.monotonic()):
            self._news, self.look_at_s = False, None
            job = self._next_job()
            self._next = None if job is None else self._campaign_of(job)
            if job is None:
                self.look_at_s = self._when(self._due_at())
        return self._next

    def begin_next(self) -> TransferRun | None:
        """Take the next job in hand. One that ends before it began makes room for the next at once."""
        self._news = True
        while job := self._next_job():
            with crashes.counted(self._store, job.meter_id):
                run = self._begin(job)
            if run is not None:
                return run
        self.next_campaign()  # and with it when to look again
        return None

    def _put_aside_what_was_left(self) -> None:
        """Jobs that an earlier process had in hand when it ended, and that may not go on now, say so."""
        for job in self._store.open_jobs(self._port):
            if job.state in _AT_WORK and not self._hours.may_work(job):
                why = self._hours.why_closed(job)
                self._store.save_job(replace(job, state=JobState.WAITING, code=None, message=why))

    def _next_job(self) -> Job | None:
        return self._store.due_job(self._port, self._clock.now(), tuple(self._runs), self._hours.may_work)

    def _due_at(self) -> datetime | None:
        """When a job falls due, or one whose hours have not come is to be looked at again: no bell rings for the hours
        of a meter while its campaign is at work elsewhere."""
        closed: list[datetime] = []

        def may_work(job: Job) -> bool:
            if self._hours.may_work(job):
                return True
            closed.append(self._hours.changes_at(job) or self._clock.now() + LOOK_AGAIN)
            return False

        due_at = self._store.next_due_at(self._port, tuple(self._runs), may_work)
        return min([*closed, *([due_at] if due_at else [])], default=None)

    def _campaign_of(self, job: Job) -> Campaign:
        campaign = self._store.campaign(job.campaign_id)
        assert campaign is not None, "a job has a campaign"
        return campaign

    def _when(self, moment: datetime | None) -> float | None:
        if moment is None:
            return None
        # Time of day may be set at any moment (a Pi has no clock of its own): never trust it for long.
        ahead = min(moment - self._clock.now(), LOOK_AGAIN)
        return self._clock.monotonic() + max(1.0, ahead.total_seconds())

    def _begin(self, job: Job) -> TransferRun | None:
        campaign = self._campaign_of(job)
        cancelling = campaign.state is CampaignState.CANCELLING
        if cancelling and not in_its_meters_hands(job):
            self._end(job, JobState.CANCELLED, code=campaign.code, message=campaign.message or "cancelled")
            return None
        if poison := crashes.verdict(job):
            code, message = poison
            self._end(job, JobState.FAILED, code=code, message=message)
            return None
        try:
            meter = self._meters.get(job.meter_id)
            if meter is None:
                raise NotFoundError(f"meter {job.meter_id} is no longer configured")
            if needs_counters(meter):
                self._store.check_machine()
            image = self._image(job, campaign.sha256)
        except GatewayError as error:
            if error.retryable:
                self._put_off(job, error)
                return None
            self._end(job, JobState.FAILED, code=error.code, message=error.message)
            return None
        run = TransferRun(
            job, campaign, meter, image, store=self._store, board=self._board, clock=self._clock
        )
        if cancelling:
            run.withdraw(campaign)
        self._runs[run.key] = run
        return run

    def _image(self, job: Job, sha256: str) -> bytes:
        """The bytes, once for all who send them; none where only looking is left, as far as is known."""
        if in_its_meters_hands(job):
            return b""
        for run in self._runs.values():
            if run.sha256 == sha256 and run.image:
                return run.image
        return self._images.read(sha256)

    def _put_off(self, job: Job, error: GatewayError) -> None:
        wait = OPERATOR_WAIT if isinstance(error, MachineError) else DISK_WAIT
        activated = job.record is not None and job.record.activate_decided
        state = job.state if activated else JobState.WAITING
        later = self._clock.now() + wait
        self._store.save_job(
            replace(job, state=state, code=error.code, message=error.message, next_try_at=later)
        )

    def _end(self, job: Job, state: JobState, *, message: str, code: Code | None = None) -> None:
        """End a job that was not begun in this process."""
        self._store.save_job(
            replace(job, state=state, code=code, message=message, finished_at=self._clock.now())
        )
