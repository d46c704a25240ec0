"""`meters`: the meters that are configured, and what each of them is at; `read`: what a meter says."""

from __future__ import annotations

import re
from typing import Any

import click

from gateway.cli.client import Document
from gateway.cli.completion import METERS
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import say_json, table


@click.command()
@shared_options
@click.pass_obj
def meters(desk: Desk) -> None:
    """The meters that are configured: their lines, addresses and security, and what each of them is at."""
    with desk.connect() as client:
        data = client.ask("meter.list")["data"]
        ports = client.ask("port.list")["data"]["ports"]
    if desk.as_json:
        say_json(data)
        return
    head = ("METER", "PORT", "ADDRESS", "CLIENT", "SECURITY", "PROFILE", "STATE", "")
    framing = {port["port"]: port["framing"] for port in ports}
    rows = [_row(meter, has_lower=framing.get(meter["port"]) == "hdlc") for meter in data["meters"]]
    click.echo(table(rows, head=head) or "no meters are configured")


def _row(meter: Document, *, has_lower: bool) -> tuple[object, ...]:
    """`has_lower`: its port has HDLC addresses; behind the wrapper there is a wPort only."""
    lower = meter["physical_address"] if has_lower else None
    security = [meter["authentication"], meter["security"] if meter["security"] != "none" else ""]
    remarks = [meter["campaign_id"] or ""]
    if meter["parked"]:
        remarks.append(f"left alone, {meter['parked']['code']}")
    if meter["tuning"]:
        remarks.append(f"tuned: {meter['tuning']['why']}")
    return (
        meter["meter"], meter["port"],
        f"{meter['logical_address']}" + ("" if lower is None else f"/{lower}"),
        meter["client"], " ".join(filter(None, security)), meter["profile"],
        meter["state"] or "idle", ", ".join(filter(None, remarks)),
    )  # fmt: skip


# -- read -----------------------------------------------------------------------------------------------------

_ATTRIBUTE = re.compile(r"(?:(\d{1,5})/)?(\d{1,3}-\d{1,3}:[\d.]+)(?::(\d{1,3}))?", re.ASCII)


def _read_args(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Document:
    """`[CLASS/]OBJECT[:ATTRIBUTE]` as the arguments of `meter.read`."""
    if text is None:
        return {}
    found = _ATTRIBUTE.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r}: expected an object and its attribute, such as 1-0:1.8.0.255:2")
    class_id, name, number = found.groups()
    numbers = {key: int(digits) for key, digits in (("class", class_id), ("attribute", number)) if digits}
    return {"object": name, **numbers}


@click.command()
@click.argument("meter", shell_complete=METERS)
@click.argument("attribute", callback=_read_args, required=False, metavar="[OBJECT:ATTRIBUTE]")
@shared_options
@click.pass_obj
def read(desk: Desk, /, meter: str, attribute: Document) -> None:
    """Read an attribute of any object of METER: its logical name, a colon, the number of the attribute (2 if none is
    given). Without one: who the meter is, its firmware version and its clock.

    The class is found where it is not named: that which such objects usually have, else that which the meter lists.
    Passwords and keys are never read; a value may have 64 KiB."""
    with desk.connect() as client:
        data = client.await_done("meter.read", {"meter": meter, **attribute})["data"]
    if desk.as_json:
        say_json(data)
        return
    rows = []
    for value in data["values"]:
        name = value.get("name", f"{value['class']}/{value['object']}:{value['attribute']}")
        shown = f"refused: {value['error']}" if "error" in value else _shown(value["value"])
        rows.append((name.replace("_", " "), shown))
    click.echo(table(rows))


def _shown(value: Any) -> str:
    match value:
        case {"time": text} | {"text": text} | {"bits": text}:
            return str(text)
        case {"hex": text}:
            return str(text) or "no octets"
        case list():
            return f"[{', '.join(map(_shown, value))}]"
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
