"""When things happen: `window ls` and `window set`, and in words what a campaign waits for."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from gateway.cli.client import Document
from gateway.cli.order_options import given
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import duration, safe, say_json, table
from gateway.model import PausedWhy

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HEAD = ("WINDOW", "WHEN", "NEXT")

_GOES_ON_BY = {
    PausedWhy.OPERATOR: "campaign resume",
    PausedWhy.APPROVAL: "campaign approve",
    PausedWhy.FAILURES: "campaign retry, or campaign resume",
}
"""What an operator does about a campaign that does not go on by itself."""


# -- what waits -----------------------------------------------------------------------------------------------


def state_of(campaign: Document) -> str:
    """`running`, or `paused (window)`."""
    return f"{campaign['state']} ({campaign['paused']})" if campaign["paused"] else str(campaign["state"])


def waits_for(campaign: Document) -> str:
    """Why a campaign is not at work, and when or by whom it goes on; empty for one that is."""
    words = [f"{campaign['code']}: {campaign['message']}" if campaign["code"] else campaign["message"]]
    if campaign["opens_at"]:
        words.append(f"goes on at {moment(campaign['opens_at'])}")
    if campaign["paused"] in _GOES_ON_BY:
        words.append(f"goes on by: {_GOES_ON_BY[campaign['paused']]}")
    return ", ".join(filter(None, words))


def expected_end(campaign: Document) -> str:
    """When a campaign is expected to have ended, and whether that is too late; empty where nobody knows."""
    if not campaign["eta"]:
        return ""
    late = f", after its not_after ({moment(campaign['not_after'])})" if campaign["late"] else ""
    return f"{moment(campaign['eta'])}{late}"


def moment(text: str, timezone: str | None = None) -> str:
    """An instant to the minute, in this machine's time or that of a zone: `Mon 2026-11-23 22:00 EET`."""
    zone = ZoneInfo(timezone) if timezone else None
    return f"{datetime.fromisoformat(text).astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


# -- windows --------------------------------------------------------------------------------------------------


def windows_table(listed: Document) -> str:
    """Each window of `window.list` with its next opening; empty where there is none."""
    unknown = "never" if listed["clock_trusted"] else "not known: the clock is not trusted"
    return table(
        [(one["window"], _hours(one), _next(one) or unknown) for one in listed["windows"]], head=_HEAD
    )


def _hours(window: Document) -> str:
    days = window["days"]
    on = "every day" if len(days) == len(_DAYS) else " ".join(_DAYS[day] for day in days)
    return f"{on} {window['start']} for {duration(window['duration_s'])}, {window['timezone']}"


def _next(window: Document) -> str:
    if window["open"]:
        return f"open until {moment(window['closes_at'], window['timezone'])}"
    if window["opens_at"]:
        return f"opens {moment(window['opens_at'], window['timezone'])}"
    return ""


@click.group()
def window() -> None:
    """Maintenance windows: the hours in which campaigns may work."""


@window.command("ls")
@shared_options
@click.pass_obj
def ls(desk: Desk) -> None:
    """All windows, each with its next opening."""
    with desk.connect() as client:
        data = client.ask("window.list")["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(windows_table(data) or "no windows")


@window.command("set")
@click.argument("name")
@click.option("--start", required=True, metavar="TIME", help="Local time, e.g. 22:00.")
@click.option("--duration", required=True, metavar="DURATION", help="From 1min to 24h, e.g. 5h.")
@click.option(
    "--day", "days", multiple=True, type=click.Choice(_DAYS), help="May be repeated; default: every day."
)
@click.option("--timezone", metavar="ZONE", help="E.g. Europe/Helsinki; default: the gateway's.")
@click.option("--cutoff", metavar="DURATION", help="No meter is begun so long before the end; default: 0s.")
@click.option("--drain", metavar="DURATION", help="Transfers stop so long before the end; default: 2min.")
@click.option("--except", "except_", multiple=True, metavar="DATE", help="A day without it; may be repeated.")
@click.option("--valid-from", metavar="DATE", help="The first day on which it may open.")
@click.option("--valid-until", metavar="DATE", help="The last day on which it may open.")
@shared_options
@click.pass_obj
def set_(desk: Desk, /, name: str, days: tuple[str, ...], except_: tuple[str, ...], **settings: Any) -> None:
    """Keep window NAME in the gateway's state, or replace it; those of the configuration are changed there."""
    lists = {key: list(values) for key, values in (("days", days), ("except", except_)) if values}
    with desk.connect() as client:
        data = client.ask("window.set", {"window": name, **lists, **given(settings)})["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(f"window {safe(data['window'])} is set; see: meter-gateway window ls")
