"""Maintenance windows: hours of local time, evaluated offline, right across both changes of daylight saving time.

An opening belongs to the local day on which it starts. A start that falls into the hour which is left out is the first
instant after it; one that comes twice is the first of the two. The end is the start plus the duration as it elapses, so
that an opening of five hours has five hours in every night of the year. All instants are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.model import Window

LONGEST_DURATION = timedelta(hours=24)
SEARCH = timedelta(days=4 * 366)
"""A window that does not open for so long never does: 29 February is in it, whatever the exceptions."""
_LOOK_AHEAD_DAYS = 7
"""So far openings are joined; a window that is always open has an end beyond that, which moves on with the time."""
_LONGEST_WORK_OPENINGS = 366
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of a window: from `start` until `end`, which is outside."""

    start: datetime
    cutoff_at: datetime
    """No meter is started from here on."""
    drain_at: datetime
    """Transfers stop at a block boundary from here on."""
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def current(window: Window, now: datetime) -> Opening | None:
    """The opening that `now` lies in. Those that touch or overlap are one: nobody drains at an end that is none."""
    first = _local_day(window, now) - 2 * _DAY
    found: Opening | None = None
    for opening in _openings(window, first, days=3 + _LOOK_AHEAD_DAYS):
        if found is None:
            if opening.start > now:
                return None
            found = opening if now in opening else None
        elif opening.start > found.end:
            break
        elif opening.end > found.end:
            found = replace(opening, start=found.start)
    return found


def worked_through(window: Window, begin: datetime, work_s: float) -> datetime | None:
    """When `work_s` of transfer are done that begin no earlier than `begin` and go on while the window is open; None:
    not within a year of openings."""
    at = begin
    for _ in range(_LONGEST_WORK_OPENINGS):
        opening = current_or_following(window, at)
        if opening is None:
            return None
        start = max(at, opening.start)
        room_s = (opening.drain_at - start).total_seconds()
        if work_s <= room_s:
            return start + timedelta(seconds=work_s)
        work_s -= max(0.0, room_s)
        at = opening.end
    return None


def following(window: Window, now: datetime) -> Opening | None:
    """The next opening that starts after `now`; None: it opens no more."""
    first = max(_local_day(window, now) - _DAY, window.valid_from or date.min)
    return next(
        (opening for opening in _openings(window, first, days=SEARCH.days) if opening.start > now), None
    )


def current_or_following(window: Window, now: datetime) -> Opening | None:
    """The opening that `now` lies in, or else the next one; None: it opens no more."""
    return current(window, now) or following(window, now)


def _openings(window: Window, first: date, *, days: int) -> Iterator[Opening]:
    """Those that start on `first` or on one of the days after it, `days` in all, in their order."""
    for number in range(days):
        day = first + number * _DAY
        if window.valid_until is not None and day > window.valid_until:
            return
        if window.valid_from is not None and day < window.valid_from:
            continue
        if day.weekday() in window.days and day not in window.exceptions:
            yield _opening(window, day)


def _opening(window: Window, day: date) -> Opening:
    start = first_instant(datetime.combine(day, window.start), ZoneInfo(window.timezone))
    end = start + timedelta(seconds=window.duration_s)
    return Opening(
        start,
        end - timedelta(seconds=window.cutoff_s),
        end - timedelta(seconds=window.drain_s),
        end,
    )


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant, in UTC, at which clocks in `zone` show `wall` or have just jumped over it."""
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None) == wall:
        return early
    # PEP 495: of a wall time that is left out, fold=0 counts by the offset before the jump, so that it lies behind
    # the jump, and fold=1 by the offset after it, so that it lies before.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = early
    while after - before > _SECOND:
        middle = before + (after - before) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _local_day(window: Window, moment: datetime) -> date:
    return moment.astimezone(ZoneInfo(window.timezone)).date()
