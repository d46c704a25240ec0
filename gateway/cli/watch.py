"""A campaign as it goes on: a picture on a terminal (`live`), a line for each change elsewhere, or JSON lines.

Every look asks the daemon afresh (`campaign.get`), so that watching may begin, end and begin again at any time,
and outlives a restart of the daemon.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import click

from gateway.cli.client import Document, GatewayClient, NoDaemonError
from gateway.cli.root import Desk, Exit, InterruptedWatchError
from gateway.cli.text import counts, cursor_moves, differences, duration, safe, say_json
from gateway.model import TERMINAL_CAMPAIGN, TERMINAL_JOB, CampaignState, JobState
from gateway.words import expected_end, moment, state_of, waits_for

_LOOK_EVERY_S = 0.5
_RESTART_TAKES_S = 60.0
"""So long a daemon that went away is waited for."""
_LINE_EVERY_PERCENT = 10

_ENDED = {state.value for state in TERMINAL_CAMPAIGN}
_ENDED_JOB = {state.value for state in TERMINAL_JOB}


class View(Protocol):
    """What one look at the campaign is told, and lines about something else."""

    def show(self, campaign: Document, jobs: list[Document]) -> None: ...

    def say(self, line: str) -> None: ...


def watch_campaign(desk: Desk, campaign_id: str) -> int:
    """Show the campaign until it has ended: 0 if it succeeded, else 1.

    Raises InterruptedWatchError on Ctrl-C, RefusedError where there is no such campaign, NoDaemonError.
    """
    try:
        with open_view(desk) as view:
            campaign, jobs = _follow(desk, campaign_id, view)
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer watching; the daemon goes on. Look again:"
            f" meter-gateway campaign watch {campaign_id}{desk.where}"
        ) from None
    if campaign["state"] == CampaignState.SUCCEEDED:
        return Exit.DONE
    _explain(campaign, jobs)
    return Exit.FAILED


def _follow(desk: Desk, campaign_id: str, view: View) -> tuple[Document, list[Document]]:
    on_screen = cursor_moves() and not desk.as_json
    with contextlib.closing(Looks(desk, view.say if on_screen else None)) as looks:
        while True:
            campaign, jobs = looks.at(campaign_id)
            view.show(campaign, jobs)
            if campaign["state"] in _ENDED:
                return campaign, jobs
            time.sleep(_LOOK_EVERY_S)


class Looks:
    """Asks over one connection as long as it holds, and over a new one after a restart."""

    def __init__(self, desk: Desk, say: Callable[[str], object] | None = None) -> None:
        """`say`: where news of the connection go, so that they do not disturb a picture."""
        self._desk = desk
        self._say = say
        self._client: GatewayClient | None = None
        self._seen_at: float | None = None

    def at(self, campaign_id: str) -> tuple[Document, list[Document]]:
        """The campaign and its jobs. Raises as `ask`."""
        data = self.ask("campaign.get", {"campaign_id": campaign_id})
        return data["campaign"], data["jobs"]

    def ask(self, verb: str, args: Document) -> Document:
        """What a read answers. Raises RefusedError, and NoDaemonError when the daemon stays away."""
        while True:
            try:
                self._client = self._client or self._connected()
                data = self._client.look(verb, args)
                self._seen_at = time.monotonic()
                return data
            except NoDaemonError:
                self.close()
                if (
                    self._desk.gateway
                    or self._seen_at is None
                    or time.monotonic() - self._seen_at > _RESTART_TAKES_S
                ):
                    raise
                time.sleep(_LOOK_EVERY_S)

    def _connected(self) -> GatewayClient:
        client = self._desk.connect()
        if self._say is not None:
            client.tell(self._say)
        return client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _explain(campaign: Document, jobs: list[Document]) -> None:
    """Why it did not succeed, on stderr: code, reason and advice of the campaign and of each meter."""
    click.echo(f"meter-gateway: campaign {safe(campaign['campaign_id'])} ended {campaign['state']}", err=True)
    failed = [job for job in jobs if job["state"] not in (JobState.UPDATED, JobState.SKIPPED)]
    for what, document in [("campaign", campaign), *((job["meter"], job) for job in failed)]:
        if document["code"]:
            click.echo(f"  {safe(what)}: {document['code']}: {safe(document['message'])}", err=True)
            if document.get("detail"):
                click.echo(f"    {safe(document['detail'])}", err=True)
            click.echo(f"    {document['advice']}", err=True)


# -- the three ways to show it --------------------------------------------------------------------------------


@contextlib.contextmanager
def open_view(desk: Desk) -> Iterator[View]:
    """The view that fits: what was asked for, or where the output goes."""
    if desk.as_json:
        yield JsonLines()
    elif cursor_moves():
        from gateway.cli.live import Live

        with contextlib.closing(Live()) as view:
            yield view
    else:
        yield Lines()


class JsonLines:
    """A line for each change, with the campaign and its jobs as the daemon tells them."""

    def __init__(self) -> None:
        self._last: object = None

    def show(self, campaign: Document, jobs: list[Document]) -> None:
        said = (
            campaign["rev"],
            campaign["fetch"],
            [(job["rev"], job["state"], job["blocks_done"]) for job in jobs],
        )
        if said != self._last:
            self._last = said
            say_json({"campaign": campaign, "jobs": jobs})

    def say(self, line: str) -> None:
        """Of the campaign alone."""


class Lines:
    """A line for each change of state, and for every tenth of a transfer."""

    def __init__(self, say: Callable[[str], object] = click.echo) -> None:
        self._say = say
        self._last: dict[str, object] = {}

    def show(self, campaign: Document, jobs: list[Document]) -> None:
        name = f"campaign {campaign['campaign_id']}"
        if campaign["state"] not in _ENDED:
            waits = (campaign["state"], campaign["paused"], campaign["opens_at"], campaign["eta"])
            self._say_once(name, (waits, _fetched(campaign)), f"{name}: {campaign_sentence(campaign)}")
        for job in jobs:
            tenth = percent(job) // _LINE_EVERY_PERCENT if job["state"] == JobState.TRANSFERRING else 0
            told = (job["state"], tenth, job["code"])
            self._say_once(job["meter"], told, f"{job['meter']}: {job_sentence(job)}")
        if campaign["state"] in _ENDED:
            self._say_once(
                name, campaign["state"], f"{name}: {campaign['state']}, {counts(campaign['counts'])}"
            )

    def say(self, line: str) -> None:
        self._say(safe(line))

    def _say_once(self, what: str, told: object, sentence: str) -> None:
        if self._last.get(what) != told:
            self._last[what] = told
            self._say(safe(sentence))


def _fetched(campaign: Document) -> object:
    """What of a fetch deserves a line: every tenth of the image, and an attempt that failed."""
    fetch = campaign["fetch"]
    return fetch and (percent(fetch, "bytes") // _LINE_EVERY_PERCENT, fetch["next_try_at"])


def campaign_sentence(campaign: Document) -> str:
    """Its state in a few words, and what it waits for: `fetching 40 %, 2.1 of 5.2 MiB, 98 KiB/s, 33 s to go`."""
    words = [state_of(campaign)]
    if campaign["paused"]:
        words.append(waits_for(campaign))
    if (fetch := campaign["fetch"]) and campaign["state"] == CampaignState.FETCHING:
        words[0] += f" {percent(fetch, 'bytes')} %" if fetch["bytes_total"] else ""
        words.append(_octets(fetch))
        words += [f"{fetch['bytes_per_s'] / 1024:.0f} KiB/s"] if fetch["bytes_per_s"] else []
        words += _to_go(fetch)
        if fetch["next_try_at"]:
            words.append(
                f"{campaign['code']}: {campaign['message']}, tried again at {moment(fetch['next_try_at'])}"
            )
    if end := expected_end(campaign):
        words.append(f"ends about {end}")
    return ", ".join(filter(None, words))


def _octets(fetch: Document) -> str:
    here, total = fetch["bytes_done"], fetch["bytes_total"]
    unit, octets = ("MiB", 2**20) if (total or here) >= 2**20 else ("KiB", 2**10)
    return f"{here / octets:.1f} {f'of {total / octets:.1f} ' if total else ''}{unit}"


_TOLD = frozenset({JobState.SKIPPED, JobState.WAITING, JobState.AWAITING_ACTIVATION})
"""The message of a job in these states says more than the state."""


def job_sentence(job: Document) -> str:
    """One meter's part in a few words: `transferring 40 %, 410 of 1024 blocks, 812 B/s, 3 min 20 s to go`."""
    words = [str(job["state"])]
    if job["state"] == JobState.TRANSFERRING and job["blocks_total"]:
        words[0] += f" {percent(job)} %"
        words.append(f"{job['blocks_done']} of {job['blocks_total']} blocks")
        words += _speed(job)
    return ", ".join(filter(None, [*words, job_remark(job)]))


def job_remark(job: Document) -> str:
    """What there is to say of one meter besides its state and its blocks: versions, code and reason, what differs."""
    words = []
    if job["state"] == JobState.UPDATED:
        words.append(f"{job['version_before'] or '?'} -> {job['version_after']}")
    if job["code"]:
        words.append(f"{job['code']}: {job['message']}")
    elif job["state"] in _TOLD and job["message"]:
        words.append(str(job["message"]))
    elif differs := differences(job["health"]):
        words.append(differs)
    return ", ".join(words)


def _speed(job: Document) -> list[str]:
    words = []
    if job.get("rate_bps"):
        words.append(f"{job['rate_bps']:.0f} B/s")
    return words + _to_go(job)


def _to_go(document: Document) -> list[str]:
    return [] if document.get("eta_s") is None else [f"{duration(document['eta_s'])} to go"]


def percent(document: Document, what: str = "blocks") -> int:
    """How much of its blocks, or of its bytes, is done."""
    total = document[f"{what}_total"]
    return int(100 * document[f"{what}_done"] / total) if total else 0
