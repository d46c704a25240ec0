"""What a campaign is now: running, or paused and why, and how many of its jobs may be worked on. Pure.

It stands in the Store for people and for restarts; the workers look at the gate themselves before each exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.model import TERMINAL_JOB, Campaign, CampaignState, Job, JobState, PausedWhy, Standing
from gateway.plan.gate import Gate
from gateway.plan.order import turn
from gateway.states import in_its_meters_hands

_WANTS = {
    PausedWhy.WINDOW: "waits for its window",
    PausedWhy.CLOCK: "waits for a clock that can be trusted",
    PausedWhy.APPROVAL: "waits for campaign.approve",
    PausedWhy.SIGNATURE: "waits until its signature can be checked, which needs openssl",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """As the fields of `Campaign`."""

    state: CampaignState
    released: int
    paused: PausedWhy | None = None
    message: str = ""
    opens_at: datetime | None = None


def verdict(
    campaign: Campaign, jobs: Sequence[Standing], gate: Gate, now: datetime, *, clock_trusted: bool
) -> Verdict:
    """What `campaign` is at `now`; `jobs` in their order, `gate` as it is at `now`."""
    whose = turn(campaign, jobs, now, clock_trusted=clock_trusted)
    released = max(whose.released, campaign.released)
    if campaign.paused is PausedWhy.OPERATOR:
        return Verdict(CampaignState.PAUSED, released, PausedWhy.OPERATOR, campaign.message)
    if whose.paused is PausedWhy.FAILURES:
        return Verdict(CampaignState.PAUSED, released, PausedWhy.FAILURES, whose.message)
    left = [job for job in jobs[:released] if job.state not in TERMINAL_JOB]
    if not left and whose.paused:
        return Verdict(CampaignState.PAUSED, released, whose.paused, whose.message, whose.until)
    waiting = [job for job in left if not job.in_its_meters_hands]
    if waiting and not any(may_work(job, gate) for job in waiting):
        why, opens_at = _closed(waiting, gate)
        return Verdict(CampaignState.PAUSED, released, why, _WANTS[why], opens_at)
    begun = campaign.state is not CampaignState.READY or any(job.state is not JobState.QUEUED for job in jobs)
    return Verdict(CampaignState.RUNNING if begun else CampaignState.READY, released)


def standing(job: Job) -> Standing:
    """How it stands."""
    return Standing(job.meter_id, job.state, job.finished_at, in_its_meters_hands=in_its_meters_hands(job))


def may_work(job: Standing, gate: Gate) -> bool:
    """Whether something may be done for an open job."""
    if job.in_its_meters_hands:
        return True
    match job.state:
        case JobState.QUEUED:
            return gate.may_begin
        case JobState.AWAITING_ACTIVATION:
            return gate.activation_waits_for is None
        case _:
            return gate.may_transfer


def _closed(waiting: Sequence[Standing], gate: Gate) -> tuple[PausedWhy, datetime | None]:
    if all(job.state is JobState.AWAITING_ACTIVATION for job in waiting):
        return gate.activation_waits_for or PausedWhy.WINDOW, gate.activates_at
    return gate.why or PausedWhy.WINDOW, gate.opens_at
