"""`meters`: the meters that are configured, and what each of them is at."""

from __future__ import annotations

import click

from gateway.cli.client import Document
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
