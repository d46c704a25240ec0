"""Lines: `port hold` and `port release`."""

from __future__ import annotations

import click

from gateway.cli.root import Desk, shared_options
from gateway.cli.text import safe, say_json


@click.group()
def port() -> None:
    """Lend a line to another tool, and take it back."""


@port.command("hold")
@click.argument("name")
@click.option("--for", "for_", required=True, metavar="DURATION", help="From 1s to 24h, as in 10min.")
@shared_options
@click.pass_obj
def hold(desk: Desk, /, name: str, for_: str) -> None:
    """Lend line NAME to another tool; the command ends when the gateway has closed the device.

    Its jobs wait and do not fail. Afterwards they go on where the meters are."""
    with desk.connect() as client:
        data = client.await_done("port.hold", {"port": name, "for": for_})["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(
            f"port {safe(name)} is free until {data['until']}; sooner: meter-gateway port release {safe(name)}"
        )


@port.command("release")
@click.argument("name")
@shared_options
@click.pass_obj
def release(desk: Desk, /, name: str) -> None:
    """Give line NAME back to the gateway."""
    with desk.connect() as client:
        data = client.ask("port.release", {"port": name})["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(f"port {safe(name)} " + ("is the gateway's again" if data["until"] else "was not lent"))
