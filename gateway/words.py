"""How moments, durations and what a campaign waits for are put into words, wherever people read them. Pure.

Of documents and their strings: `gateway.model` takes longer to import than a daemon takes to answer `status`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DECIDED_BY = {
    "operator": "campaign resume",
    "approval": "campaign approve",
    "failures": "campaign retry, or campaign resume",
}
"""What an operator does about a campaign that does not go on by itself, by why it is paused."""


def printable(text: object) -> str:
    """Text from outside with its control characters as Python would write them (invariant 13)."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; what is 0 is left out."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if hours == 0:
        parts = ((minutes, "min"), (whole % 60, "s"))
    elif days == 0:
        parts = ((hours, "h"), (minutes % 60, "min"))
    else:
        parts = ((days, "d"), (hours % 24, "h"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def counts(of: Mapping[str, int]) -> str:
    """`2 updated, 1 failed`."""
    return ", ".join(f"{count} {printable(name)}" for name, count in of.items() if count) or "none"


def moment(text: str, timezone: str | None = None) -> str:
    """An instant to the minute, in this machine's time or that of a zone: `Mon 2026-11-23 22:00 EET`."""
    zone = ZoneInfo(timezone) if timezone else None
    return f"{datetime.fromisoformat(text).astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


# -- campaigns, as the verbs tell them ------------------------------------------------------------------------


def state_of(campaign: Mapping[str, Any]) -> str:
    """`running`, or `paused (window)`."""
    return f"{campaign['state']} ({campaign['paused']})" if campaign["paused"] else str(campaign["state"])


def waits_for(campaign: Mapping[str, Any], timezone: str | None = None) -> str:
    """Why a campaign is not at work, and when or by whom it goes on; empty for one that is, and for one of which
    `counts` says all."""
    message = campaign["message"] if campaign["message"] != counts(campaign["counts"]) else ""
    words = [f"{campaign['code']}: {campaign['message']}" if campaign["code"] else message]
    if campaign["opens_at"]:
        words.append(f"goes on at {moment(campaign['opens_at'], timezone)}")
    if by := decided_by(campaign):
        words.append(f"goes on by: {by}")
    return ", ".join(filter(None, words))


def decided_by(campaign: Mapping[str, Any]) -> str:
    """The command by which an operator lets it go on; empty for one that does so by itself."""
    return DECIDED_BY.get(campaign["paused"], "")


def share_done(jobs: Sequence[Mapping[str, Any]]) -> float:
    """How much of a campaign is done, of 1, by the blocks in its meters; a meter that has ended is done."""
    done = [1.0 if job["finished_at"] else job["blocks_done"] / max(job["blocks_total"], 1) for job in jobs]
    return sum(done) / max(len(done), 1)


def expected_end(campaign: Mapping[str, Any], timezone: str | None = None) -> str:
    """When a campaign is expected to have ended, and whether that is too late; empty where nobody knows."""
    if not campaign["eta"]:
        return ""
    late = f", after its not_after ({moment(campaign['not_after'], timezone)})" if campaign["late"] else ""
    return f"{moment(campaign['eta'], timezone)}{late}"


# -- windows, as `window.list` tells them ---------------------------------------------------------------------


def window_hours(window: Mapping[str, Any]) -> str:
    """`mon tue 22:00 for 5 h, Europe/Helsinki`."""
    days = window["days"]
    on = "every day" if len(days) == len(DAYS) else " ".join(DAYS[day] for day in days)
    return f"{on} {window['start']} for {duration(window['duration_s'])}, {window['timezone']}"


def window_next(window: Mapping[str, Any], *, clock_trusted: bool) -> str:
    """Until when it is open, or when it opens."""
    if window["open"]:
        return f"open until {moment(window['closes_at'], window['timezone'])}"
    if window["opens_at"]:
        return f"opens {moment(window['opens_at'], window['timezone'])}"
    return "never" if clock_trusted else "not known: the clock is not trusted"
