"""The daemon itself: `run`, `check`, `status`; and one meter: `probe`, the look at it, and `counter adopt`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from gateway.cli.client import Document
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import counts, say_json, table
from gateway.cli.windows import windows_table
from gateway.model import TERMINAL_CAMPAIGN
from gateway.words import state_of, waits_for

_ENDED = {state.value for state in TERMINAL_CAMPAIGN}


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Log every step of every port.")
@shared_options
@click.pass_obj
def run(desk: Desk, /, verbose: bool) -> int:
    """Run the daemon in the foreground until SIGTERM."""
    from gateway.daemon import process

    return process.run(desk.config, verbose=verbose)


@click.command()
@shared_options
@click.pass_obj
def check(desk: Desk) -> None:
    """Read the configuration and name every mistake in it; nothing is opened."""
    from gateway import config

    read = config.load(desk.config)
    paths = [port.device for port in read.ports if port.device.startswith("/")]
    missing = [path for path in paths if not Path(path).exists()]
    if desk.as_json:
        say_json({"ports": len(read.ports), "meters": len(read.meters), "devices_missing": missing})
        return
    click.echo(f"the configuration is good: {len(read.ports)} ports, {len(read.meters)} meters")
    for device in missing:
        click.echo(f"  {device} is not there now")
    for device in (path for path in paths if path not in missing and not Path(path).is_char_device()):
        click.echo(f"  {device} is no serial device")


# -- status ---------------------------------------------------------------------------------------------------


@click.command()
@shared_options
@click.pass_obj
def status(desk: Desk) -> None:
    """Gateway, broker, clock, ports, meters, campaigns and alarms on one screen."""
    with desk.connect() as client:
        looks = {
            verb: client.ask(verb)["data"]
            for verb in ("info.get", "port.list", "meter.list", "campaign.list", "window.list")
        }
    info, meters = looks["info.get"], looks["meter.list"]["meters"]
    ports, campaigns = looks["port.list"]["ports"], looks["campaign.list"]["campaigns"]
    windows = looks["window.list"]
    if desk.as_json:
        say_json({"info": info, "ports": ports, "meters": meters, "campaigns": campaigns, **windows})
        return
    now = info["now"]
    facts = [
        ("gateway", f"{info['gateway'] or '(no id)'}, version {info['version']}"),
        ("broker", _broker(now["uplink"])),
        ("clock", _clock(now["clock"])),
        *([("firmware", info["firmware"]["note"])] if info["firmware"]["note"] else []),
        ("meters", counts(Counter(meter["state"] or "idle" for meter in meters))),
        ("campaigns", counts(Counter(one["state"] for one in campaigns))),
    ]
    open_ones = [one for one in campaigns if one["state"] not in _ENDED]
    sections = [
        table(facts),
        table([_port(port) for port in ports], head=("PORT", "KIND", "WHERE", "METERS", "BUSY", "TROUBLE")),
        table([_campaign(one) for one in open_ones], head=("CAMPAIGN", "STATE", "METERS", "")),
        windows_table(windows),
        _parked(meters),
        table([(name, alarm["message"]) for name, alarm in now["alarms"].items()], head=("ALARM", ""))
        or "no alarms",
    ]
    click.echo("\n\n".join(filter(None, sections)))


def _broker(uplink: Document | None) -> str:
    if uplink is None:
        return "none configured, or not tried yet"
    if uplink["online"]:
        return f"connected since {uplink['since']}"
    return f"not connected since {uplink['since']}: {uplink['reason'] or 'never reached'}"


def _clock(clock: Document | None) -> str:
    if clock is None:
        return "?"
    local = datetime.now(ZoneInfo(clock["timezone"]) if clock["timezone"] else None).astimezone()
    return f"{clock['state']}, {local.isoformat(sep=' ', timespec='seconds')} {clock['timezone']}".rstrip()


def _port(port: Document) -> tuple[object, ...]:
    line = (
        f"{port['device']} {port['baud']} baud" if port["device"] else f"{port['address']} {port['framing']}"
    )
    figures = port.get("figures")
    busy = f"{figures['utilisation_minute']:.0%}" if figures else ""
    return port["port"], port["kind"], line, port["meters"], busy, _trouble(port, figures)


def _trouble(port: Document, figures: Document | None) -> str:
    """Why the line cannot be used now, and what went wrong on it since the gateway began, in a row."""
    now = [f"lent until {port['held']['until']}"] if port["held"] else []
    kinds = ("polls", "timeouts", "damaged", "foreign")
    return ", ".join(
        now + port["alarms"] + [f"{figures[kind]} {kind}" for kind in kinds if figures and figures[kind]]
    )


def _campaign(one: Document) -> tuple[object, ...]:
    return one["campaign_id"], state_of(one), counts(one["counts"]), waits_for(one)


def _parked(meters: list[Document]) -> str:
    """The meters that are left alone, and what to do about them."""
    parked = [(meter["meter"], meter["parked"]) for meter in meters if meter["parked"]]
    if not parked:
        return ""
    rows = [(name, why["since"], f"{why['code']}: {why['message']}") for name, why in parked]
    advice = dict.fromkeys(why["advice"] for _, why in parked)
    return "\n".join([table(rows, head=("LEFT ALONE", "SINCE", "")), *(f"  {text}" for text in advice)])


# -- probe ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("meter")
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


@click.group()
def counter() -> None:
    """Invocation counters of meters."""


@counter.command("adopt")
@click.argument("meter")
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
