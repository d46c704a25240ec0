"""When things happen: `window ls` and `window set`."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.client import Document
from gateway.cli.completion import WINDOWS
from gateway.cli.groups import Group
from gateway.cli.order_options import given
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import safe, say_json, table
from gateway.words import DAYS, window_hours, window_next

_HEAD = ("WINDOW", "WHEN", "NEXT")


def windows_table(listed: Document) -> str:
    """Each window of `window.list` with its next opening; empty where there is none."""
    trusted = listed["clock_trusted"]
    return table(
        [
            (one["window"], window_hours(one), window_next(one, clock_trusted=trusted))
            for one in listed["windows"]
        ],
        head=_HEAD,
    )


@click.group(cls=Group)
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
@click.argument("name", shell_complete=WINDOWS)
@click.option("--start", required=True, metavar="TIME", help="Local time, e.g. 22:00.")
@click.option("--duration", required=True, metavar="DURATION", help="From 1min to 24h, e.g. 5h.")
@click.option(
    "--day", "days", multiple=True, type=click.Choice(DAYS), help="May be repeated; default: every day."
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
        click.echo(f"window {safe(data['window'])} is set; see: meter-gateway window ls{desk.where}")
