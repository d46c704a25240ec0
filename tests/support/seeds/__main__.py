"""`make simulate SEEDS=200` plays so many seeds in parallel processes; `make simulate SEED=4711` plays one and tells
what everybody did.

Exit status 1: a promise was broken. The line that is printed for a seed is what plays it again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from support.seeds.run import Result, many, one

_SENTENCES = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seeds", type=int, default=200, help="how many, from --from on")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seed", type=int, help="only this one, and tell what happens in it")
    parser.add_argument("--processes", type=int, default=0, help="0: one for each core")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _tell(asked.seed)
    begin = time.monotonic()
    broken, hours, played = 0, 0.0, 0
    for result in many(range(asked.first, asked.first + asked.seeds), processes=asked.processes):
        played += 1
        hours += result.hours
        if result.broken:
            broken += 1
            print(f"{result.broken}\n    make simulate SEED={result.seed}", flush=True)
        if played % 100 == 0:
            print(
                f"{played} seeds, {broken} broken, {hours:.0f} simulated hours", file=sys.stderr, flush=True
            )
    took_s = time.monotonic() - begin
    print(f"{played} seeds, {broken} broken, {hours:.0f} simulated hours in {took_s:.0f} s")
    return 1 if broken else 0


def _tell(seed: int) -> int:
    """Play one, with everything that can be said of it."""
    playing, error = one(seed)
    if playing is not None:
        print(*(s for s in playing.world.sentences[-_SENTENCES:] if not s.endswith("online")), sep="\n")
    result = Result.of(seed, playing, error)
    print(f"seed {seed}: {result.told}")
    if error is None:
        return 0
    traceback.print_exception(error, limit=-6)
    print(f"    make simulate SEED={seed}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
