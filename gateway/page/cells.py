"""Small pieces of the page: tables that a phone shows as cards, marks, bars, moments. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from gateway.model import CampaignState, JobState
from gateway.page.markup import Html, el, joined


class Mood(StrEnum):
    """How something stands; a class of the style sheet, and never the only sign."""

    GOOD = "good"
    WORK = "work"
    WAIT = "wait"
    BAD = "bad"
    QUIET = "quiet"


_MOODS = {
    JobState.UPDATED: Mood.GOOD,
    JobState.FAILED: Mood.BAD,
    JobState.UNCERTAIN: Mood.BAD,
    JobState.WAITING: Mood.WAIT,
    JobState.AWAITING_ACTIVATION: Mood.WAIT,
    JobState.QUEUED: Mood.QUIET,
    JobState.SKIPPED: Mood.QUIET,
    JobState.CANCELLED: Mood.QUIET,
    CampaignState.SUCCEEDED: Mood.GOOD,
    CampaignState.PARTIAL: Mood.BAD,
    CampaignState.FAILED: Mood.BAD,
    CampaignState.EXPIRED: Mood.BAD,
    CampaignState.PAUSED: Mood.WAIT,
    CampaignState.CANCELLING: Mood.WAIT,
    CampaignState.CANCELLED: Mood.QUIET,
}
"""Of states of jobs and campaigns; all others are work."""


ATTENTION = (Mood.BAD, Mood.WORK, Mood.WAIT, Mood.GOOD, Mood.QUIET)
"""What is shown first."""


def state_mood(state: str) -> Mood:
    return {str(key): mood for key, mood in _MOODS.items()}.get(state, Mood.WORK)


def mark(text: object, mood: Mood) -> Html:
    """A word that is seen first."""
    return el("span", text, class_=f"mark {mood}")


def quiet(*parts: object) -> Html:
    """What is read second."""
    return el("span", *parts, class_="quiet") if any(parts) else Html("")


def bar(done: float, total: float, label: str) -> Html:
    """How far something is; `label` for who does not see it."""
    percent = int(100 * done / total) if total else 0
    return el("progress", f"{percent} %", max=100, value=percent, aria_label=label)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """The first cell of each row names it. The roles hold where a narrow screen shows rows as cards."""
    columns = [el("th", name, scope="col", role="columnheader") for name in head]
    return el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", *columns, role="row"), role="rowgroup"),
        el("tbody", *(_row(head, row) for row in rows), role="rowgroup"),
        role="table",
    )


def _row(head: Sequence[str], row: Sequence[object]) -> Html:
    first, *others = row
    cells = [
        el("td", cell, role="cell", data_head=name, class_="none" if cell in ("", None) else None)
        for name, cell in zip(head[1:], others, strict=True)
    ]
    return el("tr", el("th", first, scope="row", role="rowheader"), *cells, role="row")


def section(name: str, title: str, *inner: object, note: object = "") -> Html:
    """A part of the page, which the script replaces by itself."""
    return el(
        "section",
        el("h2", title, quiet(note), id=f"{name}-title"),
        *inner,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and what they are."""
    return el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in pairs))


def clock_time(text: str | None, now: datetime, timezone: str) -> Html:
    """A moment of a document in local time: `17:35` today, `Mon 2026-11-23 17:35` on other days."""
    if not text:
        return Html("")
    zone = ZoneInfo(timezone) if timezone else None
    at = datetime.fromisoformat(text).astimezone(zone)
    day = "" if at.date() == now.astimezone(zone).date() else f"{at:%a %Y-%m-%d} "
    return el("time", f"{day}{at:%H:%M}", datetime=text)


def commands(text: str) -> Html:
    """What stands between backquotes is typed by somebody."""
    return joined(*(el("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))))


def lines(*parts: object) -> Html:
    """Each that there is on a line of its own."""
    return joined(*(el("div", part) for part in parts if part))


def advice(document: Mapping[str, Any]) -> Html:
    """What somebody can do about it; nothing where there is nothing to say."""
    return el("span", commands(document["advice"]), class_="advice") if document["advice"] else Html("")


def more(number: int, what: str) -> Html:
    """That so many are left out; nothing where none is."""
    return el("p", f"And {number} more {what}.", class_="quiet") if number > 0 else Html("")
