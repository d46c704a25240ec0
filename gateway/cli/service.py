"""The daemon itself: `run` and `check`; and one meter: `probe`, the look at it, and `counter adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.completion import METERS
from gateway.cli.groups import Group
from gateway.cli.root import Desk, local_options, shared_options
from gateway.cli.text import say_json, table


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Log every step of every port.")
@local_options
@click.pass_obj
def run(desk: Desk, /, verbose: bool) -> int:
    """Run the daemon in the foreground until SIGTERM."""
    from gateway.daemon import process

    return process.run(desk.config, verbose=verbose)


@click.command()
@local_options
@click.pass_obj
def check(desk: Desk) -> None:
    """Read the configuration and name every mistake in it; nothing is opened."""
    from gateway import config

    read = config.load(desk.config)
    paths = [port.device for port in read.ports if port.device.startswith("/")]
    missing = [path for path in paths if not Path(path).exists()]
    elsewhere = sorted(read.keys.keys() - {meter.id for meter in read.meters})
    if desk.as_json:
        say_json(
            {
                "ports": len(read.ports),
                "meters": len(read.meters),
                "devices_missing": missing,
                "keys_without_meter": elsewhere,
            }
        )
        return
    click.echo(f"the configuration is good: {len(read.ports)} ports, {len(read.meters)} meters")
    for device in missing:
        click.echo(f"  {device} is not there now")
    for device in (path for path in paths if path not in missing and not Path(path).is_char_device()):
        click.echo(f"  {device} is no serial device")
    for name in elsewhere:
        click.echo(
            f"  keys.toml has keys for {name}: no meter here, but one may be put by command (meters put)"
        )


# -- probe ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("meter", shell_complete=METERS)
@shared_options
@click.pass_obj
def probe(desk: Desk, /, meter: str) -> None:
    """Read all seven attributes of METER's Image Transfer object, its name and its firmware version."""
    with desk.connect() as client:
        data = client.await_done("meter.probe", {"meter": meter})["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(table([(name.replace("_", " "), _value(value)) for name, value in data.items()]))


def _value(value: Any) -> str:
    match value:
        case {"error": message}:
            return f"refused: {message}"
        case {"name": name, "value": number}:
            return f"{number} ({name.replace('_', ' ')})"
        case {"blocks": blocks, "transferred": transferred}:
            return f"{transferred} of {blocks} blocks"
        case dict():
            return ", ".join(f"{name} {inner}" for name, inner in value.items())
        case []:
            return "nothing"
        case list():
            return "; ".join(_value(entry) for entry in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


# -- counter --------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def counter() -> None:
    """Invocation counters of meters."""


@counter.command("adopt")
@click.argument("meter", shell_complete=METERS)
@click.argument("value", type=click.IntRange(min=0))
@shared_options
@click.pass_obj
def adopt(desk: Desk, /, meter: str, value: int) -> None:
    """Go on at invocation counter VALUE with METER, after a look at the meter; and serve it again if it is parked.

    Never lower than what the gateway has used: a counter that comes twice breaks the key."""
    with desk.connect() as client:
        data = client.ask("counter.adopt", {"meter": meter, "counter": value})["data"]
    if desk.as_json:
        say_json(data)
    else:
        before = "none was known" if data["before"] is None else f"it was {data['before']}"
        click.echo(f"{data['meter']}: the next counter is {data['counter']}, {before}")
