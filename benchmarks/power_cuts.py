"""`power_cut_states`: so many states in which a power cut may leave the disk, and every promise kept from there on
(`make endurance`).

The story of `tests/support/power_cuts.py` is recorded down to the sectors, on virtual time. The power goes between any
two operations of the disk; what was not synced is lost, kept in part or torn; the gateway starts on that and goes on to
the end, or to the next cut. The value is the number of states from which every promise was kept; the others stand in
the detail.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from support.desk import memory_directory
from support.power_cuts import Outage, outages_of, tell_story

from benchmarks.figure import Figure, platform_of_run

TARGET = 300
_ONCE, _TWICE = 300, 100
_SHOWN = 5


def figure() -> Figure:
    begin_s = time.monotonic()
    with memory_directory() as base:
        whole = tell_story(base / "whole")
        plans = outages_of(whole, _ONCE) + outages_of(whole, _TWICE, seed=2, again=True)
        places = [base / str(number) for number in range(len(plans))]
        with ProcessPoolExecutor(os.cpu_count()) as processes:
            results = list(processes.map(_told, places, plans))
    broken = [f"{broke}: {plan}" for plan, (_, _, broke) in zip(plans, results, strict=True) if broke]
    return Figure(
        "power_cut_states",
        sum(states for states, _, broke in results if not broke),
        "states",
        TARGET,
        {
            "compared": "states that POSIX allows after a power cut, each opened by the gateway and gone on from to the"
            " end on virtual time: campaigns, events, activations, blocks, counters, images",
            "broken_promises": len(broken),
            "first_of_them": broken[:_SHOWN],
            "stories_with_two_cuts": sum(states > 1 for states, _, _ in results),
            "activation_left_undecided": sum(undecided for _, undecided, _ in results),
            "kept": dict(Counter(kept for plan in plans if (kept := _kept(plan)))),
            "disk_operations_of_the_story": whole.disk.now,
            "seconds": time.monotonic() - begin_s,
            **platform_of_run(),
        },
    )


def _told(base: Path, outages: Sequence[Outage]) -> tuple[int, int, str]:
    """How many states it went on from, how many activations were left undecided, and the promise that broke."""
    try:
        world = tell_story(base, outages)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what we look for)
        return 0, 0, f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return len(world.lost), len(world.undecided), ""


def _kept(plan: Sequence[Outage]) -> str:
    cut = plan[0].cut
    return f"data {cut.data.value}, names {cut.names.value}" if cut else ""
