"""What there is to see at one moment: the documents of the verbs that `meter-gateway status` asks.

Nobody out there decides how much this costs: a look serves everybody for twenty times as long as it took, so all that
ask together have a twentieth of one core, however many they are and however large the gateway is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.clock import Clock
from gateway.model import TERMINAL_CAMPAIGN

Document = Mapping[str, Any]

SHORTEST_S = 0.5
LONGEST_S = 60.0
_REST = 20
OPEN_SHOWN = 10
"""Campaigns that are shown with their meters."""

ENDED = frozenset(state.value for state in TERMINAL_CAMPAIGN)
"""States of campaigns, as documents have them."""


@dataclass(frozen=True, slots=True)
class Look:
    """Replies of the verbs, as the contract has them."""

    at: datetime
    up_s: float
    """So long the process has been there."""
    info: Document
    ports: list[Document]
    meters: list[Document]
    campaigns: list[Document]
    """The newest ones, open or ended, oldest first."""
    windows: list[Document]
    clock_trusted: bool
    open: list[tuple[Document, list[Document]]]
    """Campaigns that go on, with their jobs; `OPEN_SHOWN` at most."""

    @property
    def timezone(self) -> str:
        """The gateway's; empty: the machine's."""
        return str((self.info["now"]["clock"] or {}).get("timezone") or "")

    @property
    def alarms(self) -> Document:
        """By their codes."""
        alarms: Document = self.info["now"]["alarms"]
        return alarms


class Looks:
    """Looks as seldom as it may."""

    def __init__(self, ask: Callable[[str, Document], Document], clock: Clock) -> None:
        """`ask` gives the data of a verb with arguments; raises GatewayError."""
        self._ask = ask
        self._clock = clock
        self._began_s = clock.monotonic()
        self._last: Look | None = None
        self._until_s = 0.0

    def now(self) -> Look:
        """The last look, or a fresh one where that is too old. Raises GatewayError."""
        begin_s = self._clock.monotonic()
        if self._last is None or begin_s >= self._until_s:
            self._last = self._look(begin_s)
            end_s = self._clock.monotonic()
            self._until_s = end_s + min(max(SHORTEST_S, _REST * (end_s - begin_s)), LONGEST_S)
        return self._last

    def forget_old(self) -> bool:
        """Keep nothing for nobody; whether the last look is too old."""
        old = self._clock.monotonic() >= self._until_s
        if old:
            self._last = None
        return old

    def _look(self, now_s: float) -> Look:
        campaigns = self._ask("campaign.list", {})["campaigns"]
        going_on = [one["campaign_id"] for one in campaigns if one["state"] not in ENDED]
        shown = [self._ask("campaign.get", {"campaign_id": name}) for name in going_on[:OPEN_SHOWN]]
        windows = self._ask("window.list", {})
        return Look(
            at=self._clock.now(),
            up_s=now_s - self._began_s,
            info=self._ask("info.get", {}),
            ports=self._ask("port.list", {})["ports"],
            meters=self._ask("meter.list", {})["meters"],
            campaigns=campaigns,
            windows=windows["windows"],
            clock_trusted=windows["clock_trusted"],
            open=[(one["campaign"], one["jobs"]) for one in shown],
        )
