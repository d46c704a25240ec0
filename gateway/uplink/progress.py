"""Which progress is worth telling: at QoS 0, at most every 10 s or 1 % (contract)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.clock import Clock
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
        """What to tell now, of the Board's values of kind "progress": by ("progress", campaign id, meter id)."""
        now = clock.monotonic()
        self._told = {key: told for key, told in self._told.items() if key in values}
        for key, value in values.items():
            told = self._told.get(key)
            if told is None or (value != told.value and _is_worth_it(told, value, now)):
                self._told[key] = _Told(now, value)
                _, campaign_id, meter_id = key
                document = {
                    "v": VERSION,
                    "campaign_id": campaign_id,
                    "meter": meter_id,
                    **value,
                    "ts": time_text(clock.now()),
                }
                topic = f"{self._base}/progress/{campaign_id}/{meter_id}"
                yield Message(topic, encoded(document), qos=0)


def _is_worth_it(told: _Told, value: Mapping[str, Any], now: float) -> bool:
    moved = abs(int(value["blocks_done"]) - int(told.value["blocks_done"]))
    return (
        now - told.at >= _INTERVAL_S
        or value["state"] != told.value["state"]
        or moved * _STEPS >= max(1, int(value["blocks_total"]))
    )
