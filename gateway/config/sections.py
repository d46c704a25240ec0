"""What each section of the configuration means: one function for each, then what only shows between them.

Default values are those of `gateway.model` unless they are said here. Keys that the published contract names
and that are not supported yet stand in `later(...)` with the one value that is taken.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from gateway.config import values as v
from gateway.config.mqtt import read_mqtt
from gateway.config.profiles import read_profile
from gateway.config.table import Mistakes, Table
from gateway.config.trust import read_commands, read_firmware
from gateway.config.windows import read_windows
from gateway.model import (
    Authentication,
    Config,
    Framing,
    GatewaySettings,
    Meter,
    MeterKeys,
    PageSettings,
    Parity,
    PortKind,
    PortSettings,
    Profile,
    Security,
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
    meters = [_meter(table, by_name, profiles) for table in meter_tables]
    key_tables = key_table.named(v.ID)
    keys = {name: _meter_keys(table) for name, table in key_tables.items()}
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
    _refuse_shared_addresses(meter_tables, meters, by_name)
    for name in (key_tables.keys() if whole else set()) - {meter.id for meter in meters}:
        key_table.misnamed(name, "the id of a meter that is configured")
    for meter in meters:
        if _ciphers(meter) and not gateway.system_title:
            gateway_table.wrong(
                "system_title", f"8 octets as 16 hex digits, because meter {meter.id} ciphers"
            )
        if whole:
            _check_keys(meter, key_tables.get(meter.id) or key_table.table(meter.id))
    return Config(gateway, mqtt, commands, firmware, tuple(ports), tuple(meters), keys, windows, page)


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


def _meter(table: Table, ports: Mapping[str, PortSettings], profiles: Mapping[str, Profile]) -> Meter:
    port_name = table.read("port", v.ID, "", "The name of its port.", required=True)
    if port_name and port_name not in ports:
        table.wrong("port", "the name of a port, " + (_names(ports) or "but there is none"))
    profile_name = table.read("profile", v.ID, "default", "What its model needs: a name of `[profiles]`.")
    if profile_name not in profiles and "profile" in table:
        table.wrong("profile", "the name of a profile, " + (_names(profiles) or "but there is none"))
    wrapper = port_name in ports and ports[port_name].framing is Framing.WRAPPER
    octets = table.read(
        "address_bytes",
        v.one_of(1, 2, 4),
        0,
        "Octets of an HDLC address. Without it: what the addresses need.",
    )
    meter = Meter(
        id=table.read("id", v.ID, "", "Its id.", required=True),
        port=port_name,
        address_bytes=octets,
        logical_address=table.read(
            "logical_address",
            _address(wrapper, octets),
            1,
            "HDLC upper address; with the wrapper its port number.",
        ),
        physical_address=table.read("physical_address", _address(wrapper, octets), 1, "HDLC lower address."),
        device_address=table.read(
            "device_address",
            v.DEVICE_ADDRESS,
            "",
            "What mode E calls the meter by, where several share an optical port.",
        ),
        client=table.read("client", v.integer(1, 65535 if wrapper else 127), 1, "Client address (SAP)."),
        authentication=table.read(
            "authentication",
            v.choice(Authentication, later=("hls-sha256", "hls-ecdsa")),
            Authentication.NONE,
            "How both prove who they are: `lls` by a password, `hls-gmac` by keys.",
        ),
        security=table.read(
            "security", v.choice(Security), Security.NONE, "How every message of an association is protected."
        ),
        dedicated_key=table.read(
            "dedicated_key", v.BOOLEAN, False, "Use a key of its own for each association."
        ),
        logical_device_name=table.read(
            "logical_device_name",
            v.TEXT,
            "",
            "The meter is refused (`T_IDENTITY`) if it says another name. Without it: not looked at.",
        ),
        profile=profiles.get(profile_name, Profile()),
    )
    if wrapper:
        table.refuse('its port has framing = "wrapper"', "physical_address", "address_bytes")
    elif octets == 1:
        table.refuse("address_bytes = 1 carries the logical address only", "physical_address")
    if port_name in ports and not ports[port_name].mode_e:
        table.refuse("its port does not sign on by mode E", "device_address")
    if meter.dedicated_key and meter.security is Security.NONE:
        table.wrong("dedicated_key", "false, for security is none")
    table.later(suite=0)
    table.finish()
    return meter


def _address(wrapper: bool, octets: int) -> v.Kind[int]:
    """HDLC addresses but the reserved ones: no-station 0, calling 7E or 3FFE and all-station 7F or 3FFF
    (IEC 62056-46, 6.4.2.2); with the wrapper a 16-bit port (IEC 62056-47)."""
    if wrapper:
        return v.integer(1, 65535)
    if octets in (1, 2):
        return v.integer(1, 0x7D)
    wide = v.integer(1, 0x3FFD)
    if octets == 4:
        return wide

    def read(value: Any) -> int:
        if value in (0x7E, 0x7F):
            raise ValueError
        return wide.read(value)

    return v.Kind(f"{wide.expected}, and 126 or 127 only with address_bytes = 4", read)


def _meter_keys(table: Table) -> MeterKeys:
    counter = table.read(
        "initial_counter",
        v.integer(0, 2**32 - 1),
        0,
        "The first invocation counter that the meter will take, where it cannot be read. Without it: the "
        "one that is read. Needed before its first ciphered contact; afterwards the gateway knows it.",
    )
    keys = MeterKeys(
        encryption_key=table.read(
            "encryption_key",
            v.octets(16),
            b"",
            "The global unicast encryption key, for a meter that ciphers.",
        ),
        authentication_key=table.read(
            "authentication_key", v.octets(16), b"", "The global authentication key."
        ),
        password=table.read("password", v.PASSWORD, b"", 'For `authentication = "lls"`.'),
        initial_counter=counter if "initial_counter" in table else None,
        broadcast_key=table.read(
            "broadcast_key",
            v.octets(16),
            b"",
            "The global broadcast key, for a meter that ciphers and takes part in broadcasts.",
        ),
    )
    table.finish()
    return keys


# -- what only shows between sections -------------------------------------------------------------------------


def _refuse_twins(tables: list[Table], names: list[str], key: str, expected: str) -> None:
    counts: Counter[str] = Counter()
    for table, name in zip(tables, names, strict=True):
        counts[name] += 1
        if name and counts[name] > 1:
            table.wrong(key, expected)


def _refuse_shared_addresses(
    tables: list[Table], meters: list[Meter], ports: Mapping[str, PortSettings]
) -> None:
    taken: dict[tuple[Any, ...], str] = {}
    for table, meter in zip(tables, meters, strict=True):
        port = ports.get(meter.port)
        if port is None:
            continue
        lower = 0 if port.framing is Framing.WRAPPER or meter.address_bytes == 1 else meter.physical_address
        place = (meter.port, meter.device_address, meter.logical_address, lower)
        if place in taken:
            table.wrong(
                "logical_address" if lower == 0 else "physical_address",
                f"another address on port {meter.port} than that of meter {taken[place]}",
            )
        taken.setdefault(place, meter.id)


def _ciphers(meter: Meter) -> bool:
    return meter.authentication is Authentication.HLS_GMAC or meter.security is not Security.NONE


def needed_keys(meter: Meter) -> tuple[str, ...]:
    """The secrets that a meter cannot do without, as keys.toml and `MeterKeys` name them."""
    needed = []
    if _ciphers(meter):
        needed.append("encryption_key")
    if _ciphers(meter) and not (
        meter.security is Security.ENCRYPTION and meter.authentication is not Authentication.HLS_GMAC
    ):
        needed.append("authentication_key")
    if meter.authentication is Authentication.LLS:
        needed.append("password")
    return tuple(needed)


def _check_keys(meter: Meter, keys: Table) -> None:
    for key in needed_keys(meter):
        if key not in keys:
            keys.wrong(key, f"a secret, as meter {meter.id} is configured")


def _names(of: Mapping[str, Any]) -> str:
    return ", ".join(sorted(filter(None, of)))
