"""The conductor: looks at every open campaign and writes down what the plan says of it: whose turn it is, whether it is
paused and why, and that its time is over.

It gives nobody the line: the workers look at the gate themselves before each exchange. What it writes is what people
see, what holds back canaries and waves, and what ends an order whose time has passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime

from gateway.board import CONDUCTOR, Board
from gateway.clock import Clock
from gateway.errors import StateError
from gateway.model import WAITS_FOR_IMAGE, Campaign, StepReport
from gateway.plan.eta import reckon, steady
from gateway.plan.gate import UNPROVEN, expired, gate
from gateway.plan.verdict import verdict
from gateway.store import Store

LOOK_AGAIN_S = 60.0
"""The longest between two looks: time of day may be set at any moment, and no bell rings then."""
SHORTEST_S = 1.0
"""And the shortest: each change of state of a job rings the bell, and a thousand meters of many lines change often."""
RECKON_S = 30.0
"""An estimate stands so long: it looks at all jobs, and changes slowly."""


class Conductor:
    """The actor of plans."""

    def __init__(
        self, store: Store, clock: Clock, board: Board, *, clock_trusted: Callable[[], bool]
    ) -> None:
        self._store = store
        self._clock = clock
        self._board = board
        self._clock_trusted = clock_trusted
        self._reckon_at_s = clock.monotonic()
        self._looked_s = float("-inf")

    def step(self) -> StepReport:
        """Look at all of them once; comes back when one may change by time alone, or when the bell rings."""
        now_s = self._clock.monotonic()
        self._board.beat(CONDUCTOR, now_s)
        self._board.bell(CONDUCTOR).clear()
        if now_s < self._looked_s + SHORTEST_S:
            return StepReport("looked just now", self._looked_s + SHORTEST_S)
        self._looked_s = now_s
        campaigns = self._store.conducted()
        estimates = self._estimates(campaigns, now_s)
        wait_s = min((self._conduct(campaign, estimates) for campaign in campaigns), default=LOOK_AGAIN_S)
        return StepReport(f"{len(campaigns)} campaigns", now_s + wait_s if campaigns else None)

    def _estimates(self, campaigns: list[Campaign], now_s: float) -> Mapping[str, datetime | None]:
        """When each will have ended, by its id; empty while the last estimates are fresh. Who has a line first is
        reckoned before the others."""
        if now_s < self._reckon_at_s or not campaigns:
            return {}
        self._reckon_at_s = now_s + RECKON_S
        if not self._clock_trusted():
            return {campaign.id: None for campaign in campaigns}
        now, windows, paces = self._clock.now(), self._store.windows(), self._store.paces()
        ahead_s: Counter[str] = Counter()
        found: dict[str, datetime | None] = {}
        for campaign in sorted(campaigns, key=lambda one: -one.priority):
            jobs = self._store.jobs(campaign.id)
            left = reckon(campaign, jobs, paces=paces, ahead_s=ahead_s, windows=windows, now=now)
            if left.end is not None:
                ahead_s.update(left.work_s)
            found[campaign.id] = steady(campaign.eta, left.end, now)
        return found

    def _conduct(self, campaign: Campaign, estimates: Mapping[str, datetime | None]) -> float:
        """In how many seconds it wants to be looked at again."""
        now, trusted = self._clock.now(), self._clock_trusted()
        try:
            if expired(campaign, now, clock_trusted=trusted):
                self._store.expire_campaign(campaign.id)
                return LOOK_AGAIN_S
            if campaign.state in WAITS_FOR_IMAGE:
                return _until(now, campaign.not_after)
            opening = (
                UNPROVEN
                if campaign.id in self._store.unproven
                else gate(campaign, self._store.windows(), now, clock_trusted=trusted)
            )
            found = verdict(campaign, self._store.standings(campaign.id), opening, now, clock_trusted=trusted)
            self._store.conduct(
                campaign.id,
                state=found.state,
                released=found.released,
                paused=found.paused,
                message=found.message,
                opens_at=found.opens_at,
                eta=estimates.get(campaign.id, campaign.eta),
            )
        except StateError:
            return SHORTEST_S  # it ended, or an operator was here, between the look and the word
        return _until(now, opening.look_at, found.opens_at, campaign.not_after)


def _until(now: datetime, *moments: datetime | None) -> float:
    """Seconds to the next of them, bounded."""
    ahead = [(moment - now).total_seconds() for moment in moments if moment is not None and moment > now]
    return min(max(SHORTEST_S, min(ahead, default=LOOK_AGAIN_S)), LOOK_AGAIN_S)
