"""When an order may be carried out, computed another way than the gateway does it: by looking at the days around a
moment, in local time. Openings never start in an hour that daylight saving time leaves out or repeats.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.model import Window


def open_until(window: Window, moment: datetime, *, but_s: float = 0.0) -> bool:
    """Whether the window is open at `moment`, and stays so for more than `but_s`; where one opening follows another
    without a pause, they are one."""
    zone = ZoneInfo(window.timezone)
    today = moment.astimezone(zone).date()
    since = until = None
    for day in (today + timedelta(days=number) for number in range(-2, 3)):
        if day.weekday() not in window.days or day in window.exceptions:
            continue
        start = datetime.combine(day, window.start, tzinfo=zone).astimezone(UTC)
        if until is None or start > until:
            since = start
        until = start + timedelta(seconds=window.duration_s)
        if since is not None and since <= moment < until - timedelta(seconds=but_s):
            return True
    return False
