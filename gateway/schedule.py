"""The only place that knows APScheduler: it rings bells, it decides nothing.

A tick is a hint; whoever hears it looks at the Store for what is due. Jobs live in memory and have interval
triggers in UTC alone: the cron triggers of APScheduler 3.11.0 loop for ever at the end of summer time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

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
        logging.getLogger("apscheduler").setLevel(logging.WARNING)

    def every(self, name: str, interval_s: float, callback: Callable[[], object]) -> None:
        """Call `callback` every `interval_s` seconds from start() on."""

        def ring() -> None:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 (whatever it is, somebody must hear of it)
                self._failed(name, error)

        self._scheduler.add_job(ring, "interval", seconds=interval_s, id=name, name=name)

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
