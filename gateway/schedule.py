"""The only place that knows APScheduler: it rings bells, it decides nothing.

A tick is a hint; whoever hears it looks at the Store for what is due. Jobs live in memory and have a trigger of our
own: the cron triggers of APScheduler 3.11.0 loop for ever at the end of summer time, and its interval triggers list
every moment between one ring and the next, which are millions where a clock is set from 1970 to today.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

SCHEDULE = "schedule"
"""The actor name of the scheduler, as used for signs of life."""


class Bells:
    """Calls callbacks at intervals, one at a time, in a thread of its own.

    `failed` is told the name of a callback that raised, and what: APScheduler alone would only log it.
    """

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(max_workers=1)},
            # A tick that is late, by suspend or a set clock, is rung once and not dropped.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        # Its warnings are of rings left out while one goes on: who rings too slowly is missed by the watchdog.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def every(self, name: str, interval_s: float, callback: Callable[[], object]) -> None:
        """Call `callback` every `interval_s` seconds from start() on."""

        def ring() -> None:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 (whatever it is, somebody must hear of it)
                self._failed(name, error)

        self._scheduler.add_job(ring, _Every(interval_s), id=name, name=name)

    def clock_was_set(self) -> None:
        """Ring everything now and go on from there: the next rings were fixed in a time of day that is no more."""
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

    def start(self) -> None:
        """Begin to ring; before this there is no thread."""
        self._scheduler.start()

    def stop(self) -> None:
        """Ring no more; a callback under way ends first."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A while after now, whenever that is asked: nothing is made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval = timedelta(seconds=interval_s)

    def get_next_fire_time(self, _previous: datetime | None, now: datetime, *_: Any) -> datetime:
        return now + self._interval
