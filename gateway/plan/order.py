"""Who goes when: canaries first, then waves, and nobody any more where too many failed. Pure.

The jobs of a campaign have an order. Those that were released may be worked on whenever the gate is open; the rest is
held. What was begun is never taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.model import TERMINAL_JOB, Campaign, JobState, PausedWhy, Standing

_GOOD = frozenset({JobState.UPDATED, JobState.SKIPPED})


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is."""

    released: int
    """So many jobs, counted from the first, may be worked on."""
    paused: PausedWhy | None = None
    """Why the campaign stops here; None: it goes on."""
    message: str = ""
    until: datetime | None = None
    """When it goes on by itself, where it does."""


def turn(campaign: Campaign, jobs: Sequence[Standing], now: datetime, *, clock_trusted: bool) -> Turn:
    """Whose turn it is in `campaign`, whose `jobs` are given in their order."""
    failed = sum(job.state is JobState.FAILED for job in jobs)
    fresh = failed - campaign.failures_accepted
    over = campaign.max_failures is not None and fresh > campaign.max_failures
    released = 0
    for number, size in enumerate(groups(campaign, len(jobs))):
        before = jobs[:released]
        if any(job.state not in TERMINAL_JOB for job in before):
            break
        if number == 1 and campaign.canary:
            held = _after_canaries(campaign, before, fresh, now, clock_trusted=clock_trusted)
            if held is not None and over:
                break
            if held is not None:
                return Turn(released, *held)
        released += size
    if over:
        message = f"{fresh} meters failed, max_failures is {campaign.max_failures}"
        return Turn(released, PausedWhy.FAILURES, message)
    return Turn(released)


def groups(campaign: Campaign, count: int) -> Iterator[int]:
    """The sizes of the groups that go one after the other."""
    canaries = min(campaign.canary, count)
    if canaries:
        yield canaries
    left = count - canaries
    while left > 0:
        size = min(campaign.wave or left, left)
        yield size
        left -= size


def _after_canaries(
    campaign: Campaign, canaries: Sequence[Standing], fresh: int, now: datetime, *, clock_trusted: bool
) -> tuple[PausedWhy, str, datetime | None] | None:
    """What keeps the others back, once every canary has ended. A canary that failed needs an operator's word."""
    bad = [job.meter_id for job in canaries if job.state not in _GOOD]
    if bad and fresh > 0:
        return PausedWhy.FAILURES, f"of the canaries {', '.join(bad[:5])} was not updated", None
    if not campaign.canary_soak_s:
        return None
    if not clock_trusted:
        return PausedWhy.SOAK, "the canaries soak, and the clock is not trusted", None
    ended = max((job.finished_at for job in canaries if job.finished_at), default=now)
    until = ended + timedelta(seconds=campaign.canary_soak_s)
    if now >= until:
        return None
    return PausedWhy.SOAK, "the canaries soak", until
