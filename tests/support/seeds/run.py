"""Seeds by the dozen, side by side."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from support.desk import memory_directory
from support.seeds.fate import drawn
from support.seeds.play import Playing


@dataclass(frozen=True)
class Result:
    """What became of one seed."""

    seed: int
    broken: str
    """What was; empty: every promise was kept."""
    hours: float
    """Of virtual time."""
    ended: Counter[str] = field(default_factory=Counter)
    """How jobs ended: state, or code."""

    @classmethod
    def of(cls, seed: int, playing: Playing | None, error: Exception | None) -> Result:
        if playing is None:
            return cls(seed, f"seed {seed}: {type(error).__name__}: {error}", 0.0)
        broken = "" if error is None else f"seed {seed}: {type(error).__name__}: {str(error)[:1000]}"
        return cls(seed, broken, playing.world.now_s / 3600, playing.ends)

    @property
    def told(self) -> str:
        ended = ", ".join(f"{count} {end}" for end, count in sorted(self.ended.items()))
        return self.broken or f"{self.hours:.1f} simulated hours; {ended}"


def one(seed: int) -> tuple[Playing | None, Exception | None]:
    """Play it; the error, if a promise was broken."""
    logging.disable()  # what a gateway logs while everything goes wrong is much, and the sentences say it
    playing = None
    with memory_directory() as directory:
        try:
            playing = Playing(drawn(seed), directory)
            playing.play()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what we look for)
            return playing, error
        finally:
            logging.disable(logging.NOTSET)
            if playing is not None:
                playing.world.store.close()
    return playing, None


def result_of(seed: int) -> Result:
    return Result.of(seed, *one(seed))


def many(seeds: Iterable[int], *, processes: int = 0) -> Iterator[Result]:
    """In the order of the seeds; `processes` 0: as many as there are cores."""
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        yield from pool.map(result_of, seeds, chunksize=4)
