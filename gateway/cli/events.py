"""`events`: what happened at the gateway, and who asked for it, from its audit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click

from gateway.cli.client import Document, time_text
from gateway.cli.root import Desk, InterruptedWatchError, shared_options
from gateway.cli.text import say_json
from gateway.cli.watch import Looks

_LOOK_EVERY_S = 0.5
_SHOWN = 20
_PAGE = 1000
_GAPS = {
    "forgotten": "what came before is older than events are kept",
    "epoch": "the gateway's state was made anew, carried over or adopted: its audit follows from its beginning",
}
"""By what `event.list` says was missed."""


def _since(_ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    """A duration before now, or an instant."""
    if text is None:
        return None
    from gateway.config.values import read_duration_s

    with contextlib.suppress(ValueError):
        return datetime.now(UTC) - timedelta(seconds=read_duration_s(text))
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone(UTC)
    raise click.BadParameter(f"{text!r}: expected a duration such as 2h, or a time such as 2026-11-22T20:00")


@click.command()
@click.option("-n", "--last", type=click.IntRange(0), metavar="NUMBER", help="So many of the newest.")
@click.option(
    "--since", metavar="TIME", callback=_since, help="All since then: 2h ago as 2h, or 2026-11-22T20:00."
)
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@shared_options
@click.pass_obj
def events(desk: Desk, /, last: int | None, since: datetime | None, follow: bool) -> None:
    """The audit: what happened at the gateway and who asked for it, oldest first; the 20 newest, if nothing else is
    said. It is kept for 90 days; a line on stderr tells where some of it is missing."""
    if last is not None and since is not None:
        raise click.UsageError("either --last or --since")
    with contextlib.closing(Looks(desk)) as looks:
        trail = _Trail(looks, since, _SHOWN if last is None else last)
        if desk.as_json and not follow:
            say_json(_whole(trail))
            return
        try:
            while True:
                for page in trail.pages():
                    _show(page, as_json=desk.as_json)
                if not follow:
                    return
                time.sleep(desk.ask_every_s(_LOOK_EVERY_S))
        except KeyboardInterrupt:
            raise InterruptedWatchError("no longer following; the daemon goes on") from None


class _Trail:
    """Where in the audit we are."""

    def __init__(self, looks: Looks, since: datetime | None, last: int) -> None:
        self._looks = looks
        self._next: Document = {"since": time_text(since)} if since else self._tail(last)

    def _tail(self, last: int) -> Document:
        page = self._looks.ask("event.list", {"limit": 1})
        return {"epoch": page["epoch"], "after": max(0, page["first"] - 1, page["last"] - last)}

    def pages(self) -> Iterator[Document]:
        """What is new since the last time, or was missed; at least one page, which may be empty."""
        while True:
            page = self._looks.ask("event.list", {**self._next, "limit": _PAGE})
            self._next = {"epoch": page["epoch"], "after": page["next"]}
            yield page
            if not page["more"]:
                return


def _whole(trail: _Trail) -> Document:
    pages = list(trail.pages())
    missed = next((page["missed"] for page in pages if page["missed"]), None)
    return {
        "epoch": pages[-1]["epoch"],
        "missed": missed,
        "events": [event for page in pages for event in page["events"]],
    }


def _show(page: Document, *, as_json: bool) -> None:
    from gateway.store.documents import event_line

    if page["missed"]:
        gap = {"missed": page["missed"], "epoch": page["epoch"], "first": page["first"]}
        if as_json:
            say_json(gap)
        else:
            click.echo(f"meter-gateway: events are missing here: {_GAPS[page['missed']]}", err=True)
    for event in page["events"]:
        if as_json:
            say_json(event)
        else:
            when = datetime.fromisoformat(event["ts"]).astimezone()
            click.echo(f"{when:%Y-%m-%d %H:%M:%S}  {event_line(event)}")
