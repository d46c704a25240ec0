"""What each section of the configuration means: one function for each, then what only shows between them.

Default values are those of `gateway.model` unless they are said here. Keys that the published contract names
and that are not supported yet stand in `later(...)` with the one value that is taken.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from gateway.config import values as v
from gateway.config.meters import (
    Place,
    check_keys,
    ciphers,
    read_meter,
    read_meter_keys,
    refuse_shared_address,
)
from gateway.config.mqtt import read_mqtt
from gateway.config.profiles import read_profile
from gateway.config.table import Mistakes, Table
from gateway.config.trust import read_commands, read_firmware
from gateway.config.windows import read_windows
from gateway.model import (
    Config,
    Framing,
    GatewaySettings,
    PageSettings,
    Parity,
    PortKind,
    PortSettings,
)

VERBS = (
    "ping", "info.get", "port.list", "port.scan", "port.hold", "port.release", "meter.list", "meter.put",
    "meter.delete", "meter.read", "meter.probe", "image.fetch", "image.list", "image.delete", "campaign.submit",
    "campaign.get", "campaign.list", "campaign.pause", "campaign.resume", "campaign.cancel", "campaign.approve",
    "campaign.retry", "window.list", "window.set", "event.list", "agent.reload",
)  # fmt: skip
"""Every verb of the published contract that may be allowed over MQTT."""

_PORTS_LIMIT = 64  # a thread each
_MODE_E_BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_BAUDS = (*_MODE_E_BAUDS, 230400, 460800, 921600)


def build(settings: Table, secrets: Table, mistakes: Mistakes) -> Config:
    """The configuration as far as it can be read; what is wrong goes to `mistakes`. Where a file cannot be read,
    settings and keys are not compared."""
    whole = not mistakes.lines
    gateway_table, profile_table = settings.table("gateway"), settings.table("profiles")
    port_tables, meter_tables = settings.tables("ports"), settings.tables("meters")
    key_table = secrets.table("meters")

    gateway = _gateway(gateway_table)
    mqtt_table = settings.table("mqtt")
    mqtt = read_mqtt(mqtt_table) if "mqtt" in settings else None
    commands = read_commands(settings.table("commands"), _VERB_PATTERN)
    firmware = read_firmware(settings.table("firmware"))
    windows = read_windows(settings.table("windows"), timezone=gateway.timezone)
    page_table = settings.table("page")
    page = _page(page_table) if "page" in settings else None
    ports = [_port(table) for table in port_tables]
    profiles = {
        name: read_profile(name, table, gateway.timezone) for name, table in profile_table.named(v.ID).items()
    }
    by_name = {port.name: port for port in ports if port.name}
    meters = [read_meter(table, by_name, profiles) for table in meter_tables]
    key_tables = key_table.named(v.ID)
    keys = {name: read_meter_keys(table) for name, table in key_tables.items()}
    settings.finish()
    secrets.finish()

    if mqtt is not None and not gateway.id:
        gateway_table.wrong("id", "an id, because there is an [mqtt] section")
    if len(ports) > _PORTS_LIMIT:
        mistakes.add(settings.file, "ports", f"{len(ports)} ports", f"at most {_PORTS_LIMIT}")
    _refuse_twins(port_tables, [port.name for port in ports], "name", "a name that no other port has")
    # A name by id and the device that it leads to are one line.
    devices = [
        os.path.realpath(port.device) if port.device.startswith("/") else port.device for port in ports
    ]
    _refuse_twins(port_tables, devices, "device", "a device that no other port has")
    _refuse_twins(
        port_tables, [port.address for port in ports], "address", "an address that no other port has"
    )
    _refuse_twins(meter_tables, [meter.id for meter in meters], "id", "an id that no other meter has")
    taken: dict[Place, str] = {}
    for table, meter in zip(meter_tables, meters, strict=True):
        refuse_shared_address(table, meter, by_name, taken)
    for meter in meters:
        if ciphers(meter) and not gateway.system_title:
            gateway_table.wrong(
                "system_title", f"8 octets as 16 hex digits, because meter {meter.id} ciphers"
            )
        if whole:
            check_keys(meter, key_tables.get(meter.id) or key_table.table(meter.id))
    return Config(
        gateway, mqtt, commands, firmware, tuple(ports), tuple(meters), keys, windows, page, profiles
    )


# -- one function for each section ----------------------------------------------------------------------------


def _gateway(table: Table) -> GatewaySettings:
    known = GatewaySettings()
    settings = GatewaySettings(
        id=table.read(
            "id", v.ID, known.id, "Its name in the MQTT topics and to its operators. Needed with `[mqtt]`."
        ),
        system_title=table.read(
            "system_title",
            v.octets(8),
            known.system_title,
            "Its name in DLMS ciphering, needed once a meter ciphers. Never the same in two gateways.",
        ),
        state_dir=table.read(
            "state_dir",
            v.PATH,
            known.state_dir,
            "Where campaigns, counters and images are kept. The packaged service may write nowhere else.",
        ),
        control_socket=table.read(
            "control_socket",
            v.SOCKET_PATH,
            known.control_socket,
            "Where the daemon listens for the command line.",
        ),
        timezone=table.read(
            "timezone", v.TIMEZONE, known.timezone, "A name of the IANA database. Without it: the machine's."
        ),
        retention_s=table.read(
            "retention",
            v.duration("1d", "3650d"),
            known.retention_s,
            "So long after its end a campaign is kept; then it is forgotten, and what the broker shows of it emptied.",
        ),
        require_synced_clock=table.read(
            "require_synced_clock",
            v.BOOLEAN,
            known.require_synced_clock,
            "While the clock is not synchronised, commands over MQTT that change something are refused and "
            "no window opens. `false`: only where there is no time synchronisation.",
        ),
    )
    table.finish()
    return settings


def _page(table: Table) -> PageSettings:
    host, port = table.read(
        "listen",
        v.OWN_ADDRESS,
        ("", 0),
        "Where browsers and Prometheus find it. `127.0.0.1` and `[::1]` are this machine alone; `0.0.0.0` is every "
        "address of IPv4, `[::]` every address.",
        required=True,
    )
    table.finish()
    return PageSettings(host, port)


def _verb_pattern(value: Any) -> str:
    pattern = v.TEXT.read(value)
    if not any(fnmatchcase(verb, pattern) for verb in VERBS):
        raise ValueError
    return pattern


_VERB_PATTERN = v.Kind('a verb that goes over MQTT, or several: "campaign.*"', _verb_pattern)


def _port(table: Table) -> PortSettings:
    kind = table.read("kind", v.choice(PortKind), PortKind.RS485, "What the line is.", required=True)
    sure = not table.noted("kind")
    port = PortSettings(
        name=table.read("name", v.ID, "", "Its name.", required=True),
        kind=kind,
        response_timeout_s=table.read(
            "response_timeout",
            v.duration("50ms", "2min"),
            2.0,
            "How long an answer may take beyond its time on the line.",
        ),
        attempts=table.read("attempts", v.integer(1, 20), 3, "Tries of one exchange."),
    )
    tcp = kind is PortKind.TCP
    port = replace(
        port,
        address=table.read(
            "address", v.HOST_AND_PORT, "", "The meter, or what stands before it.", required=tcp
        ),
        framing=table.read(
            "framing",
            v.choice(Framing),
            Framing.WRAPPER if tcp else Framing.HDLC,
            "What goes over the connection: the wrapper of IEC 62056-47, or HDLC.",
        ),
        device=table.read(
            "device",
            v.DEVICE,
            "",
            "The serial device, best by `/dev/serial/by-id`; or a serial device server, with `socket://` "
            "where it has rate and line alone.",
            required=sure and not tcp,
        ),
        baud=table.read(
            "baud",
            v.one_of(*_BAUDS),
            9600,
            "Bits per second. With mode E the most that may be agreed, at most 115200.",
        ),
        parity=table.read(
            "parity", v.choice(Parity), Parity.NONE, "Parity of a character. With mode E: `none`."
        ),
    )
    if kind is PortKind.OPTICAL:
        port = replace(
            port,
            mode_e=table.read(
                "mode_e",
                v.BOOLEAN,
                True,
                "Sign on by mode E of IEC 62056-21 at 300 baud, then HDLC at the highest rate of both; "
                "`false`: HDLC directly.",
            ),
        )
    if sure:
        table.refuse(f'this port has kind = "{kind}"', *_FOREIGN[kind])
    if port.mode_e:
        _check_mode_e(table, port)
    table.finish()
    return port


_FOREIGN = {
    PortKind.RS485: ("address", "framing", "mode_e"),
    PortKind.OPTICAL: ("address", "framing"),
    PortKind.TCP: ("device", "baud", "parity", "mode_e"),
}
"""Keys that mean nothing to a port of this kind."""


def _check_mode_e(table: Table, port: PortSettings) -> None:
    """IEC 62056-21: the rates that an acknowledgement can name; afterwards HDLC without parity."""
    if port.baud > _MODE_E_BAUDS[-1]:
        table.wrong("baud", "with mode E one of " + ", ".join(map(str, _MODE_E_BAUDS)))
    if port.parity is not Parity.NONE:
        table.wrong("parity", '"none" or no such key, with mode E')
    if port.device.startswith("socket://"):
        table.wrong("mode_e", "false, for the rate behind socket:// cannot be set; rfc2217:// can")


# -- what only shows between sections -------------------------------------------------------------------------


def _refuse_twins(tables: list[Table], names: list[str], key: str, expected: str) -> None:
    counts: Counter[str] = Counter()
    for table, name in zip(tables, names, strict=True):
        counts[name] += 1
        if name and counts[name] > 1:
            table.wrong(key, expected)
