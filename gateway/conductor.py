"""The conductor: looks at every open campaign and writes down what the plan says of it: whose turn it is, whether it is
paused and why, and that its time is over.

It gives nobody the line: the workers look at the gate themselves before each exchange. What it writes is what people
see, what holds back canaries and waves, and what ends an order whose time has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gateway.board import CONDUCTOR, Board
from gateway.clock import Clock
from gateway.errors import StateError
from gateway.model import WAITS_FOR_IMAGE, Campaign, StepReport
from gateway.plan.gate import expired, gate
from gateway.plan.verdict import verdict
from gateway.store import Store

LOOK_AGAIN_S = 60.0
"""The longest between two looks: time of day may be set at any moment, and no bell rings then."""
SHORTEST_S = 0.5


class Conductor:
    """The actor of plans."""

    def __init__(
        self, store: Store, clock: Clock, board: Board, *, clock_trusted: Callable[[], bool]
    ) -> None:
        self._store = store
        self._clock = clock
        self._board = board
        self._clock_trusted = clock_trusted

    def step(self) -> StepReport:
        """Look at all of them once; comes back when one may change by time alone, or when the bell rings."""
        now_s = self._clock.monotonic()
        self._board.beat(CONDUCTOR, now_s)
        self._board.bell(CONDUCTOR).clear()
        campaigns = self._store.conducted()
        wait_s = min((self._conduct(campaign) for campaign in campaigns), default=LOOK_AGAIN_S)
        return StepReport(f"{len(campaigns)} campaigns", now_s + wait_s if campaigns else None)

    def _conduct(self, campaign: Campaign) -> float:
        """In how many seconds it wants to be looked at again."""
        now, trusted = self._clock.now(), self._clock_trusted()
        try:
            if expired(campaign, now, clock_trusted=trusted):
                self._store.expire_campaign(campaign.id)
                return LOOK_AGAIN_S
            if campaign.state in WAITS_FOR_IMAGE:
                return _until(now, campaign.not_after)
            opening = gate(campaign, self._store.windows(), now, clock_trusted=trusted)
            found = verdict(campaign, self._store.jobs(campaign.id), opening, now, clock_trusted=trusted)
            self._store.conduct(
                campaign.id,
                state=found.state,
                released=found.released,
                paused=found.paused,
                message=found.message,
                opens_at=found.opens_at,
            )
        except StateError:
            return SHORTEST_S  # it ended, or an operator was here, between the look and the word
        return _until(now, opening.look_at, found.opens_at, campaign.not_after)


def _until(now: datetime, *moments: datetime | None) -> float:
    """Seconds to the next of them, bounded."""
    ahead = [(moment - now).total_seconds() for moment in moments if moment is not None and moment > now]
    return min(max(SHORTEST_S, min(ahead, default=LOOK_AGAIN_S)), LOOK_AGAIN_S)
