"""Lines: `ports`, what the machine and the configuration have of them; `port hold` and `port release`."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from gateway.cli.client import Document, NoDaemonError
from gateway.cli.completion import PORTS
from gateway.cli.groups import Group
from gateway.cli.root import Desk, duration_option, shared_options
from gateway.cli.text import safe, say_json, table


@click.command()
@shared_options
@click.pass_obj
def ports(desk: Desk) -> None:
    """The serial devices of this machine and the ports that are configured, with or without a daemon.

    Root sees every program that has a device open, others only their own."""
    configured, source = _configured(desk)
    devices = [] if desk.gateway else _devices(configured)
    ports = [{**one, "present": None if desk.gateway else _present(one["device"])} for one in configured]
    if desk.as_json:
        say_json({"configured_by": source, "devices": devices, "ports": ports})
        return
    rows = [(one["path"], one["driver"], _adapter(one), one["port"] or "", _users(one)) for one in devices]
    none = "the devices of a machine are seen there alone" if desk.gateway else "no serial devices"
    click.echo(table(rows, head=("DEVICE", "DRIVER", "ADAPTER", "PORT", "OPENED BY")) or none)
    named = [(one["path"], name) for one in devices for name in one["by_id"]]
    if named:
        click.echo("\n" + table(named, head=("DEVICE", "NAME FOR THE CONFIGURATION")))
    click.echo("\n" + (table([_row(one) for one in ports], head=("PORT", "KIND", "WHERE", "")) or "no ports"))
    if source != "daemon":
        click.echo(f"\n{_SOURCES[source]}", err=True)


_SOURCES = {
    "file": "No daemon was reached: the ports are those of the configuration file.",
    "nothing": "No daemon was reached, and there is no configuration that can be read: only devices are known.",
}


def _configured(desk: Desk) -> tuple[list[Document], str]:
    """The ports, and who says so: an engineer looks for devices before there is a configuration."""
    from gateway import config
    from gateway.errors import ConfigError

    try:
        with desk.connect() as client:
            listed: list[Document] = client.ask("port.list")["data"]["ports"]
            return listed, "daemon"
    except (NoDaemonError, ConfigError):
        if desk.gateway:
            raise
    try:
        read = config.load(desk.config)
    except ConfigError:
        return [], "nothing"
    known = [
        {"port": port.name, "kind": port.kind.value, "device": port.device, "address": port.address}
        for port in read.ports
    ]
    return known, "file"


def _devices(configured: list[Document]) -> list[Document]:
    from gateway.link.devices import serial_devices

    by_device = {
        os.path.realpath(one["device"]): one["port"] for one in configured if _is_path(one["device"])
    }
    return [{**asdict(device), "port": by_device.get(device.path)} for device in serial_devices()]


def _is_path(device: str) -> bool:
    return device.startswith("/")


def _present(device: str) -> bool | None:
    """Whether the device is there; None: that is not for this machine to say."""
    return os.path.exists(device) if _is_path(device) else None  # noqa: PTH110 (Path.exists raises)


def _adapter(device: Document) -> str:
    ids = f"{device['vendor']}:{device['product']}" if device["vendor"] else ""
    return " ".join(filter(None, (ids, device["name"], device["serial"])))


def _users(device: Document) -> str:
    return ", ".join(f"{user['name']} ({user['pid']})" for user in device["users"])


def _row(port: Document) -> tuple[object, ...]:
    remarks = ["is not there"] if port["present"] is False else []
    remarks += [f"lent until {port['held']['until']}"] if port.get("held") else []
    return (
        port["port"],
        port["kind"],
        port["device"] or port["address"],
        ", ".join(remarks + port.get("alarms", [])),
    )


@click.group(cls=Group)
def port() -> None:
    """Lend a line to another tool, and take it back."""


@port.command("hold")
@click.argument("name", shell_complete=PORTS)
@click.option(
    "--for",
    "for_",
    required=True,
    metavar="DURATION",
    callback=duration_option("1s", "24h"),
    help="From 1s to 24h, as in 10min.",
)
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
            f"port {safe(name)} is free until {data['until']};"
            f" sooner: meter-gateway port release {safe(name)}{desk.where}"
        )


@port.command("release")
@click.argument("name", shell_complete=PORTS)
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
