"""`support-bundle`: one file for whoever is asked for help."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.cli.root import Desk, local_options
from gateway.cli.text import say_json, table


@click.command("support-bundle")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to, a name that is not taken; by itself meter-gateway-support-TIME.tar.gz here.",
)
@local_options
@click.pass_obj
def support_bundle(desk: Desk, /, output: Path | None) -> None:
    """Write what a developer needs to find out what is wrong into one file: versions, configuration, what the daemon
    says, a look at its state, its journal. No keys, no passwords, no credentials or queries of URLs.

    It works without a daemon and with a configuration that is broken; what cannot be had is named. As root it has
    all of it.
    """
    from gateway.cli import support_bundle

    file = output or Path(f"meter-gateway-support-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    try:
        found = support_bundle.write(desk, file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    if desk.as_json:
        say_json(found)
        return
    click.echo(table([(one["name"], one["bytes"], one["about"]) for one in found["contents"]]))
    if found["left_out"]:
        rows = [(one["name"], one["why"]) for one in found["left_out"]]
        click.echo("\n" + table(rows, head=("LEFT OUT", "")))
    click.echo(
        f"\n{file}, {found['bytes']} bytes. It names meters, machines and who gave orders: look at it before it"
    )
    click.echo(
        "is handed on. Keys, passwords, private keys and what stands behind the ? of URLs are not in it."
    )
