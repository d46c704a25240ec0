"""The state as a whole: `state export`, `state import`, `state adopt`. They work on the files, without a daemon."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.cli.client import Document
from gateway.cli.groups import Group
from gateway.cli.root import Desk, local_options
from gateway.cli.text import say_json
from gateway.model import Config


@click.group(cls=Group)
def state() -> None:
    """Carry the state to another machine, or take over one that was copied (docs/recovery.md)."""


@state.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@local_options
@click.pass_obj
def export(desk: Desk, /, file: Path) -> None:
    """Write campaigns with their jobs, counters, the audit, what is parked, held and set, and the images that are
    still needed to FILE. No keys, no passwords. The daemon may run."""
    from gateway.cli import state_file

    found = state_file.write(_config(desk), file)
    if desk.as_json:
        say_json(found)
        return
    click.echo(f"exported to {file}: {_words(found)}")
    _say_missing(found)


@state.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@local_options
@click.pass_obj
def import_(desk: Desk, /, file: Path) -> None:
    """Go on with the state in FILE, on this machine. The daemon must not run, and the gateway that FILE is from must
    not run again: all invocation counters are raised, and it would not know."""
    from gateway.cli import state_file

    found = state_file.read(_config(desk), file)
    if desk.as_json:
        say_json(found)
        return
    click.echo(f"imported from {file}: {_words(found)}")
    _say_missing(found)
    if found["set_aside"]:
        click.echo(f"  the state that was here is now {found['set_aside']}")
    click.echo("  now put keys.toml in place and start the service")


@state.command("adopt")
@local_options
@click.pass_obj
def adopt(desk: Desk, /) -> None:
    """Let this machine go on with a state that was made on another. The daemon must not run, and the other machine
    must not run again: all invocation counters are raised, and it would not know."""
    from gateway.cli import state_file

    found = state_file.adopt(_config(desk), who=f"uid {os.getuid()}")
    if desk.as_json:
        say_json(found)
        return
    click.echo(
        f"the state belongs to this machine: {found['counters']} counters were raised by {found['step']}"
    )


def _config(desk: Desk) -> Config:
    from gateway import config

    return config.load(desk.config)


def _words(found: Document) -> str:
    kinds = ("campaigns", "jobs", "counters", "floors", "events", "parked", "holds", "windows")
    return ", ".join(f"{found[kind]} {kind}" for kind in kinds)


def _say_missing(found: Document) -> None:
    for sha256 in found["images_missing"]:
        click.echo(
            f"  without the image {sha256}, which is fetched again, or added: meter-gateway image add FILE"
        )
