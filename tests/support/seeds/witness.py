"""Looks on while a gateway works, and knows what may never be (invariants of ARCHITECTURE.md).

It sees what is durable, commit by commit, and what the meters see, event by event, and believes neither side about the
other: what a meter is told needs a decision that was durable before; a decision needs an order, its hour and its turn;
what the Store says of a meter needs to have happened to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from support.seeds.fate import Fate
from support.seeds.hours import open_until
from support.seeds.meters import Drawn
from support.seeds.nonces import Nonces
from support.seeds.told import Told
from support.world import AFTER_ERROR_S, World

from gateway.errors import Code, StoreError
from gateway.model import (
    TERMINAL_CAMPAIGN,
    TERMINAL_JOB,
    ActivateWhen,
    Campaign,
    CampaignState,
    ImageTransferStatus,
    Job,
    JobState,
    TransferRecord,
)
from gateway.simulator import VirtualMeter, What
from gateway.simulator.objects import LOGICAL_DEVICE_NAME
from gateway.states import CAMPAIGN_GOES_TO, JOB_GOES_TO
from gateway.transfer import BlockSet
from gateway.transfer.schedule import LEAD_S

STALE_S = 6.0
"""So long after the gateway's clock was set an answer may stand that was given before (`worker.hours.LOOK_AGAIN_S`)."""
LAST_EXCHANGE_S = 25.0
"""The longest that a block may be on its way when its hour is over: three attempts of 2 s, and octets at 1200 baud."""
EXPIRES_WITHIN_S = 150.0
"""The conductor's longest sleep, twice, and pauses after a full disk."""
NOTICED_WITHIN_S = 3.0
"""The conductor looks once a second, and each line has a time of its own; later where a full disk made it pause."""
ACTIVATION_MARGIN_S = 60.0
_ACTIVATED = frozenset({
    Code.T_UNKNOWN, Code.T_ACTIVATE, Code.T_VERSION, Code.T_IDENTITY, Code.T_HEALTH, Code.E_NOT_FOUND,
})  # fmt: skip
"""How a job may fail of which activation was decided."""
_WORKING = frozenset({CampaignState.READY, CampaignState.RUNNING})
_GOOD = frozenset({JobState.UPDATED, JobState.SKIPPED})


class BrokenPromiseError(AssertionError):
    """Something happened that may never happen."""


@dataclass
class _Seen:
    """What one meter has to do with."""

    drawn: Drawn
    may: dict[What, bool] = field(default_factory=lambda: defaultdict(bool))
    """A decision is durable that its meter has not seen yet."""
    record: TransferRecord | None = None
    """The last that was durable, of whatever order."""
    job: Job | None = None
    """The last one, as it is durable."""
    blocks: BlockSet | None = None
    """Those that it acknowledged since initiate."""
    to_compare: set[int] = field(default_factory=set)
    allowed_s: float = 0.0
    """When blocks were allowed last."""
    to_all: bool = False
    """What it hears was said to all meters of the line."""

    @property
    def honest(self) -> bool:
        return self.drawn.sturdy


