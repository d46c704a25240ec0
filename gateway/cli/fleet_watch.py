"""One campaign at many gateways, watched as one, and its one report: from the snapshots that gateways retain at the
broker, so that whoever watches asks nobody for anything.

Of ten thousand meters the broker's last word on each is kept as it came, and read once, for the report.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import click

from gateway.cli.broker_client import OFFLINE_PATIENCE_S, campaign_of, job_topics, jobs_of
from gateway.cli.client import Document
from gateway.cli.fleet import Fleet, Outcome, advice
from gateway.cli.live import Screen, bar, drawing_size, marks
from gateway.cli.report import csv_text, report_document
from gateway.cli.root import Desk, Exit, InterruptedWatchError
from gateway.cli.text import counts, cursor_moves, cut, folded, remark, safe, say_json, table
from gateway.cli.watch import campaign_sentence
from gateway.model import TERMINAL_CAMPAIGN, CampaignState, JobState
from gateway.words import waits_for

_LOOK_EVERY_S = 0.5
_LINE_EVERY_PERCENT = 10
_FAILURES_TOLD = 100
"""Meters, one by one; of more there are CSV and JSON."""
_ENDED = {state.value for state in TERMINAL_CAMPAIGN}
_OVER = (JobState.UPDATED, JobState.SKIPPED, JobState.FAILED, JobState.CANCELLED)
_GOOD = (JobState.UPDATED, JobState.SKIPPED)


def watch_all(desk: Desk, campaign_id: str) -> int:
    """Show the campaign at all gateways that have it until it has ended everywhere: 0 if it succeeded everywhere."""
    with Fleet(desk) as fleet:
        return watch(fleet, campaign_id, [])


def watch(fleet: Fleet, campaign_id: str, outcomes: Sequence[Outcome]) -> int:
    """`outcomes`: of the order, where it was given just now. Raises InterruptedWatchError."""
    desk = fleet.desk
    try:
        together = Together(fleet, campaign_id, outcomes)
        view = _open_view(desk)
        fleet.head_end.say = view.say
        while True:
            view.show(together)
            if together.over:
                break
            together.look(_LOOK_EVERY_S)
        view.close()
        return _report(together, desk)
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer watching; the gateways go on. Look again:"
            f" meter-gateway campaign watch {campaign_id}{desk.where}"
        ) from None


def report_of_all(desk: Desk, campaign_id: str, *, as_csv: bool = False) -> int:
    """What became of each meter, as far as it is told: 0 where the campaign succeeded everywhere."""
    with Fleet(desk) as fleet:
        return _report(Together(fleet, campaign_id, []), desk, as_csv=as_csv)


# -- what is known --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Part:
    """The campaign at one gateway."""

    gateway: str
    refused: Outcome | None = None
    """The order was given just now, and did not get there."""
    expected: bool = False
    """It was given just now, and its first snapshot may still be on the way."""
    campaign: Document | None = None
    online: bool = False

    @property
    def over(self) -> bool:
        """Nothing more is to come."""
        if self.campaign is not None:
            return self.campaign["state"] in _ENDED
        return not self.expected

    @property
    def has_nothing_to_do(self) -> bool:
        return self.refused is not None and self.refused.good

    @property
    def succeeded(self) -> bool:
        succeeded = self.campaign is not None and self.campaign["state"] == CampaignState.SUCCEEDED
        return succeeded or self.has_nothing_to_do

    @property
    def failed_meters(self) -> int:
        of = self.campaign["counts"] if self.campaign else {}
        return int(of.get(JobState.FAILED, 0))

    def sentence(self) -> str:
        """How it stands, in a few words."""
        words = "" if self.online else "offline, when last told: "
        if self.campaign is not None:
            of = counts(self.campaign["counts"])
            state = self.campaign["state"] if self.over else campaign_sentence(self.campaign)
            return f"{words if not self.over else ''}{state}, {of}"
        if self.refused is not None:
            return f"{self.refused.status}: {self.refused.code or self.refused.message}"
        return "waits for the gateway" if self.expected else "has no such campaign"


class Together:
    """The campaign at all gateways of a fleet, as they told it last."""

    def __init__(self, fleet: Fleet, campaign_id: str, outcomes: Sequence[Outcome]) -> None:
        self.campaign_id = campaign_id
        self.fleet = fleet
        self._topic = f"campaign/{campaign_id}"
        self._with_jobs: set[str] = set()
        self._told: dict[str, str] = {}
        self._all_offline_since_s: float | None = None
        self.given_up = False
        """Those that are still to come are all offline, and have been for long."""
        self.ordered_now = bool(outcomes)
        known = {one.gateway: one for one in outcomes}
        fleet.head_end.hear_each([(gateway, self._topic) for gateway in fleet.gateways])
        self._parts = {name: self._part(name, known.get(name)) for name in fleet.gateways}
        self.look(0.0)

    def _part(self, gateway: str, outcome: Outcome | None) -> Part:
        if outcome is None:
            return Part(gateway)
        return Part(gateway, expected=True) if outcome.at_work else Part(gateway, refused=outcome)

    @property
    def parts(self) -> list[Part]:
        """Of gateways that were found by a pattern only those that have the campaign."""
        return [
            part
            for part in self._parts.values()
            if part.campaign or part.expected or part.refused or part.gateway in self.fleet.named
        ]

    @property
    def over(self) -> bool:
        return self.given_up or all(part.over for part in self._parts.values())

    @property
    def succeeded(self) -> bool:
        parts = self.parts
        return all(part.succeeded for part in parts) and any(part.campaign for part in parts)

    @property
    def counts(self) -> Counter[str]:
        """Meters by state, over all gateways."""
        return sum((Counter(part.campaign["counts"]) for part in self.parts if part.campaign), Counter[str]())

    def look(self, timeout_s: float) -> None:
        """Take what comes for so long."""
        head_end = self.fleet.head_end
        head_end.wait(lambda: False, timeout_s)
        for gateway, topic in head_end.changed:
            if topic == self._topic and gateway in self._parts:
                told = campaign_of(head_end, gateway, self.campaign_id)
                self._parts[gateway].campaign = told or self._parts[gateway].campaign
        head_end.changed.clear()
        for part in self._parts.values():
            part.online = self.fleet.online(part.gateway)
            if part.failed_meters and part.gateway not in self._with_jobs:
                self._with_jobs.add(part.gateway)
                head_end.hear(part.gateway, f"{self._topic}/job/+")
        self._be_patient()

    def failures(self, part: Part) -> list[Document]:
        """Its meters that failed, as far as they are told."""
        if not part.failed_meters:
            return []
        return [job for job in self._jobs(part) if job["state"] == JobState.FAILED]

    def reports(self) -> Iterator[tuple[Part, Document | None]]:
        """Of each gateway, with all its meters; None: it has no campaign."""
        head_end = self.fleet.head_end
        topics = [
            (part.gateway, topic)
            for part in self.parts
            for topic in (job_topics(part.campaign) if part.campaign else ())
        ]
        head_end.hear_each([topic for topic in topics if topic not in head_end.told])
        for part in self.parts:
            yield part, report_document(part.campaign, self._jobs(part)) if part.campaign else None

    def _jobs(self, part: Part) -> list[Document]:
        return jobs_of(self.fleet.head_end, part.gateway, part.campaign)

    def _be_patient(self) -> None:
        waited_for = [part for part in self._parts.values() if not part.over]
        if not waited_for or any(part.online for part in waited_for) or not self.fleet.head_end.up:
            self._all_offline_since_s = None
            return
        self._all_offline_since_s = self._all_offline_since_s or time.monotonic()
        self.given_up = time.monotonic() - self._all_offline_since_s > OFFLINE_PATIENCE_S


# -- while it goes on -----------------------------------------------------------------------------------------


class _View(Protocol):
    def show(self, together: Together) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


def _open_view(desk: Desk) -> _View:
    if desk.as_json:
        return _JsonLines()
    return _Picture() if cursor_moves() else _Lines()


class _JsonLines:
    """A line for each change of a gateway's part."""

    def __init__(self) -> None:
        self._told: dict[str, object] = {}

    def show(self, together: Together) -> None:
        for part in together.parts:
            now = (part.online, part.campaign and part.campaign["rev"])
            if self._told.get(part.gateway) != now:
                self._told[part.gateway] = now
                say_json({"gateway": part.gateway, "online": part.online, "campaign": part.campaign})

    def say(self, text: str) -> None:
        remark(text)

    def close(self) -> None:
        pass


