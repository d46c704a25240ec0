"""`kill9`: so many kills of the real daemon at random moments, and every promise kept (`make endurance`).

Each seed is a chapter of `tests/support/kills.py`: a daemon with three meters on a pty, a broker and two campaigns,
that is killed until all has ended, or so many times. What is held against the meters' own history and what the head-end
was told stands there. The value is the number of kills in chapters that kept every promise; those that did not stand in
the detail with their seeds.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from support.broker import Mosquitto
from support.kills import Toll, tell_chapter

from benchmarks.figure import Figure, noise, platform_of_run, tell

TARGET = 200
_OF_A_CHAPTER = 40
_MOST_CHAPTERS = 30


def figure() -> Figure:
    toll, broken = Toll(), []
    with TemporaryDirectory(prefix="kill9-") as directory, Mosquitto(Path(directory) / "broker") as broker:
        for seed in count(1):
            if toll.kills >= TARGET or seed > _MOST_CHAPTERS:
                break
            try:
                toll += tell_chapter(Path(directory) / str(seed), broker, seed=seed, kills=_OF_A_CHAPTER)
            except AssertionError as error:
                broken.append({"seed": seed, "promise": str(error).splitlines()[:3]})
                tell(f"seed {seed}: {error}")
            tell(f"kill9: {toll.kills} of {TARGET}")
    return Figure(
        "kill9",
        toll.kills,
        "kills",
        TARGET,
        {
            "compared": "kills -9 of the daemon, with mosquitto and three meters on a pty, after which no accepted"
            " campaign was lost, no end told twice (by event number), no meter activated twice",
            "broken_promises": len(broken),
            "seeds_of_them": broken,
            **{name: value for name, value in vars(toll).items() if name != "kills"},
            "noise": noise(),
            **platform_of_run(),
        },
    )