class Witness:
    """See the module's docstring. `World.watch` it, and play inside `nonces.watched()`."""

    def __init__(self, fate: Fate, world: World) -> None:
        self.nonces = Nonces()
        self.told = Told(world.broker, self._complain)
        self.campaigns: dict[str, Campaign] = {}
        self.jobs: dict[tuple[str, str], Job] = {}
        self._fate = fate
        self._world = world
        self._broken: list[str] = []
        self._seen = {drawn.sim.id: _Seen(drawn) for drawn in fate.meters}
        self._fresh: set[str] = set()
        """Meters that have heard blocks in this step."""
        self._have_ended: set[tuple[str, str]] = set()
        self._borne: set[str] = set()
        """Campaigns whose failures an operator has borne with, or tried again."""
        self._too_many_s: dict[str, float] = {}
        self._clock_set_s = float("-inf")
        for meter_id, meter in world.meters.items():
            note = partial(self._heard, meter_id, meter.history.note)
            meter.history.note = note  # type: ignore[method-assign]

    @property
    def nothing_open(self) -> bool:
        """Every order that was accepted has ended."""
        return all(campaign.state in TERMINAL_CAMPAIGN for campaign in self.campaigns.values())

    # -- what it is told ----------------------------------------------------------------------------------------

    def clock_is_set(self) -> None:
        """From now on the gateway's time of day is another one."""
        self._clock_set_s = max(self._world.clock(port).monotonic() for port in self._world.lines)

    def committed(self, campaigns: Sequence[Campaign], jobs: Sequence[Job]) -> None:
        for campaign in campaigns:
            self.campaigns.setdefault(campaign.id, campaign)
        for job in jobs:
            self._job(self.jobs.get((job.campaign_id, job.meter_id)), job)
        for campaign in campaigns:
            self._campaign(self.campaigns[campaign.id], campaign)

    def stepped(self) -> None:
        for meter_id in self._fresh:
            self._compare_blocks(meter_id)
        self._fresh.clear()
        self.told.look()
        self._broken += self.nonces.repeated
        self._broken += [repr(error) for error in self._world.escaped if not isinstance(error, StoreError)]
        if self._broken:
            raise BrokenPromiseError("; ".join(self._broken[:5]))

    def _complain(self, what: str) -> None:
        self._broken.append(what)

    def _expect(self, holds: bool, what: str) -> None:
        if not holds:
            self._complain(what)

    # -- what is durable ----------------------------------------------------------------------------------------

    def _campaign(self, before: Campaign, after: Campaign) -> None:
        name = f"campaign {after.id}"
        self.campaigns[after.id] = after
        if before is after:
            self._expect(
                after.state in (CampaignState.ACCEPTED, CampaignState.READY), f"{name} begins {after.state}"
            )
            return
        if before.state is not after.state:
            self._expect(
                after.state in CAMPAIGN_GOES_TO[before.state], f"{name}: {before.state} -> {after.state}"
            )
        self._expect(before.state not in TERMINAL_CAMPAIGN, f"{name} had ended, and was written again")
        self._expect(after.rev > before.rev or after == before, f"{name}: rev {before.rev} -> {after.rev}")
        self._expect(
            (after.paused is not None) == (after.state is CampaignState.PAUSED), f"{name}: paused, and why"
        )
        self._expect(after.approved >= before.approved, f"{name}: an approval was lost")
        self._expect(after.released >= before.released, f"{name}: who was released is held again")
        if before.released <= after.canary < after.released and after.canary_soak_s:
            self._have_soaked(after)
        if after.failures_accepted != before.failures_accepted:
            self._borne.add(after.id)
        if after.state in TERMINAL_CAMPAIGN:
            self._has_ended(after)

    def _have_soaked(self, campaign: Campaign) -> None:
        """The others are released by the clock of that moment; who sets it back takes nothing back."""
        canaries = [self.jobs[campaign.id, meter] for meter in campaign.meters[: campaign.canary]]
        until = max(job.finished_at for job in canaries if job.finished_at) + timedelta(
            seconds=campaign.canary_soak_s
        )
        soaked = self._trusts and self._world.gateway_now >= until
        self._expect(
            soaked or self._clock_was_set_lately(),
            f"campaign {campaign.id} goes on before {until}, in the soak",
        )

    def _has_ended(self, campaign: Campaign) -> None:
        states = [job.state for (name, _), job in self.jobs.items() if name == campaign.id]
        self._expect(set(states) <= TERMINAL_JOB, f"campaign {campaign.id} ended before its jobs: {states}")
        expired = campaign.code is Code.W_EXPIRED and JobState.CANCELLED in states
        good = [state in _GOOD for state in states]
        ends = {
            CampaignState.EXPIRED: expired,
            CampaignState.SUCCEEDED: all(good),
            CampaignState.PARTIAL: any(good) and not all(good) and not expired,
            CampaignState.FAILED: not any(good) and not expired,
            CampaignState.CANCELLED: not any(good) and not expired,
        }
        self._expect(ends[campaign.state], f"campaign {campaign.id} is {campaign.state} with {states}")

    def _job(self, before: Job | None, after: Job) -> None:
        name = f"{after.campaign_id}/{after.meter_id}"
        self.jobs[after.campaign_id, after.meter_id] = after
        seen = self._seen[after.meter_id]
        if before is None:
            self._expect(after.state is JobState.QUEUED, f"{name} begins {after.state}")
            open_ones = [
                job for (_, meter), job in self.jobs.items() if meter == after.meter_id and _open(job)
            ]
            self._expect(len(open_ones) == 1, f"{name}: its meter stands in two open orders")
            seen.job = after
            return
        seen.job = after if seen.job is not None and seen.job.campaign_id == after.campaign_id else seen.job
        anew = before.state is JobState.FAILED and after.state is JobState.QUEUED
        if before.state is not after.state:
            self._expect(after.state in JOB_GOES_TO[before.state], f"{name}: {before.state} -> {after.state}")
        self._expect(before.state not in TERMINAL_JOB or anew, f"{name} had ended, and was written again")
        self._expect(after.rev > before.rev, f"{name}: rev {before.rev} -> {after.rev}")
        self._expect((after.finished_at is not None) == (after.state in TERMINAL_JOB), f"{name}: finished_at")
        if (
            before.state is JobState.QUEUED
            and after.state is not JobState.QUEUED
            and after.state not in TERMINAL_JOB
        ):
            self._begins(name, after)
        if anew:
            self._borne.add(after.campaign_id)
        elif after.state in TERMINAL_JOB:
            self._ends(name, before, after, seen)
        else:
            self._record(name, before, after, seen)
        if after.record is not None:
            seen.record = after.record

    def _record(self, name: str, before: Job, after: Job, seen: _Seen) -> None:
        """Decisions, each of which its meter may see once."""
        had, has = before.record, after.record
        if has is None:
            self._expect(had is None, f"{name} forgot its transfer")
            return
        initiates = has.initiates - (had.initiates if had else 0)
        activates = has.activate_decided - (had.activate_decided if had else 0)
        begins = initiates > 0
        self._expect(initiates in (0, 1), f"{name}: initiates grew by {initiates}")
        self._expect(activates in (0, 1), f"{name}: the decision to activate was taken back")
        if begins:
            self._decides(name, What.INITIATE, after, seen)
            limit = seen.drawn.sim.profile.max_initiates
            self._expect(has.initiates <= limit, f"{name}: {has.initiates} initiates, allowed are {limit}")
        elif had is not None:
            self._expect(
                has.ceiling >= had.ceiling, f"{name}: its ceiling fell from {had.ceiling} to {has.ceiling}"
            )
            self._expect(has.verifies >= had.verifies, f"{name}: verifies fell")
        if has.verifies > (had.verifies if had and not begins else 0) and after.state is JobState.VERIFYING:
            self._decides(name, What.VERIFY, after, seen)
        arms = has.scheduled_at is not None and (had is None or had.scheduled_at != has.scheduled_at)
        if arms:
            self._expect(has.verifies > 0, f"{name}: is armed, and was not verified")
            self._expect(
                has.scheduled_at == self.campaigns[after.campaign_id].activate_at,
                f"{name} is armed for {has.scheduled_at}",
            )
            self._decides(name, What.SCHEDULED, after, seen)
        if activates and has.scheduled_at is not None:
            early = has.scheduled_at - self._world.gateway_now > timedelta(seconds=LEAD_S + 1)
            self._expect(not early, f"{name} is left to its meter long before {has.scheduled_at}")
        elif activates:
            self._expect(after.state is JobState.ACTIVATING, f"{name} activates in state {after.state}")
            self._expect(has.verifies > 0, f"{name}: is activated, and was not verified")
            self._decides(name, What.ACTIVATE, after, seen)
        if seen.honest and seen.blocks is not None and has.acked and not begins:
            never = seen.blocks.lacks(BlockSet(seen.blocks.total, has.acked))
            self._expect(not never, f"{name}: {never} blocks are on record that its meter never acknowledged")

    def _decides(self, name: str, what: What, job: Job, seen: _Seen) -> None:
        campaign, now = self.campaigns[job.campaign_id], self._world.gateway_now
        assert job.record is not None
        seen.may[what] = True
        self._expect(campaign.state in _WORKING, f"{name}: {what}, and the campaign is {campaign.state}")
        self._expect(not campaign.dry_run, f"{name}: {what} in a dry run")
        self._expect(
            job.record.sha256 == campaign.sha256, f"{name}: {what} of another image than was ordered"
        )
        if self._clock_was_set_lately():
            return
        over = campaign.not_after is not None and now > campaign.not_after + timedelta(
            seconds=EXPIRES_WITHIN_S
        )
        self._expect(
            not over or not self._trusts, f"{name}: {what} at {now}, the order ended {campaign.not_after}"
        )
        if what is What.SCHEDULED:
            self._expect(self._trusts, f"{name}: armed by a clock that nobody trusts")
        if what is What.ACTIVATE:
            needed_s = seen.drawn.sim.profile.reconnect_after_s + ACTIVATION_MARGIN_S
            self._expect(self._may_activate(campaign, now, needed_s), f"{name}: activated at {now}")
        else:
            self._expect(self._may_transfer(campaign, now), f"{name}: {what} at {now}, outside its window")

    def _begins(self, name: str, job: Job) -> None:
        """It is its turn, and early enough."""
        campaign, now = self.campaigns[job.campaign_id], self._world.gateway_now
        self._expect(campaign.state in _WORKING, f"{name} begins, and its campaign is {campaign.state}")
        if campaign.window and not self._clock_was_set_lately():
            window = self._world.windows[campaign.window]
            left_s = max(window.cutoff_s, window.drain_s)
            early = self._trusts and open_until(window, now, but_s=left_s)
            self._expect(early, f"{name} begins at {now}, after the cut-off")
        before = self._groups_before(campaign, job)
        waits = [other for other in before if (campaign.id, other) not in self._have_ended]
        self._expect(not waits, f"{name} begins before {waits} have ended")
        held = campaign.meters.index(job.meter_id) >= campaign.released
        self._expect(not held, f"{name} begins, and only {campaign.released} are released")
        if before and campaign.canary and campaign.id not in self._borne:
            canaries = [self.jobs[campaign.id, meter] for meter in campaign.meters[: campaign.canary]]
            bad = [canary.meter_id for canary in canaries if canary.state not in _GOOD]
            self._expect(not bad, f"{name} begins, and the canaries {bad} were not updated")
        since_s = self._too_many_s.get(campaign.id)
        deaf_s = AFTER_ERROR_S if self._world.escaped else 0.0
        late = (
            since_s is not None
            and self._world.now_s > since_s + NOTICED_WITHIN_S + deaf_s
            and campaign.id not in self._borne
        )
        self._expect(not late, f"{name} begins although more than {campaign.max_failures} failed")

    def _groups_before(self, campaign: Campaign, job: Job) -> tuple[str, ...]:
        place = campaign.meters.index(job.meter_id)
        if place < campaign.canary:
            return ()
        wave = campaign.wave or len(campaign.meters)
        return campaign.meters[: campaign.canary + (place - campaign.canary) // wave * wave]

    def _ends(self, name: str, before: Job, after: Job, seen: _Seen) -> None:
        campaign, meter = self.campaigns[after.campaign_id], self._world.meters[after.meter_id]
        self._have_ended.add((after.campaign_id, after.meter_id))
        decided = before.record is not None and before.record.activate_decided
        match after.state:
            case JobState.UPDATED:
                self._expect(decided, f"{name} is updated, and nobody activated it")
                self._expect(
                    meter.version == campaign.expect_version, f"{name} is updated, and runs {meter.version}"
                )
            case JobState.SKIPPED if not campaign.dry_run:
                self._expect(
                    meter.version == campaign.expect_version, f"{name} is skipped, and runs {meter.version}"
                )
            case JobState.FAILED:
                self._expect(after.code is not None, f"{name} failed without a code")
                self._expect(
                    not decided or after.code in _ACTIVATED, f"{name} was activated, and failed {after.code}"
                )
            case JobState.CANCELLED:
                self._expect(not decided, f"{name} was activated, and is cancelled")
            case _:
                pass
        if after.code is not Code.T_UNKNOWN:
            true = self._fate.start + timedelta(seconds=self._world.acting_s)
            self._expect(not _armed_after(meter, true), f"{name} has ended, and its meter is armed")
        self._count_failures(campaign)

    def _count_failures(self, campaign: Campaign) -> None:
        failed = sum(self.jobs[campaign.id, meter].state is JobState.FAILED for meter in campaign.meters)
        if campaign.max_failures is not None and failed > campaign.max_failures:
            self._too_many_s.setdefault(campaign.id, self._world.now_s)

    # -- what the meters see ------------------------------------------------------------------------------------

    def _heard(
        self,
        meter_id: str,
        note: Callable[[float, What, int], None],
        at_s: float,
        what: What,
        number: int = 0,
    ) -> None:
        """In the place of `History.note` of one meter."""
        note(at_s, what, number)
        seen = self._seen[meter_id]
        match what:
            case What.BROADCAST:
                seen.to_all = bool(number)
            case What.BLOCK:
                self._hears_block(meter_id, at_s, number, seen)
            case What.SCHEDULED if number:
                armed = seen.record is not None and seen.record.scheduled_at is not None
                self._expect(armed, f"{meter_id} is armed, and nothing of that is durable")
            case What.ACTIVATE if self._by_itself(at_s, seen):
                assert seen.record is not None
                self._is_activated(meter_id, number, seen, seen.record)
            case What.INITIATE | What.VERIFY | What.ACTIVATE:
                self._hears_order(meter_id, at_s, what, number, seen)
            case What.SECURITY if seen.honest:
                self._complain(f"{meter_id} refused a message of ours, with counter {number}")
            case _:
                pass

    def _by_itself(self, at_s: float, seen: _Seen) -> bool:
        """It is the time that the meter was given, by its own clock, which is right, and the job waits for that."""
        if seen.record is None or seen.record.scheduled_at is None or seen.job is None:
            return False
        true = self._fate.start + timedelta(seconds=at_s)
        return true == seen.record.scheduled_at and _open(seen.job)

    def _hears_order(self, meter_id: str, at_s: float, what: What, number: int, seen: _Seen) -> None:
        allowed, seen.may[what] = seen.may[what], False
        self._expect(allowed, f"{meter_id}: {what} without a decision of its own, at {at_s:.3f}")
        record = seen.record
        if record is None:
            return
        if what is What.INITIATE:
            self._expect(number == record.image_size, f"{meter_id} was initiated for {number} octets")
            seen.blocks = BlockSet(-(-record.image_size // record.block_size))
            seen.allowed_s = at_s
        if what is What.ACTIVATE:
            self._is_activated(meter_id, number, seen, record)

    def _is_activated(self, meter_id: str, status: int, seen: _Seen, record: TransferRecord) -> None:
        meter, faults = self._world.meters[meter_id], seen.drawn.sim.faults
        if not faults.a6:
            verified = ImageTransferStatus.VERIFICATION_SUCCESSFUL
            self._expect(status == verified, f"{meter_id} was activated in status {status}")
            right = meter.image.image_sha256 == record.sha256
            self._expect(right or faults.verify_checks_size_only, f"{meter_id} activates another image")
        strange = seen.drawn.sim.expect_name is True and _name(meter) != meter.spec.logical_device_name
        self._expect(not strange, f"{meter_id} was exchanged, and another meter was activated")

    def _hears_block(self, meter_id: str, at_s: float, number: int, seen: _Seen) -> None:
        to_all, seen.to_all = seen.to_all, False
        record, job = seen.record, seen.job
        if record is None or job is None:
            self._complain(f"{meter_id} heard a block, and nothing was begun there")
            return
        self._expect(
            number <= record.ceiling, f"{meter_id} heard block {number}, the ceiling is {record.ceiling}"
        )
        if seen.blocks is not None and number < seen.blocks.total:
            seen.blocks.add(number)
        seen.to_compare.add(number)
        self._fresh.add(meter_id)
        campaign = self.campaigns[job.campaign_id]
        if to_all or self._clock_was_set_lately():
            return
        now = self._fate.start + timedelta(seconds=at_s + self._world.clock_off_s)
        if campaign.state in _WORKING and self._may_transfer(campaign, now):
            seen.allowed_s = at_s
        late_s = at_s - seen.allowed_s
        self._expect(late_s <= LAST_EXCHANGE_S, f"{meter_id} heard a block {late_s:.0f} s after its hour")

    def _compare_blocks(self, meter_id: str) -> None:
        """What it has stored is what was ordered, wherever it is."""
        seen = self._seen[meter_id]
        numbers, seen.to_compare = seen.to_compare, set()
        meter, record = self._world.meters[meter_id], seen.record
        if not seen.honest or record is None or meter.image.status is not ImageTransferStatus.INITIATED:
            return
        size, image = record.block_size, self._world.images_by_sha256[record.sha256]
        stored = meter.image.image
        for number in numbers:
            span = slice(number * size, (number + 1) * size)
            self._expect(stored[span] == image[span], f"{meter_id} has wrong octets in block {number}")

    # -- hours --------------------------------------------------------------------------------------------------

    @property
    def _trusts(self) -> bool:
        return self._world.clock_state == "synced"

    def _clock_was_set_lately(self) -> bool:
        return self._world.acting_s - self._clock_set_s <= STALE_S

    def _may_transfer(self, campaign: Campaign, now: datetime) -> bool:
        if not campaign.window:
            return True
        window = self._world.windows[campaign.window]
        return self._trusts and open_until(window, now, but_s=window.drain_s)

    def _may_activate(self, campaign: Campaign, now: datetime, needed_s: float) -> bool:
        name = campaign.window
        match campaign.activate_when:
            case ActivateWhen.MANUAL if not campaign.approved:
                return False
            case ActivateWhen.AT:
                assert campaign.activate_at is not None
                return self._trusts and now >= campaign.activate_at
            case ActivateWhen.WINDOW:
                name = campaign.activate_window
            case _:
                pass
        return not name or (self._trusts and open_until(self._world.windows[name], now, but_s=needed_s))


def _armed_after(meter: VirtualMeter, moment: datetime) -> bool:
    walls = [execution.wall for execution in meter.schedule.executions]
    return any(wall is not None and wall.replace(tzinfo=UTC) > moment for wall in walls)


def _open(job: Job) -> bool:
    return job.state not in TERMINAL_JOB


def _name(meter: VirtualMeter) -> str:
    """What it calls itself by now."""
    return meter._objects._texts[LOGICAL_DEVICE_NAME]