class _Lines:
    """A line for each change of a gateway's state and for every tenth of its meters, and for meters that failed."""

    def __init__(self) -> None:
        self._told: dict[str, object] = {}
        self._failed: set[tuple[str, str]] = set()

    def show(self, together: Together) -> None:
        for part in together.parts:
            now = _deserves_a_line(part)
            if self._told.get(part.gateway) != now:
                self._told[part.gateway] = now
                click.echo(f"{safe(part.gateway)}: {safe(part.sentence())}")
            for job in together.failures(part) if len(self._failed) < _FAILURES_TOLD else ():
                name = (part.gateway, job["meter"])
                if name not in self._failed:
                    self._failed.add(name)
                    click.echo(f"{' '.join(map(safe, name))}: {job['code']}: {safe(job['message'])}")

    def say(self, text: str) -> None:
        remark(text)

    def close(self) -> None:
        click.echo()


class _Picture:
    """On a terminal, drawn again in its place: a bar over all meters, and a line for each gateway that there is room
    for, those that are at work first."""

    def __init__(self) -> None:
        self._screen = Screen()
        self._marks = marks()

    def show(self, together: Together) -> None:
        size = drawing_size()
        columns, room = max(size.columns - 1, 8), max(size.lines - 4, 1)
        parts = sorted(together.parts, key=lambda part: (part.over, not part.failed_meters, part.online))
        share = sum(map(_share, parts)) / max(1, len(parts))
        head = (
            f"{together.campaign_id}: {sum(part.over for part in parts)} of {len(parts)} gateways have ended"
        )
        bar_ = bar(share, columns // 3, self._marks)
        lines = [
            cut(safe(head), columns),
            cut(f"{bar_} {int(100 * share):3d} %  {counts(together.counts)}", columns),
        ]
        lines += [cut(safe(f"{part.gateway}: {part.sentence()}"), columns) for part in parts[:room]]
        if len(parts) > room:
            lines.append(f"and {len(parts) - room} gateways more")
        self._screen.draw(lines, size)

    def say(self, text: str) -> None:
        self._screen.erase()
        remark(text)

    def close(self) -> None:
        self._screen.erase()


def _share(part: Part) -> float:
    """How many of its meters are done, of 1."""
    if part.campaign is None:
        return float(part.over)
    of = part.campaign["counts"]
    return float(sum(of.get(state, 0) for state in _OVER) / max(1, sum(of.values())))


def _deserves_a_line(part: Part) -> object:
    if part.campaign is None:
        return part.sentence()
    tenth = int(100 * _share(part)) // _LINE_EVERY_PERCENT
    return part.online or part.over, part.campaign["state"], part.campaign["paused"], tenth


# -- the report -----------------------------------------------------------------------------------------------

_HEAD = ("GATEWAY", "", "CAMPAIGN", "METERS", "ENDED", "")


def _report(together: Together, desk: Desk, *, as_csv: bool = False) -> int:
    """Says it; 0 where the campaign succeeded at all gateways."""
    told = list(together.reports())
    if desk.as_json:
        say_json(_document(together, told))
    elif as_csv:
        have = [(part.gateway, document) for part, document in told if document]
        click.echo(csv_text([one for _, one in have], gateways=[name for name, _ in have]), nl=False)
    else:
        click.echo("\n".join(_page(together, told)))
    return Exit.DONE if together.succeeded else Exit.FAILED


def _document(together: Together, told: Sequence[tuple[Part, Document | None]]) -> Document:
    return {
        "campaign_id": together.campaign_id,
        "succeeded": together.succeeded,
        "totals": {"gateways": len(told), "meters": sum(together.counts.values()), "counts": together.counts},
        "gateways": [
            {
                "gateway": part.gateway,
                "online": part.online,
                "succeeded": part.succeeded,
                "refused": part.refused and part.refused.document(),
                "report": document,
            }
            for part, document in told
        ],
    }


def _page(together: Together, told: Sequence[tuple[Part, Document | None]]) -> Iterator[str]:
    ended = sum(part.over for part, _ in told)
    of = f"{sum(part.succeeded for part, _ in told)} succeeded" + (
        f", {len(told) - ended} go on" if ended < len(told) else ""
    )
    yield from folded(
        f"Campaign {together.campaign_id} at {len(told)} gateways ({of}): {counts(together.counts)}"
    )
    if not told:
        yield "no gateway tells of such a campaign"
        return
    yield ""
    yield table([_row(part) for part, _ in told], head=_HEAD)
    failed = [
        (part.gateway, meter)
        for part, document in told
        for meter in (document["meters"] if document else ())
        if meter["code"] and meter["state"] not in _GOOD
    ]
    if failed:
        yield ""
        rows = [
            (gateway, meter["meter"], meter["state"], meter["code"], meter["message"])
            for gateway, meter in failed[:_FAILURES_TOLD]
        ]
        yield table(rows, head=("GATEWAY", "METER", "", "CODE", ""))
    if len(failed) > _FAILURES_TOLD:
        yield f"and {len(failed) - _FAILURES_TOLD} more: campaign report {together.campaign_id} --csv"
    told_advice = [(meter["code"], meter["advice"]) for _, meter in failed]
    told_advice += [(part.refused.code, part.refused.advice) for part, _ in told if part.refused]
    if lines := list(advice(told_advice)):
        yield from ("", *lines)


def _row(part: Part) -> tuple[str, ...]:
    online = "online" if part.online else "offline"
    if part.campaign is None:
        refused = part.refused
        why = (f"{refused.code}: {refused.message}" if refused.code else refused.message) if refused else ""
        return part.gateway, online, refused.status if refused else part.sentence(), "", "", why
    one = part.campaign
    ended = str(one["finished_at"] or "")[:19]
    return part.gateway, online, str(one["state"]), counts(one["counts"]), ended, waits_for(one)
