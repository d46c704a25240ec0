"""[windows.NAME]: maintenance windows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from gateway.config import values as v
from gateway.config.table import Mistakes, Table, annotate
from gateway.errors import ConfigError
from gateway.model import Window

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LOCALTIME = "/etc/localtime"

KNOWN_YEARS = range(1970, 3000)
"""What is reckoned from a day of these, in any zone, is a date as well."""


def read_windows(table: Table, *, timezone: str) -> dict[str, Window]:
    """By name. `timezone`: the gateway's; empty: the system's."""
    return {name: _window(name, own, timezone) for name, own in table.named(v.ID).items()}


def read_window(name: str, settings: Mapping[str, Any], *, timezone: str) -> Window:
    """One window in the words of the configuration, from wherever it comes. Raises ConfigError."""
    mistakes = Mistakes()
    node = annotate({name: dict(settings)}, Path("args"))
    windows = read_windows(Table(node, "", mistakes), timezone=timezone)
    if mistakes.lines:
        raise ConfigError(tuple(mistakes.lines))
    return windows[name]


def _window(name: str, table: Table, timezone: str) -> Window:
    known = Window(name, frozenset(range(7)), time(0), 3600.0, timezone or system_timezone())
    days = table.read(
        "days",
        v.list_of(_DAY),
        tuple(known.days),
        "The local days on which it opens; an opening that goes past midnight belongs to the day before. "
        "Without it: every day.",
    )
    exceptions = table.read("except", v.list_of(_DATE), (), "Local days on which it does not open.")
    window = Window(
        name=name,
        days=frozenset(days),
        start=table.read(
            "start",
            _TIME,
            known.start,
            "When it opens, local time. One that is left out when the clocks change is the first instant "
            "after it; one that comes twice is the first.",
            required=True,
        ),
        duration_s=table.read(
            "duration",
            v.duration("1min", "24h"),
            known.duration_s,
            "How long it is open, as time elapses.",
            required=True,
        ),
        timezone=table.read(
            "timezone", v.TIMEZONE, known.timezone, "A name of the IANA database. Without it: the gateway's."
        ),
        cutoff_s=table.read(
            "cutoff",
            v.duration("0s", "24h"),
            known.cutoff_s,
            "No meter is begun later than this before the end; those that were begun go on.",
        ),
        drain_s=table.read(
            "drain",
            v.duration("0s", "1h"),
            known.drain_s,
            "Transfers stop at a block boundary this long before the end.",
        ),
        exceptions=frozenset(exceptions),
        valid_from=table.read(
            "valid_from", _DATE_OR_NONE, known.valid_from, "The first local day on which it may open."
        ),
        valid_until=table.read(
            "valid_until", _DATE_OR_NONE, known.valid_until, "The last local day on which it may open."
        ),
    )
    if not window.days:
        table.wrong("days", "at least one day, or no such key: every day")
    for key, ahead_s in (("cutoff", window.cutoff_s), ("drain", window.drain_s)):
        if ahead_s >= window.duration_s and not table.noted("duration"):
            table.wrong(key, "less than the duration, or nothing could be begun")
    if window.valid_from and window.valid_until and window.valid_until < window.valid_from:
        table.wrong("valid_until", "a day that is not before valid_from")
    table.finish()
    return window


def system_timezone() -> str:
    """The IANA name of the machine's time zone (localtime(5)); UTC where it has none."""
    _, found, name = os.path.realpath(_LOCALTIME).partition("/zoneinfo/")
    try:
        return v.TIMEZONE.read(name) if found else "UTC"
    except ValueError:
        return "UTC"


def _day(value: Any) -> int:
    return _DAYS.index(v.TEXT.read(value))


_DAY = v.Kind("one of " + ", ".join(f'"{day}"' for day in _DAYS), _day)


def _time(value: Any) -> time:
    hours, minutes = v.TEXT.read(value).split(":")
    if not (len(hours) == len(minutes) == 2 and (hours + minutes).isascii() and (hours + minutes).isdigit()):
        raise ValueError
    return time(int(hours), int(minutes))


_TIME = v.Kind('a time of day such as "22:00"', _time)


def _date(value: Any) -> date:
    """TOML has dates of its own; both forms are taken."""
    day = value if type(value) is date else date.fromisoformat(v.TEXT.read(value))
    if day.year not in KNOWN_YEARS or day.isoformat() != str(value):
        raise ValueError
    return day


_DATE = v.Kind('a date such as "2026-12-24"', _date)
_DATE_OR_NONE: v.Kind[date | None] = v.Kind(_DATE.expected, _date)
