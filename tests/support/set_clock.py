"""Runs in a daemon's process ahead of it: a time of day that a test sets. What the machine's clock shows cannot be set
for one process, so the classes that ask it are given another one."""

import importlib
import logging
import time
from datetime import datetime, timedelta
from pathlib import Path

_ASKING = (
    "gateway.clock",
    "gateway.schedule",
    "apscheduler.schedulers.base",
    "apscheduler.triggers.interval",
)


def from_file(file: Path) -> None:
    """The time of day is what it is plus the seconds in `file`, now and whenever that changes."""

    class Elsewhere(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=float(file.read_text()))

    for name in _ASKING:
        importlib.import_module(name).datetime = Elsewhere  # type: ignore[attr-defined]
    logging.Formatter.converter = lambda _, at: time.localtime(at + float(file.read_text()))  # type: ignore[assignment]
