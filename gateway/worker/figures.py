"""The figures of one port and of each meter on it, for those who look: counted below, posted to the Board here.

Utilisation is the share of a time in which octets moved on the line or an answer was awaited. What is left is time in
which nobody wanted the line, or in which this gateway did not use it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.store.documents import time_text
from gateway.wire.tally import Tally

POST_S = 5.0
MINUTE_S, HOUR_S = 60.0, 3600.0

COUNTED = tuple(field.name for field in fields(Tally) if field.type == "int")


class Figures:
    """What was counted of each meter of a port since this was made."""

    def __init__(self, port: str, *, board: Board, clock: Clock) -> None:
        self._port = port
        self._board = board
        self._clock = clock
        self.of_all = Tally()
        """What went to several meters at once; to be counted on."""
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._posted: dict[str, int] = {}
        """Exchanges and polls of each meter when it was posted last."""
        self._busy: deque[tuple[float, float]] = deque([(clock.monotonic(), 0.0)])
        """How long the line had been busy, and when that was: over the last hour, some seconds apart."""
        self._lately = 0.0
        """Utilisation of the last minute, as it was told."""
        self._post_at_s = clock.monotonic()

    def of(self, meter_id: str) -> Tally:
        """To be counted on."""
        return self._tallies[meter_id]

    def post(self, now_s: float) -> None:
        """Tell the latest figures, where the last ones are POST_S old."""
        if now_s < self._post_at_s:
            return
        self._post_at_s = now_s + POST_S
        tallies = self._tallies
        for meter_id, tally in tallies.items():
            spoken = tally.exchanges + tally.polls + tally.sessions + tally.timeouts
            if self._posted.get(meter_id) != spoken:
                self._posted[meter_id] = spoken
                self._board.post(("meter", meter_id), {"figures": self._document([tally])})
        value = self._document([*tallies.values(), self.of_all]) | self._utilisation(now_s)
        self._board.post(("port", self._port), {"figures": value})

    def until_idle_s(self) -> float | None:
        """When the figures should be told again although nothing happens; None: they tell of an idle line already."""
        (_, oldest_s), (newest_at_s, newest_s) = self._busy[0], self._busy[-1]
        if self._lately or newest_s != self._busy_s():
            return self._post_at_s
        return None if oldest_s == newest_s else newest_at_s + MINUTE_S

    def _busy_s(self) -> float:
        return self.of_all.busy_s + sum(tally.busy_s for tally in self._tallies.values())

    def _utilisation(self, now_s: float) -> dict[str, float]:
        busy_s = self._busy_s()
        self._busy.append((now_s, busy_s))
        while len(self._busy) > 1 and self._busy[1][0] <= now_s - HOUR_S:
            self._busy.popleft()
        self._lately = self._share(MINUTE_S, now_s, busy_s)
        return {
            "utilisation_minute": self._lately,
            "utilisation_hour": self._share(HOUR_S, now_s, busy_s),
        }

    def _share(self, over_s: float, now_s: float, busy_s: float) -> float:
        """Of the time since the newest sample that is `over_s` old, or since this was made."""
        begin_s, before_s = self._busy[0]
        for at_s, busy_then_s in self._busy:
            if at_s > now_s - over_s:
                break
            begin_s, before_s = at_s, busy_then_s
        return round((busy_s - before_s) / max(now_s - begin_s, 1e-3), 4)

    def _document(self, tallies: list[Tally]) -> dict[str, Any]:
        heard_at_s = max(
            (tally.heard_at_s for tally in tallies if tally.heard_at_s is not None), default=None
        )
        counts: Mapping[str, Any] = {name: sum(getattr(tally, name) for tally in tallies) for name in COUNTED}
        return {**counts, "last_heard": self._moment(heard_at_s)}

    def _moment(self, at_s: float | None) -> str | None:
        if at_s is None:
            return None
        return time_text(self._clock.now() - timedelta(seconds=self._clock.monotonic() - at_s))
