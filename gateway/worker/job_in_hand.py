"""A job in hand: what is known of it and of its meter, what of that is durable, and how it ends.

What must be durable before octets leave is saved first (invariants 2 and 3): each initiate, verify and activate, and
the ceiling of block numbers. Acknowledged blocks are saved at checkpoints only, about every 10 s, to spare the SD card.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.errors import Code, CounterRefusedError, GatewayError, MeterError, SilentError
from gateway.link.session import Session
from gateway.model import (
    TERMINAL_JOB,
    ActivateWhen,
    Campaign,
    Delivery,
    Findings,
    Job,
    JobState,
    Meter,
    TransferRecord,
)
from gateway.states import decided_anew, in_its_meters_hands
from gateway.store import Store
from gateway.transfer import Failed, Goal, Item, MeterView, after_error, block_size, found, identifier_of
from gateway.transfer.schedule import LEAD_S
from gateway.wire import apdu, axdr
from gateway.worker import objects
from gateway.worker.block_count import BlockCount

CHECKPOINT_S = 10.0
FIRST_AHEAD_BLOCKS = 16
"""How far the first checkpoint allows sending; later ones allow what was sent in CHECKPOINT_S."""
NEVER_S = float("inf")


class JobInHand:
    """A job, its goal, and what is seen of its meter; `TransferRun` adds what is done about it."""

    def __init__(
        self,
        job: Job,
        campaign: Campaign,
        meter: Meter,
        image: bytes,
        *,
        store: Store,
        board: Board,
        clock: Clock,
    ) -> None:
        self.key = (job.campaign_id, job.meter_id)
        self.job = job
        self.meter = meter
        self.priority = campaign.priority
        self.wake_at = clock.monotonic()
        self.keeps_line = False
        """The association may not be broken, whatever else waits for the line."""
        self.held = False
        """It may not begin yet, for the sake of others on the line."""
        self.image = image
        self.sha256 = campaign.sha256
        self.campaign = campaign
        self._store = store
        self._board = board
        self._clock = clock
        self._firmware_object = campaign.firmware_object
        self._goal = Goal(
            sha256=campaign.sha256,
            image_size=job.record.image_size if job.record and not image else len(image),
            identifier=job.record.identifier
            if job.record and not image
            else identifier_of(meter.profile.identifier, ordered=campaign.identifier, image=image),
            profile=meter.profile,
            expect_version=campaign.expect_version,
            profiles=campaign.profiles,
            from_versions=campaign.from_versions,
            logical_device_name=meter.logical_device_name,
            take_over=campaign.take_over,
            dry_run=campaign.dry_run,
            activate_at=campaign.activate_at if campaign.activate_when is ActivateWhen.METER else None,
        )
        self.view = self._first_view()
        self._count = BlockCount(job, board=board, clock=clock)
        if self.view.record is not None:
            self._count.begin(self.job.blocks_total, self.view.record.acked)
        self._checkpoint_at = clock.monotonic()
        self._session: Session | None = None
        """What the last step was done in."""
        self._furthest = 0
        """The most blocks that the meter had, or acknowledged, since initiate."""

    @property
    def has_schedule(self) -> bool:
        """Its meter's schedule is, or may have been, given a time."""
        record = self.view.record
        return self._goal.activate_at is not None or (record is not None and record.scheduled_at is not None)

    @property
    def ended(self) -> bool:
        return self.job.state in TERMINAL_JOB

    def checkpoint(self) -> None:
        """Make durable what the meter acknowledged so far, before this process ends."""
        if not self.ended and self.view.record is not None:
            self._save(record=self._with_blocks(self.view.record.ceiling))

    def set_aside(self, why: str, *, image_gone: bool = False) -> None:
        """What the meter acknowledged is durable, and nothing more is done until the job is begun anew: nothing is
        wrong with it. A meter that was not begun stays so, and one that waits for its activation alone goes on doing
        that, unless its image is gone; once activation is decided its state says more than that it waits."""
        self._board.drop(("progress", *self.key))
        if self.job.state is JobState.QUEUED:
            return
        verified = self.job.state is JobState.AWAITING_ACTIVATION and not image_gone
        state = self.job.state if verified or in_its_meters_hands(self.job) else JobState.WAITING
        self.checkpoint()
        self._save(state=state, code=None, message=why, next_try_at=None)

    # -- blocks that go to several meters at once (worker/broadcast.py) ------------------------------------------

    def join(self, message: str) -> None:
        """Wait for others until `look_again` or `part`; what its bitmap showed is durable."""
        self.expect(-1, state=JobState.TRANSFERRING, code=None, message=message)
        self.wake_at = NEVER_S

    def expect(self, highest: int, **told: Any) -> None:
        """Blocks up to `highest` may reach the meter from now on, durably (invariant 3); `told` changes the job."""
        assert self.view.record is not None
        record = self._with_blocks(max(self.view.record.ceiling, highest))
        self._save(record=record, **told)
        self.view.record = record

    def overhears(self, number: int) -> None:
        """A block leaves for others, and the meter may have it too."""
        if self.view.sent is not None:
            self.view.sent.add(number)

    def is_sent(self, number: int, *, done: int) -> None:
        """A block leaves for this meter and others; `done`: how many it has, if it hears them all."""
        assert self.view.record is not None
        self.overhears(number)
        now_s = self.view.now_s = self._clock.monotonic()
        self._count.note(number, now_s, octets=self._block_octets(number), broadcast=True)
        self._count.tell(self.job, now_s, done=done, block_size=self.view.record.block_size)

    def look_again(self) -> None:
        """Only its bitmap knows what the meter took."""
        self._count.end_round()
        self.view.blocks = None
        self.view.swept = False
        self.wake_at = self._clock.monotonic()

    def part(self, delivery: str) -> None:
        """It is served by unicast from now on; `delivery` says why, or after what."""
        self._save(state=JobState.TRANSFERRING, code=None, message="", delivery=delivery)
        self.wake_at = min(self.wake_at, self._clock.monotonic())

    # -- how it goes wrong, and ends -------------------------------------------------------------------------------

    def fail(self, error: GatewayError) -> str:
        """The line or the meter did not do what was asked: try again later, or end."""
        self.view.now_s = self._clock.monotonic()
        if self.view.blocks is not None and self.view.blocks.count > self._furthest:
            # Only this is progress: a meter that acknowledges one block for ever must come to an end.
            self._furthest = self.view.blocks.count
            self._progressed()
        self.view.doubt()
        self.keeps_line = False
        of_line = error.code is Code.T_PORT and error.retryable
        line_tries = self.job.line_tries + of_line
        self.job = replace(self.job, tries=self.job.tries + 1, line_tries=line_tries, detail=error.detail)
        step = after_error(
            self._goal, self.view,
            code=error.code, message=error.message, retryable=error.retryable,
            tries=line_tries if of_line else self.job.tries - line_tries,
        )  # fmt: skip
        if isinstance(step, Failed):
            return self._end(JobState.FAILED, step.message, code=step.code)
        self.wake_at = self.view.now_s + step.delay_s
        next_try_at = self._clock.now() + timedelta(seconds=step.delay_s)
        # A meter that restarts is silent, and a counter that jumped is followed: nothing is wrong with that.
        expected = step.state is JobState.CONFIRMING or isinstance(error, CounterRefusedError)
        code = None if expected else error.code
        self._save(state=step.state, code=code, message=step.why, next_try_at=next_try_at)
        return step.why

    def cancel(self, session: Session | None, *, code: Code | None = None, message: str = "") -> str:
        """Somebody cancelled the campaign, or its time is over, and nothing was activated."""
        self._session = session
        self.job = replace(self.job, detail="")
        return self._end(JobState.CANCELLED, message or "cancelled", code=code)

    def _end(self, state: JobState, message: str, *, code: Code | None = None, detail: str = "") -> str:
        details = (detail or (self.job.detail if code else ""), self._put_back())
        # A dry run leaves the record with the order that began the transfer.
        over = state is JobState.UPDATED or self._goal.dry_run
        self._save(
            state=state, code=code, message=message, detail="; ".join(filter(None, details)), next_try_at=None,
            finished_at=self._clock.now(), record=None if over else self.view.record,
            findings=self._findings() if self._goal.dry_run else None,
        )  # fmt: skip
        self._board.drop(("progress", *self.key))
        return f"{state}: {message}"

    def _findings(self) -> Findings:
        size, session = block_size(self._goal, self.view), self._session
        known = session is not None and session.alive and size
        return found(self._goal, self.view, session.block_s(size) if known and session else None)

    def _put_back(self) -> str:
        """Disable again what was enabled; why not, where that cannot be."""
        session = self._session
        if not self.job.transfer_enabled:
            return ""
        try:
            if session is None or not session.alive:
                raise SilentError("the meter cannot be reached now")
            session.set(self._enabled_attribute(), axdr.boolean(False))
        except MeterError as error:
            return f"image_transfer_enabled stays TRUE: {error.message}"
        return ""

    def _enabled_attribute(self) -> apdu.Attribute:
        return objects.attribute_of(Item.ENABLED, self.meter.profile, "")

    def _progressed(self) -> None:
        self.job = replace(self.job, tries=0, line_tries=0)

    # -- what is durable -----------------------------------------------------------------------------------------

    def _first_view(self) -> MeterView:
        """What an earlier process, or an earlier campaign of ours in this meter, left durable."""
        view = MeterView(
            now_s=self._clock.monotonic(), version_before=self.job.version_before, health=self.job.health
        )
        view.record = self.job.record
        if view.record is None and (left := self._store.last_record(self.job.meter_id)) is not None:
            # Ours, though of another order: to be continued or replaced, not foreign.
            view.record = decided_anew(left)
        if view.record is not None and view.record.activate_decided:
            view.activated_at_s = view.now_s + self._runs_the_image_in_s(view.record)
        if view.record is not None and view.record.verifies:
            # What was waited since the job was set aside last, before a crash, is not known: it has that time afresh.
            view.verified_at_s = view.now_s - view.record.verify_waited_s
        if view.record is not None and not self.job.blocks_total:
            total = -(-view.record.image_size // view.record.block_size)
            self.job = replace(self.job, blocks_total=total)
        return view

    def _runs_the_image_in_s(self, record: TransferRecord) -> float:
        """When its meter runs, or ran, the image, seconds from now, as far as that is still known."""
        ahead_s = 0.0
        if record.scheduled_at is not None:
            ahead_s = (record.scheduled_at - self._clock.now()).total_seconds()
        return ahead_s if 0.0 < ahead_s <= LEAD_S else -self.meter.profile.reconnect_after_s

    def _allow_further(self, number: int) -> None:
        """A checkpoint: what is acknowledged, and how far may be sent until the next one."""
        assert self.view.record is not None
        ahead = max(FIRST_AHEAD_BLOCKS, self._count.within(CHECKPOINT_S * 1.25))
        ceiling = min(max(self.view.record.ceiling, number + ahead), self.job.blocks_total - 1)
        record = self._with_blocks(ceiling)
        delivery = self.job.delivery or Delivery.UNICAST.value
        self._save(state=JobState.TRANSFERRING, message="", code=None, record=record, delivery=delivery)
        self.view.record = record
        self._checkpoint_at = self._clock.monotonic()

    def _with_blocks(self, ceiling: int) -> TransferRecord:
        """The record of now. It becomes the view's only once it is durable: what could not be saved was not decided."""
        record, blocks, verified_at_s = self.view.record, self.view.blocks, self.view.verified_at_s
        assert record is not None
        return replace(
            record,
            ceiling=ceiling,
            acked=bytes(blocks) if blocks is not None else record.acked,
            verify_waited_s=0.0 if verified_at_s is None else self._clock.monotonic() - verified_at_s,
        )

    def _enter(self, state: JobState | None, *, message: str = "") -> None:
        if state is not None and state is not self.job.state:
            self._save(state=state, message=message)

    def _save(self, **changes: Any) -> None:
        if changes.get("state") is None:
            changes["state"] = self.job.state
        blocks = self.view.blocks
        if blocks is not None:
            changes.setdefault("blocks_done", blocks.count)
        changes.setdefault("started_at", self.job.started_at or self._clock.now())
        changes |= self._count.fields()
        self.job = self._store.save_job(replace(self.job, **changes))

    def _block_octets(self, number: int) -> int:
        """The last block is what is left, unless it is padded."""
        assert self.view.record is not None
        size = self.view.record.block_size
        return size if self.meter.profile.pad_last_block else min(size, len(self.image) - number * size)
