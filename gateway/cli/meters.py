"""`meters`: the meters that are configured, and what each of them is at; `read`: what a meter says."""

from __future__ import annotations

import re
from typing import Any

import click

from gateway.cli.client import Document
from gateway.cli.completion import METERS, PORTS, PROFILES
from gateway.cli.groups import Group
from gateway.cli.order_options import given
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import safe, say_json, table


@click.group(cls=Group, invoke_without_command=True)
@shared_options
@click.pass_context
def meters(ctx: click.Context) -> None:
    """The meters that there are: their lines, addresses and security, and what each of them is at. They stand in the
    configuration, or come and go by `meters put` and `meters rm`."""
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


def _list(desk: Desk) -> None:
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
    out = [(left["meter"], why) for left in data["left_out"] for why in left["why"]]
    if out:
        click.echo("\n" + table(out, head=("LEFT OUT", "")))


def _row(meter: Document, *, has_lower: bool) -> tuple[object, ...]:
    """`has_lower`: its port has HDLC addresses; behind the wrapper there is a wPort only."""
    lower = meter["physical_address"] if has_lower else None
    security = [meter["authentication"], meter["security"] if meter["security"] != "none" else ""]
    remarks = [meter["campaign_id"] or "", "put by command" if meter["origin"] == "state" else ""]
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


# -- put, rm ----------------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"(\d{1,5})(?:/(\d{1,5}))?", re.ASCII)


def _address(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Document:
    """`1/17` as the addresses that `meter.put` takes."""
    found = _ADDRESS.fullmatch(text or "1")
    if found is None:
        raise click.BadParameter(f"{text!r}: expected an address as `meters` shows it, such as 1/17")
    upper, lower = found.groups()
    return {"logical_address": int(upper), **({"physical_address": int(lower)} if lower else {})}


@meters.command("put")
@click.argument("meter", shell_complete=METERS)
@click.option("--port", required=True, shell_complete=PORTS, metavar="PORT", help="The line that it is on.")
@click.option(
    "--address",
    callback=_address,
    metavar="UPPER/LOWER",
    help="As `meters` shows it, e.g. 1/17; behind the wrapper the port number alone. Default: 1/1.",
)
@click.option("--address-bytes", type=click.Choice(["1", "2", "4"]), help="Default: what the addresses need.")
@click.option("--device-address", metavar="TEXT", help="What mode E calls it by, on a shared optical port.")
@click.option("--client", type=click.IntRange(1, 65535), help="Client SAP; default: 1.")
@click.option("--authentication", type=click.Choice(["none", "lls", "hls-gmac"]), help="Default: none.")
@click.option(
    "--security", type=click.Choice(["none", "authentication", "encryption", "both"]), help="Default: none."
)
@click.option("--dedicated-key", is_flag=True, default=None, help="A key of its own for each association.")
@click.option(
    "--logical-device-name", metavar="NAME", help="Refused (T_IDENTITY) if the meter says otherwise."
)
@click.option(
    "--profile",
    shell_complete=PROFILES,
    metavar="NAME",
    help="What its model needs: a name under [profiles].",
)
@shared_options
@click.pass_obj
def put(desk: Desk, /, meter: str, address: Document, address_bytes: str | None, **settings: Any) -> None:
    """Keep METER in the gateway's state, or another description of it in place of the one there is. Options are the
    keys of [[meters]] in gateway.toml(5); meters of the configuration are changed there.

    Keys are never in a command: what such a meter needs stands in keys.toml under [meters.METER] before the gateway is
    started. Refused while there is work for the meter."""
    octets = {"address_bytes": int(address_bytes)} if address_bytes else {}
    args = {"meter": meter, **address, **octets, **given(settings)}
    _change(desk, "meter.put", args, f"is served now; see: meter-gateway read {meter}{desk.where}")


@meters.command("rm")
@click.argument("meter", shell_complete=METERS)
@shared_options
@click.pass_obj
def rm(desk: Desk, /, meter: str) -> None:
    """Forget METER, which was put by command. Its invocation counter is kept for when it comes back. Refused while
    there is work for it."""
    _change(desk, "meter.delete", {"meter": meter}, "is gone")


def _change(desk: Desk, verb: str, args: Document, done: str) -> None:
    with desk.connect() as client:
        data = client.await_done(verb, args)["data"]
    if desk.as_json:
        say_json(data)
    else:
        click.echo(safe(f"{data['meter']} {done}"))


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
