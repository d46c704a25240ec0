"""Which progress is worth telling: at QoS 0, at most every 10 s or 1 % (contract). Of a job it goes to
`progress/{campaign}/{meter}`, of an image that is being fetched to `progress/{campaign}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.clock import Clock
from gateway.model import CampaignState
from gateway.store.documents import VERSION, encoded, time_text
from gateway.uplink.broker import Message

_INTERVAL_S = 10.0
_STEPS = 100


@dataclass(frozen=True, slots=True)
class _Told:
    at: float
    value: Mapping[str, Any]


class ProgressTeller:
    """Remembers what was told of each job that is under way."""

    def __init__(self, base: str) -> None:
        """`base`: the topics' beginning, root and gateway id."""
        self._base = base
        self._told: dict[tuple[str, ...], _Told] = {}

    def due(self, values: Mapping[tuple[str, ...], Mapping[str, Any]], clock: Clock) -> Iterator[Message]:
        """What to tell now, of the Board's values of the kinds "progress" and "fetch": by ("progress", campaign id,
        meter id) and ("fetch", campaign id)."""
        now = clock.monotonic()
        self._told = {key: told for key, told in self._told.items() if key in values}
        for key, value in values.items():
            told = self._told.get(key)
            if told is None or (value != told.value and _is_worth_it(told, value, now)):
                self._told[key] = _Told(now, value)
                yield Message(
                    "/".join((self._base, "progress", *key[1:])),
                    encoded({"v": VERSION, **_whose(key), **value, "ts": time_text(clock.now())}),
                    qos=0,
                )


def _whose(key: tuple[str, ...]) -> Mapping[str, str]:
    if key[0] == "fetch":
        return {"campaign_id": key[1], "state": CampaignState.FETCHING}
    return {"campaign_id": key[1], "meter": key[2]}


def _is_worth_it(told: _Told, value: Mapping[str, Any], now: float) -> bool:
    what = "blocks" if "blocks_done" in value else "bytes"
    moved = abs(int(value[f"{what}_done"]) - int(told.value[f"{what}_done"]))
    total = value[f"{what}_total"]
    return (
        now - told.at >= _INTERVAL_S
        or value.get("state") != told.value.get("state")
        or (total is not None and moved * _STEPS >= max(1, int(total)))
    )
