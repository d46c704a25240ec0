"""What the campaigns of a port may do now, as its worker asks before every exchange: computed when it may have changed,
and cheap in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from gateway.clock import Clock
from gateway.model import Campaign, CampaignState, Job, Profile
from gateway.plan.gate import UNPROVEN, Gate, activation_needs_s, gate
from gateway.plan.verdict import may_work, standing
from gateway.store import Store

NEVER_S = float("inf")
LOOK_AGAIN_S = 5.0
"""Time of day may be set at any moment: no answer is relied on for longer."""


@dataclass(slots=True)
class _Answer:
    campaign: Campaign
    gate: Gate
    until_s: float


class Hours:
    """Of the campaigns that a worker has to do with."""

    def __init__(self, store: Store, clock: Clock, clock_trusted: Callable[[], bool]) -> None:
        self._store = store
        self._clock = clock
        self._clock_trusted = clock_trusted
        self._answers: dict[str, _Answer] = {}
        self.look_at_s = 0.0
        """When an answer that somebody relies on has to be looked at again."""

    def news(self) -> None:
        """Something was ordered: nothing that was known counts."""
        self._answers.clear()
        self.look_at_s = 0.0

    def closed(self, jobs: Iterable[Job], now_s: float) -> list[Job]:
        """Those that may not be worked on. Where nothing can have changed since it was asked last: none."""
        if now_s < self.look_at_s:
            return []
        self.look_at_s = NEVER_S
        return [job for job in jobs if not self.may_work(job)]

    def may_work(self, job: Job) -> bool:
        """Whether an exchange may be spent on this job. One that ordered an activation looks for its outcome at any
        time; a campaign that is being cancelled is let end."""
        stands = standing(job)
        if stands.in_its_meters_hands:
            return True
        answer = self._answer(job.campaign_id)
        if answer.campaign.state is CampaignState.CANCELLING:
            return True
        return answer.campaign.state is not CampaignState.PAUSED and may_work(stands, answer.gate)

    def may_transfer(self, job: Job) -> bool:
        """Whether something may be written to its meter now."""
        answer = self._answer(job.campaign_id)
        return answer.gate.may_transfer and answer.campaign.state is not CampaignState.PAUSED

    def trusted_now(self) -> datetime | None:
        """The time of day; None: it is not trusted."""
        return self._clock.now() if self._clock_trusted() else None

    def changes_at(self, job: Job) -> datetime | None:
        """When `may_work` may say something else by time alone; None: never."""
        return self._answer(job.campaign_id).gate.look_at

    def why_closed(self, job: Job) -> str:
        """In words, for the job's message."""
        answer = self._answer(job.campaign_id)
        if answer.campaign.paused:
            return f"the campaign is paused ({answer.campaign.paused})"
        name = f"window {answer.campaign.window}" if answer.campaign.window else "its time"
        return f"waits for {name}" + _opens(answer.gate)

    def activation_waits(self, job: Job, profile: Profile) -> str:
        """Why activation may not be ordered now; empty: it may."""
        answer = self._answer(job.campaign_id)
        needed_s = activation_needs_s(profile)
        if answer.gate.may_activate(self._clock.now(), needed_s):
            return ""
        why = answer.gate.activation_waits_for
        if why is None:
            return f"activation takes {needed_s:.0f} s, and its window ends before"
        return f"activation waits ({why})"

    def _answer(self, campaign_id: str) -> _Answer:
        known = self._answers.get(campaign_id)
        now_s = self._clock.monotonic()
        if known is None or now_s >= known.until_s:
            known = self._answers[campaign_id] = self._looked_up(campaign_id, now_s)
        self.look_at_s = min(self.look_at_s, known.until_s)
        return known

    def _looked_up(self, campaign_id: str, now_s: float) -> _Answer:
        campaign = self._store.campaign(campaign_id)
        assert campaign is not None, "a job has a campaign"
        now = self._clock.now()
        if campaign_id in self._store.unproven:
            return _Answer(campaign, UNPROVEN, now_s + LOOK_AGAIN_S)
        found = gate(campaign, self._store.windows(), now, clock_trusted=self._clock_trusted())
        timed = campaign.window or campaign.activate_window or campaign.activate_at
        always = not (timed or campaign.paused or found.why or found.activation_waits_for or found.look_at)
        ahead_s = NEVER_S if always else LOOK_AGAIN_S
        if found.look_at is not None:
            ahead_s = min(ahead_s, max(0.0, (found.look_at - now).total_seconds()))
        return _Answer(campaign, found, now_s + ahead_s)


def _opens(found: Gate) -> str:
    return f", which opens at {found.opens_at:%Y-%m-%d %H:%M} UTC" if found.opens_at else ""
