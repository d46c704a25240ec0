"""When a campaign will have ended, if its lines stay as fast as they were. Pure.

An estimate, for people who plan nights: the blocks that are left at the measured pace of each line, lines side by side,
groups one after the other with the canaries' soak between them, all of it inside the window, and what else of higher
priority has the same lines first. Approvals are taken to be given at once; retries and failures are not foreseen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.model import (
    TERMINAL_JOB,
    Campaign,
    Delivery,
    Job,
    JobState,
    PausedWhy,
    Window,
)
from gateway.plan.order import groups
from gateway.plan.windows import current_or_following, following, worked_through

SETTLE_S = 120.0
"""From the last block to the new version: a meter that verifies and restarts. It is added once for each group, since
the line has others meanwhile."""
_LONGEST_WORK_S = 10 * 366 * 86400.0
"""What would take longer, nobody plans; its end may be no date any more."""
_STEADY_S = 600.0
_STEADY_SHARE = 0.1
_NOBODY_KNOWS = frozenset({PausedWhy.OPERATOR, PausedWhy.FAILURES, PausedWhy.CLOCK, PausedWhy.SIGNATURE})
_HAS_ALL_BLOCKS = frozenset({
    JobState.COMPLETING, JobState.VERIFYING, JobState.AWAITING_ACTIVATION, JobState.ACTIVATING, JobState.CONFIRMING,
    JobState.UNCERTAIN,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What is left of a campaign."""

    end: datetime | None = None
    """None: nobody knows."""
    work_s: Mapping[str, float] = field(default_factory=dict)
    """So long it still wants each line."""


def reckon(
    campaign: Campaign,
    jobs: Sequence[Job],
    *,
    paces: Mapping[str, float],
    ahead_s: Mapping[str, float],
    windows: Mapping[str, Window],
    now: datetime,
) -> Reckoning:
    """What is left of `campaign`, whose `jobs` are given in their order. `paces`: octets of image a second of each
    port, as far as measured; `ahead_s`: so long others have a port first."""
    if campaign.dry_run or campaign.image_size is None:
        return Reckoning()
    works = [_work_s(campaign, group, campaign.image_size, paces) for group in _groups(campaign, jobs)]
    if any(work is None for work in works):
        return Reckoning()
    total: defaultdict[str, float] = defaultdict(float)
    for work in works:
        for port, seconds in (work or {}).items():
            total[port] += seconds
    if campaign.paused in _NOBODY_KNOWS or not any(map(_goes_on, jobs)):
        return Reckoning(None, total)
    at: datetime | None = now
    waits_s = dict(ahead_s)
    for number, (group, work) in enumerate(zip(_groups(campaign, jobs), works, strict=True)):
        if work:
            longest_s = max(seconds + waits_s.pop(port, 0.0) for port, seconds in work.items())
            at = _through(campaign, windows, at, longest_s)
        if any(map(_goes_on, group)):
            at = _activated(campaign, windows, at)
        if at is None:
            return Reckoning(None, total)
        if number == 0 and campaign.canary and len(works) > 1:
            at = max(at, _soaked(campaign, group, at))
    return Reckoning(at, total)


def steady(before: datetime | None, end: datetime | None, now: datetime) -> datetime | None:
    """`before`, while `end` differs too little to be told anew."""
    if before is None or end is None:
        return end
    bearable_s = max(_STEADY_S, _STEADY_SHARE * (end - now).total_seconds())
    return before if abs((end - before).total_seconds()) <= bearable_s and before > now else end


def _groups(campaign: Campaign, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    first = 0
    for size in groups(campaign, len(jobs)):
        yield jobs[first : first + size]
        first += size


def _work_s(
    campaign: Campaign, jobs: Sequence[Job], image_size: int, paces: Mapping[str, float]
) -> dict[str, float] | None:
    """So long the group wants each line; None where the pace of one is not known."""
    one_by_one: defaultdict[str, float] = defaultdict(float)
    together: defaultdict[str, float] = defaultdict(float)
    for job in jobs:
        octets = _share_left(job) * image_size
        if not octets:
            continue
        if not paces.get(job.port):
            return None
        seconds = octets / paces[job.port]
        if campaign.delivery is Delivery.BROADCAST or job.delivery.startswith(Delivery.BROADCAST):
            together[job.port] = max(together[job.port], seconds)
        else:
            one_by_one[job.port] += seconds
    return {port: one_by_one[port] + together[port] for port in {**one_by_one, **together}}


def _share_left(job: Job) -> float:
    if job.state in TERMINAL_JOB or job.state in _HAS_ALL_BLOCKS:
        return 0.0
    return 1 - job.blocks_done / job.blocks_total if job.blocks_total else 1.0


def _goes_on(job: Job) -> bool:
    """Whether it may be told when it ends; a meter that gives no sign ends the day after, or at any moment."""
    return job.state not in TERMINAL_JOB and job.state is not JobState.UNCERTAIN


def _through(
    campaign: Campaign, windows: Mapping[str, Window], at: datetime | None, work_s: float
) -> datetime | None:
    if at is None or work_s > _LONGEST_WORK_S:
        return None
    if not campaign.window:
        return at + timedelta(seconds=work_s)
    window = windows.get(campaign.window)
    return None if window is None else worked_through(window, at, work_s)


def _activated(campaign: Campaign, windows: Mapping[str, Window], at: datetime | None) -> datetime | None:
    """When the new version runs in meters that have all their blocks at `at`."""
    settle = timedelta(seconds=SETTLE_S)
    if at is None:
        return None
    if campaign.activate_at is not None:
        return max(at, campaign.activate_at) + settle
    name = campaign.activate_window or campaign.window
    if not name:
        return at + settle
    window = windows.get(name)
    opening = current_or_following(window, at) if window else None
    if window and opening and max(at, opening.start) + settle > opening.end:
        opening = following(window, opening.start)
    return None if opening is None else max(at, opening.start) + settle


def _soaked(campaign: Campaign, canaries: Sequence[Job], at: datetime) -> datetime:
    """When the others may follow."""
    ended = [job.finished_at for job in canaries if job.finished_at is not None]
    last = max(ended) if len(ended) == len(canaries) else at
    return last + timedelta(seconds=campaign.canary_soak_s)
