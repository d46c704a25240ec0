"""Meters: what `[[meters]]` means and `[meters.ID]` of keys.toml, and meters that come and go by command, which are
described in the same words and kept in the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.config import values as v
from gateway.config.table import Mistakes, Table, annotate
from gateway.model import (
    Authentication,
    Config,
    Framing,
    Meter,
    MeterKeys,
    PortSettings,
    Profile,
    Security,
)

Place = tuple[str, str, int, int]
"""Where a meter answers: port, device address, upper and lower address."""


def with_stored(config: Config, stored: Mapping[str, Mapping[str, Any]]) -> Config:
    """`config` with the meters that were put by command, in place of those of that kind that it has: by their ids, each
    in the words of `[[meters]]`, oldest first. Those that do not fit the rest are in `left_out`."""
    own = [meter for meter in config.meters if meter.id not in config.stored]
    ports = {port.name: port for port in config.ports}
    names, taken = {meter.id for meter in own}, {_place(meter, ports[meter.port]): meter.id for meter in own}
    fitting, left_out = [], {}
    for name, settings in stored.items():
        mistakes = Mistakes()
        tree = annotate({"id": name, **settings}, Path(f"meter {name}"))
        table = Table(tree, "", mistakes)
        meter = read_meter(table, ports, config.profiles)
        if name in names:
            table.wrong("id", "an id that no meter of the configuration has")
        _check_at_start(meter, config, mistakes)
        if not mistakes.lines:
            refuse_shared_address(table, meter, ports, taken)
        if mistakes.lines:
            left_out[name] = tuple(mistakes.lines)
        else:
            fitting.append(meter)
    there = frozenset(meter.id for meter in fitting)
    return replace(config, meters=(*own, *fitting), stored=there, left_out=left_out)


def _check_at_start(meter: Meter, config: Config, mistakes: Mistakes) -> None:
    """What a meter needs that the gateway learns at its start alone."""
    keys = config.keys.get(meter.id, MeterKeys())
    for key in needed_keys(meter):
        if not getattr(keys, key):
            expected = "a secret, as this meter is put; write it there and restart the gateway"
            mistakes.add(Path("keys.toml"), f"meters.{meter.id}.{key}", "nothing", expected)
    if ciphers(meter) and not config.gateway.system_title:
        expected = (
            "8 octets as 16 hex digits, because this meter ciphers; write it there and restart the gateway"
        )
        mistakes.add(Path("gateway.toml"), "gateway.system_title", "nothing", expected)


def read_meter(table: Table, ports: Mapping[str, PortSettings], profiles: Mapping[str, Profile]) -> Meter:
    """`[[meters]]`: one of them, which stands by itself."""
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


def read_meter_keys(table: Table) -> MeterKeys:
    """`[meters.ID]` of keys.toml."""
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


# -- what only shows beside others ----------------------------------------------------------------------------


def refuse_shared_address(
    table: Table, meter: Meter, ports: Mapping[str, PortSettings], taken: dict[Place, str]
) -> None:
    """Note that another meter has this one's place; else it is `taken` now."""
    port = ports.get(meter.port)
    if port is None:
        return
    place = _place(meter, port)
    if place in taken:
        key = "logical_address" if place[-1] == 0 else "physical_address"
        table.wrong(key, f"another address on port {meter.port} than that of meter {taken[place]}")
    taken.setdefault(place, meter.id)


def _place(meter: Meter, port: PortSettings) -> Place:
    upper_only = port.framing is Framing.WRAPPER or meter.address_bytes == 1
    return (
        meter.port, meter.device_address, meter.logical_address, 0 if upper_only else meter.physical_address,
    )  # fmt: skip


def ciphers(meter: Meter) -> bool:
    """It cannot be talked to without a system title of ours, and keys."""
    return meter.authentication is Authentication.HLS_GMAC or meter.security is not Security.NONE


def needed_keys(meter: Meter) -> tuple[str, ...]:
    """The secrets that a meter cannot do without, as keys.toml and `MeterKeys` name them."""
    needed = []
    if ciphers(meter):
        needed.append("encryption_key")
    if ciphers(meter) and not (
        meter.security is Security.ENCRYPTION and meter.authentication is not Authentication.HLS_GMAC
    ):
        needed.append("authentication_key")
    if meter.authentication is Authentication.LLS:
        needed.append("password")
    return tuple(needed)


def check_keys(meter: Meter, keys: Table) -> None:
    """Note which secrets `[meters.ID]` does not have and should."""
    for key in needed_keys(meter):
        if key not in keys:
            keys.wrong(key, f"a secret, as meter {meter.id} is configured")


def _names(of: Mapping[str, Any]) -> str:
    return ", ".join(sorted(filter(None, of)))
