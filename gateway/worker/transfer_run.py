"""One job carried through: what `next_step` decides is done with the meter, and what it shows is recorded."""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import (
    AccessError,
    Code,
    MeterError,
    NotNowError,
)
from gateway.identifiers import identifier_text
from gateway.link.session import Session
from gateway.model import JobState, TransferRecord
from gateway.states import in_its_meters_hands
from gateway.transfer import (
    Activate,
    ArmSchedule,
    BlockSet,
    CheckHealth,
    ClearSchedule,
    Done,
    Enable,
    Failed,
    Initiate,
    Item,
    LeaveToMeter,
    SendBlock,
    SetScript,
    Step,
    Survey,
    Verify,
    Wait,
    block_refused,
    next_step,
    refused,
)
from gateway.transfer.health import noted
from gateway.wire import apdu, axdr, image_transfer
from gateway.worker import objects
from gateway.worker.job_in_hand import CHECKPOINT_S
from gateway.worker.scheduling import Scheduling

BUSY_BLOCK_S = 2.0
MAX_BUSY_BLOCKS = 30

_TEMPORARY_FAILURE = 2
_DENIED = frozenset({3, 13})
"""read-write-denied, scope-of-access-violated: a matter of rights, not of the image."""


class TransferRun(Scheduling):
    """A job in hand that goes on step by step."""

    _busy_blocks = 0
    """Times in a row that its meter had no time for the block."""

    def decide(self, now_s: float) -> Step:
        """The next step."""
        self.view.now_s = now_s
        return next_step(self._goal, self.view)

    def associated(self, session: Session) -> None:
        """A new association with the meter: nothing seen in an older one counts."""
        self.view.forget()
        self.view.largest_block = session.largest_block

    def perform(self, step: Step, session: Session | None) -> str:
        """Do `step`; the sentence tells what was done. Raises what the session raises, and StateError when the job
        was ended by somebody else."""
        self._session = session
        if isinstance(step, Wait | Done | Failed | LeaveToMeter):
            return self._without_exchange(step)
        assert session is not None
        match step:
            case SendBlock(number=number):
                return self._send(number, session)
            case Survey():
                return self._survey(step, session)
            case CheckHealth():
                return self._check_health(step, session)
            case Enable():
                return self._enable(session)
            case Initiate():
                return self._initiate(step, session)
            case Verify():
                return self._verify(session)
            case Activate():
                return self._activate(session)
            case SetScript() | ArmSchedule() | ClearSchedule():
                return self._write_schedule(step, session)

    def _without_exchange(self, step: Wait | Done | Failed | LeaveToMeter) -> str:
        match step:
            case Wait():
                return self._wait(step)
            case Done(state=JobState.CANCELLED):
                return self.cancel(self._session, code=self.campaign.code, message=self.campaign.message)
            case Done():
                return self._end(step.state, step.message)
            case Failed():
                return self._end(JobState.FAILED, step.message, code=step.code)
            case LeaveToMeter():
                return self._leave_to_meter(step)

    # -- steps -------------------------------------------------------------------------------------------------

    def _survey(self, step: Survey, session: Session) -> str:
        self._enter(step.state)
        profile = self.meter.profile
        try:
            data = session.get(objects.attribute_of(step.item, profile, self._firmware_object))
        except AccessError as error:
            return self._refused(step.item, error)
        view = self.view
        match step.item:
            case Item.DEVICE_NAME:
                view.device_name = objects.as_text(data)
            case Item.MATCH:
                view.match = objects.as_text(data)
            case Item.VERSION:
                self._take_version(objects.as_text(data))
            case Item.BLOCK_SIZE:
                view.block_size = objects.as_number(data)
            case Item.ENABLED:
                view.enabled = objects.as_boolean(data)
            case Item.STATUS:
                view.take_status(image_transfer.status(data))
            case Item.ACTIVATE_INFO:
                view.activate_info = objects.as_activate_info(data)
            case Item.CLOCK | Item.SCHEDULE | Item.SCRIPT:
                self._take_of_schedule(step.item, data)
            case Item.BITMAP:
                view.take_bitmap(objects.as_bitmap(data, self.job.blocks_total, profile.bitmap))
        return f"read {step.item.value}"

    def _refused(self, item: Item, error: AccessError) -> str:
        if error.result == _TEMPORARY_FAILURE or in_its_meters_hands(self.job):
            return self.fail(
                NotNowError(f"the meter does not tell its {item.value} now", detail=error.detail)
            )
        step = refused(item, error.result)
        return self._end(JobState.FAILED, step.message, code=step.code, detail=error.detail)

    def _check_health(self, step: CheckHealth, session: Session) -> str:
        """What the meter refuses to tell is compared as well. It is durable with whatever is saved next."""
        self._enter(step.state)
        wanted = step.attribute
        try:
            data = session.get(apdu.Attribute(wanted.class_id, apdu.obis(wanted.object), wanted.number))
            value = objects.as_shown(data)
        except AccessError as error:
            if error.result == _TEMPORARY_FAILURE:
                message = f"the meter does not tell {wanted.text} now"
                return self.fail(NotNowError(message, detail=error.detail))
            value = f"refused (data-access-result {error.result})"
        self.view.health = noted(self.view.health, wanted.text, value)
        self.job = replace(self.job, health=self.view.health)
        return f"read {wanted.text}"

    def _take_version(self, version: str) -> None:
        self.view.version = version
        self.job = replace(self.job, version_after=version)
        if not self.view.version_before:
            self.view.version_before = version
            self.job = replace(self.job, version_before=version)

    def _enable(self, session: Session) -> str:
        """What was changed in the meter for our sake is durable before it is changed, and put back at the end."""
        self._save(transfer_enabled=True)
        try:
            session.set(self._enabled_attribute(), axdr.true_as_ff())
        except AccessError as error:
            if error.result == _TEMPORARY_FAILURE:
                return self.fail(NotNowError("the meter cannot be enabled now", detail=error.detail))
            self.job = replace(self.job, transfer_enabled=False)
            message = f"image_transfer_enabled is FALSE, and the meter refuses TRUE (data-access-result {error.result})"
            return self._end(JobState.FAILED, message, code=Code.T_DISABLED, detail=error.detail)
        self.view.enabled = None
        self.view.enable_tried = True
        return "set image_transfer_enabled"

    def _initiate(self, step: Initiate, session: Session) -> str:
        """Invariant 3: everything that tells this image from another is durable before the meter erases."""
        view = self.view
        assert view.status is not None
        total = -(-self._goal.image_size // step.block_size)
        record = TransferRecord(
            sha256=self._goal.sha256,
            identifier=self._goal.identifier,
            image_size=self._goal.image_size,
            block_size=step.block_size,
            initiates=(view.record.initiates if view.record else 0) + 1,
            initiated_over=view.status,
        )
        self._save(
            state=step.state, message=f"initiate: {step.why}", record=record,
            blocks_total=total, blocks_done=0, version_before=view.version_before,
        )  # fmt: skip
        view.record = record
        self._count.begin(total)
        view.sent, self._furthest = BlockSet(total), 0
        argument = image_transfer.initiate_data(self._goal.identifier, self._goal.image_size)
        busy = False
        try:
            session.act(self._method(image_transfer.INITIATE), argument)
        except AccessError as error:
            if error.result != _TEMPORARY_FAILURE:
                return self._initiate_refused(error)
            busy = True
        view.now_s = self._clock.monotonic()
        view.initiated(total, busy=busy)
        view.record = replace(view.record, initiate_answered=not busy)
        self.keeps_line = self.meter.profile.bitmap == "ignore"
        self._progressed()
        return f"initiated, {total} blocks of {step.block_size} octets"

    def _initiate_refused(self, error: AccessError) -> str:
        code = Code.T_DISABLED if error.result in _DENIED else Code.T_IDENTIFIER
        name = identifier_text(self._goal.identifier)
        message = f"the meter refuses to begin with identifier {name!r} (action-result {error.result})"
        return self._end(JobState.FAILED, message, code=code, detail=error.detail)

    def _send(self, number: int, session: Session) -> str:
        view, record, now_s = self.view, self.view.record, self.view.now_s
        assert record is not None
        assert view.blocks is not None
        if (
            number > record.ceiling
            or now_s - self._checkpoint_at >= CHECKPOINT_S
            or self.job.state is not JobState.TRANSFERRING
        ):
            self._allow_further(number)
        block = self.image[number * record.block_size : (number + 1) * record.block_size]
        if self.meter.profile.pad_last_block:
            block = block.ljust(record.block_size, b"\0")
        if view.sent is not None:
            view.sent.add(number)
        begun_s = self._clock.monotonic()
        result = session.send_block(number, block)
        if result:
            return self._block_refused(number, result)
        took_s = self._clock.monotonic() - begun_s
        view.blocks.add(number)
        view.swept = False
        self._busy_blocks = 0
        self._count.note(number, now_s, octets=len(block), took_s=took_s)
        self._count.tell(self.job, now_s, done=view.blocks.count, block_size=record.block_size)
        return "sent a block"

    def _block_refused(self, number: int, result: int) -> str:
        message = block_refused(self._goal, self.view, number, result)
        self._busy_blocks += 1
        if result == _TEMPORARY_FAILURE and self._busy_blocks <= MAX_BUSY_BLOCKS:
            self.wake_at = self._clock.monotonic() + BUSY_BLOCK_S
            return message
        return self.fail(_BlockRefusedError(message, detail=f"ACTION result {result}"))

    def _verify(self, session: Session) -> str:
        """Whatever the meter answers, its status decides, and everything is looked at again before activation."""
        view = self.view
        assert view.record is not None
        record = replace(
            self._with_blocks(view.record.ceiling), verifies=view.record.verifies + 1, verify_waited_s=0.0
        )
        self._save(state=JobState.VERIFYING, message="", record=record)
        view.record = record
        view.verified_at_s = view.now_s
        view.verified_here = True
        self.keeps_line = False
        result = self._act(image_transfer.VERIFY, session)
        view.verify_answered = True
        view.verify_refused = result not in (0, _TEMPORARY_FAILURE)
        view.device_name = view.match = view.status = view.activate_info = None
        self._progressed()
        return f"verification ordered, the meter answered with result {result}"

    def _activate(self, session: Session) -> str:
        """Once: after this only looking is left (invariant 6)."""
        view = self.view
        assert view.record is not None
        record = replace(view.record, activate_decided=True)
        self._save(state=JobState.ACTIVATING, message="", record=record, activated_at=self._clock.now())
        view.record = record
        view.activated_at_s = view.now_s
        try:
            result = self._act(image_transfer.ACTIVATE, session)
        finally:
            # The meter restarts: this association is over, and taking leave would only wait for an answer.
            session.alive = False
            view.forget()
        self._progressed()
        return f"activation ordered, the meter answered with result {result}"

    def _act(self, method: int, session: Session) -> int:
        """Invoke a method whose answer is one thing and its outcome another; the action-result."""
        try:
            session.act(self._method(method), image_transfer.no_data())
        except AccessError as error:
            self.job = replace(self.job, detail=error.detail)
            return error.result
        return 0

    def _wait(self, step: Wait) -> str:
        self._enter(step.state, message=step.why)
        self.view.status = None
        if step.state is JobState.CONFIRMING:
            self.view.version = None
        self.wake_at = self._clock.monotonic() + step.delay_s
        return f"{step.why}; {step.delay_s:.0f} s"

    def _method(self, number: int) -> apdu.Method:
        return image_transfer.method(apdu.obis(self.meter.profile.image_object), number)


class _BlockRefusedError(MeterError):
    code = Code.T_BLOCK
    retryable = True
