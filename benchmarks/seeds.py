"""`simulated_seeds`: so many worlds kept every promise (`make endurance`; `make simulate` plays others).

Each seed is the whole gateway on virtual time with everything going wrong that can (`tests/support/seeds`). Counted is
a seed in which no promise was broken; those in which one was stand in the detail, and `make simulate SEED=...` plays
them again. SIMULATED_SEEDS plays another number of them, from FIRST_SEED on.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from support.seeds.run import many

from benchmarks.figure import Figure, noise, platform_of_run, tell

TARGET = 10_000
_SHOWN = 5
_TOLD_EVERY = 500


def figure() -> Figure:
    first, count = int(os.environ.get("FIRST_SEED", "0")), int(os.environ.get("SIMULATED_SEEDS", str(TARGET)))
    broken: list[str] = []
    ended: Counter[str] = Counter()
    hours, kept = 0.0, 0
    begin = time.perf_counter()
    for played, result in enumerate(many(range(first, first + count)), start=1):
        hours += result.hours
        ended += result.ended
        if result.broken:
            broken.append(result.broken)
        else:
            kept += 1
        if played % _TOLD_EVERY == 0:
            tell(f"simulated_seeds: {played} of {count}, {len(broken)} broken")
    seconds = time.perf_counter() - begin
    return Figure(
        "simulated_seeds",
        kept,
        "seeds",
        TARGET,
        {
            "compared": "worlds of up to 8 meters of every quirk, with orders, operators and faults drawn from a"
            " number, in which every promise was kept at every step and everything ended and was told once",
            "played": count,
            "first": first,
            "broken": len(broken),
            "first_of_them": broken[:_SHOWN],
            "jobs": dict(ended.most_common()),
            "simulated_hours": hours,
            "simulated_hours_per_s": hours / seconds,
            "seconds": seconds,
            "noise": noise(),
            **platform_of_run(),
        },
    )
