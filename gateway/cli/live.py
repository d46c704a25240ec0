"""A campaign on a terminal, drawn again in its place: what `campaign watch` shows there.

A picture never has more lines than the terminal, nor a line more columns; what has no room is counted. Nothing of the
terminal is changed (no other screen, no hidden cursor): whoever is killed leaves nothing behind that must be mended.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import click

from gateway.cli.client import Document
from gateway.cli.text import (
    colour_fits,
    counts,
    cut,
    duration,
    padded,
    safe,
    terminal_size,
    unicode_fits,
    width,
    wrapped,
)
from gateway.cli.watch import campaign_sentence, job_remark, job_sentence, percent
from gateway.model import JobState
from gateway.words import share_done

_BAR_LEAST, _BAR_MOST = 8, 30
_SUMMED_UP = 20
"""So many meters have a line of their own in what stays when it is over; of more, those that failed."""

_GOOD = frozenset({JobState.UPDATED, JobState.SKIPPED})
_OVER = frozenset({*_GOOD, JobState.FAILED, JobState.CANCELLED})
_COLOURS = {
    JobState.UPDATED: "green", JobState.FAILED: "red", JobState.UNCERTAIN: "yellow", JobState.WAITING: "yellow",
}  # fmt: skip


class Marks(NamedTuple):
    """What a terminal can show."""

    done: str
    left: str
    colours: bool


def marks() -> Marks:
    """Of the terminal that stdout is."""
    done, left = ("━", "─") if unicode_fits() else ("#", ".")
    return Marks(done, left, colour_fits())


class Screen:
    """Lines that are drawn again in their place."""

    def __init__(self) -> None:
        self._size: os.terminal_size | None = None
        self._drawn: list[str] = []

    def draw(self, lines: list[str], size: os.terminal_size) -> None:
        """Every line is written over the one before, in one write: nothing flickers. After a change of size, when
        nobody knows where the old lines are now, the screen is begun anew."""
        if (lines, size) == (self._drawn, self._size):
            return
        anew = self._drawn and size != self._size
        self._write("\x1b[2J\x1b[H" if anew else self._to_the_top(), lines)
        self._drawn, self._size = lines, size

    def erase(self) -> None:
        if self._drawn:
            self._write(self._to_the_top(), [])
        self._drawn = []

    def _to_the_top(self) -> str:
        return f"\x1b[{len(self._drawn)}A" if self._drawn else ""

    def _write(self, begin: str, lines: Sequence[str]) -> None:
        sys.stdout.write(begin + "".join(f"\r{line}\x1b[K\n" for line in lines) + "\r\x1b[J")
        sys.stdout.flush()


def drawing_size() -> os.terminal_size:
    """Of the terminal; of one that does not say, the usual."""
    return terminal_size() or os.terminal_size((80, 24))


class Live:
    """The view of `open_view` for a terminal. `close` leaves a summary in its place."""

    def __init__(self) -> None:
        self._marks = marks()
        self._screen = Screen()
        self._shown: tuple[Document, list[Document]] | None = None

    def show(self, campaign: Document, jobs: list[Document]) -> None:
        self._shown = campaign, jobs
        size = drawing_size()
        self._screen.draw(picture(campaign, jobs, size, self._marks), size)

    def say(self, line: str) -> None:
        """A line that stays; the picture goes on beneath it."""
        self._screen.erase()
        click.echo(safe(line))

    def close(self) -> None:
        self._screen.erase()
        if self._shown:
            click.echo("\n".join(map(safe, summary(*self._shown))))


def summary(campaign: Document, jobs: list[Document]) -> list[str]:
    """What stays in the scroll-back."""
    all_told = campaign["finished_at"] and len(jobs) <= _SUMMED_UP
    told = jobs if all_told else [job for job in jobs if _rank(job) < 2][:_SUMMED_UP]
    lines = [f"{job['meter']}: {job_sentence(job)}" for job in told]
    head = str(campaign["state"]) if campaign["finished_at"] else campaign_sentence(campaign)
    return [*lines, f"campaign {campaign['campaign_id']}: {head}, {counts(campaign['counts'])}"]


# -- a picture ------------------------------------------------------------------------------------------------


def picture(campaign: Document, jobs: Sequence[Document], size: os.terminal_size, shown: Marks) -> list[str]:
    """The campaign and its meters, in less than the lines and columns of `size`. Where not all meters have room: those
    at work first, then those that failed, and one line for all others."""
    columns, room = max(size.columns - 1, 8), max(size.lines - 1, 3)
    lines = _head(campaign, jobs, columns, most=max(1, room - 2) if room < 8 else 3, shown=shown)
    if room >= 12:
        lines.append("")
    room -= len(lines)
    if len(jobs) <= room:
        return lines + _meters(jobs, columns, shown)
    ranked = sorted(jobs, key=_rank)
    first, rest = ranked[: max(0, room - 1)], ranked[max(0, room - 1) :]
    more = f"{'and ' if first else ''}{len(rest)} more: {counts(Counter(job['state'] for job in rest))}"
    return [*lines, *_meters(first, columns, shown), cut(more, columns)]


def _rank(job: Document) -> int:
    if job["state"] == JobState.FAILED:
        return 1
    return 2 if job["state"] in _OVER or job["state"] == JobState.QUEUED else 0


def _head(
    campaign: Document, jobs: Sequence[Document], columns: int, *, most: int, shown: Marks
) -> list[str]:
    """Its state and what it waits for, in at most so many lines; and a bar over all meters, or over the fetch."""
    words = wrapped(safe(f"{campaign['campaign_id']}: {campaign_sentence(campaign)}"), columns)
    if len(words) > most:
        words = [*words[: most - 1], cut(" ".join(words[most - 1 :]), columns)]
    fetch = campaign["fetch"]
    if fetch and fetch["bytes_total"]:
        share, told = fetch["bytes_done"] / fetch["bytes_total"], "of the image"
    else:
        share, told = share_done(jobs), counts(campaign["counts"])
    line = bar(share, min(_BAR_MOST, columns // 3), shown)
    return [*words, cut(f"{line} {int(100 * share):3d} %  {told}".lstrip(), columns)]


def _meters(jobs: Sequence[Document], columns: int, shown: Marks) -> list[str]:
    """A line each: meter, state, and what there is to say of it."""
    if not jobs:
        return []
    name_columns = min(max(width(job["meter"]) for job in jobs), max(8, columns // 4))
    state_columns = min(max(len(job["state"]) for job in jobs), max(8, columns // 4))
    room = columns - name_columns - state_columns - 4
    lines = []
    for job in jobs:
        state = padded(cut(job["state"], state_columns), state_columns)
        colour = _COLOURS.get(job["state"]) if shown.colours else None
        name = padded(cut(safe(job["meter"]), name_columns), name_columns)
        doing = _doing(job, room, shown)
        lines.append(f"{name}  {click.style(state, fg=colour) if colour else state}  {doing}".rstrip())
    return lines


def _doing(job: Document, room: int, shown: Marks) -> str:
    """Bar, percent, pace and rest of a transfer, as much of it as there is room for; of other states what is to say."""
    if job["state"] != JobState.TRANSFERRING or not job["blocks_total"]:
        return cut(safe(job_remark(job)), room)
    share = f"{percent(job):3d} %"
    pace = f"{job['rate_bps']:.0f} B/s" if job.get("rate_bps") else ""
    rest = "" if job.get("eta_s") is None else duration(job["eta_s"])
    for figures, taken in ((f"{share}  {pace:>10}  {rest}", 30), (f"{share}  {rest}", 18), (share, 5)):
        if line := bar(job["blocks_done"] / job["blocks_total"], min(_BAR_MOST, room - taken - 1), shown):
            return f"{line} {figures}"
    return cut(share.lstrip(), room)


def bar(share: float, length: int, shown: Marks) -> str:
    """Empty where it would be too short to tell anything."""
    if length < _BAR_LEAST:
        return ""
    done = int(length * min(max(share, 0.0), 1.0))
    return shown.done * done + shown.left * (length - done)
