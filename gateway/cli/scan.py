"""`scan`: who is on a line, with a bar while it lasts, and as a piece of configuration."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.bars import bar
from gateway.cli.client import Document, GatewayClient
from gateway.cli.completion import PORTS
from gateway.cli.root import Desk, InterruptedWatchError, duration_option, shared_options
from gateway.cli.text import safe, say_json, table

_TIMEOUT_S = 6 * 3600.0
"""The longest scan, on a line that serves others as well."""


@click.command()
@click.argument("port", shell_complete=PORTS)
@click.option(
    "--from",
    "first",
    type=click.IntRange(0, 16383),
    default=1,
    show_default=True,
    help="First lower address.",
)
@click.option(
    "--to", "last", type=click.IntRange(0, 16383), default=127, show_default=True, help="Last lower address."
)
@click.option(
    "--logical",
    type=click.IntRange(0, 16383),
    multiple=True,
    help="Upper address, default 1; may be repeated.",
)
@click.option("--address-bytes", type=click.Choice(["1", "2", "4"]), help="Default: what each address needs.")
@click.option(
    "--timeout",
    default="500ms",
    show_default=True,
    callback=duration_option("50ms", "10s"),
    help="How long a silent address is waited for.",
)
@shared_options
@click.pass_obj
def scan(
    desk: Desk,
    /,
    *,
    port: str,
    first: int,
    last: int,
    logical: tuple[int, ...],
    address_bytes: str | None,
    timeout: str,
) -> None:
    """Find the meters on PORT: name and firmware version, as far as they tell them without keys.

    Jobs on the line go on meanwhile."""
    if last < first:
        raise click.UsageError(f"--from {first} --to {last}: there is no address between")
    args: dict[str, Any] = {"port": port, "from": first, "to": last, "timeout": timeout}
    if logical:
        args["logical"] = list(dict.fromkeys(logical))
    if address_bytes:
        args["address_bytes"] = int(address_bytes)
    try:
        with desk.connect() as client, bar(desk, f"scan {safe(port)}", lambda other: _looked(other, port)):
            data = client.await_done("port.scan", args, timeout_s=_TIMEOUT_S)["data"]
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer waiting; the daemon goes on with the scan to its end"
        ) from None
    if desk.as_json:
        say_json(data)
        return
    found: list[Document] = data["found"]
    rows = [
        (
            _place(one),
            one["meter"] or "",
            one["logical_device_name"] or "?",
            one["firmware_version"] or "?",
            one["remark"],
        )
        for one in found
    ]
    head = ("ADDRESS", "METER", "DEVICE NAME", "FIRMWARE", "")
    click.echo(table(rows, head=head) or f"nobody answered at {data['addresses']} addresses")
    if any(one["meter"] is None for one in found):
        click.echo("\n# for the configuration: choose ids, add keys and profiles")
        click.echo("\n".join(_snippet(one, port) for one in found if one["meter"] is None))


def _place(one: Document) -> str:
    lower = one["physical_address"]
    return str(one["logical_address"]) if lower is None else f"{one['logical_address']}/{lower}"


def _snippet(one: Document, port: str) -> str:
    """JSON's texts and numbers are TOML's as well."""
    address = _place(one).replace("/", "-")
    settings = {
        "id": f"{port[:40]}-{address}",
        "port": port,
        "physical_address": one["physical_address"],
        "logical_address": one["logical_address"],
        "address_bytes": one["address_bytes"],
        "logical_device_name": one["logical_device_name"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
    return "\n".join(["", "[[meters]]", *lines])


def _looked(client: GatewayClient, port: str) -> tuple[int, int, str] | None:
    ports = client.ask("port.list")["data"]["ports"]
    now = next((one["scan"] for one in ports if one["port"] == port), None)
    if not now:
        return None
    return now["done"], now["total"], f"{now['done']} of {now['total']} addresses, {now['found']} found"
