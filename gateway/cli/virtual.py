"""Virtual meters for `simulate` and `demo`: what they are, and the configuration of a gateway that serves them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.model import Authentication, MeterKeys, Security
from gateway.simulator import MeterSpec, several
from gateway.wire.hdlc import Address

SYSTEM_TITLE = b"MGW\x00\x00\x00\x00\x01"
PROFILE: Mapping[str, object] = {
    "after_initiate": "1s", "reconnect_after": "5s", "activate_timeout": "1min",
    "activation_schedule": MeterSpec().schedule_object, "activation_timezone": MeterSpec().timezone,
}  # fmt: skip
"""Nobody likes to wait for a virtual meter."""
_FIRST_ADDRESS = 17
_BROADCAST_CLIENT = 102
_BROADCAST_INFO_OCTETS = 512
"""A ciphered block of 256 octets and all that is around it."""


def meters(
    count: int, *, version: str, new_version: str, verify_s: float, reboot_s: float
) -> list[MeterSpec]:
    """Meters on one line, all with HLS-GMAC, everything authenticated and encrypted, each with new keys of its own."""
    model = MeterSpec(
        logical_device_name="SIM0000000000001",
        address=Address(1, _FIRST_ADDRESS),
        authentication=Authentication.HLS_GMAC,
        security=Security.BOTH,
        client_title=SYSTEM_TITLE,
        version=version,
        new_version=new_version,
        erase_s=1.0,
        verify_s=verify_s,
        reboot_s=reboot_s,
    )
    return [replace(spec, keys=_new_keys()) for spec in several(model, count)]


def _new_keys() -> MeterKeys:
    return MeterKeys(encryption_key=os.urandom(16), authentication_key=os.urandom(16))


def common_keys() -> MeterKeys:
    """What meters that cipher have in common in order to take the same broadcasts."""
    return MeterKeys(authentication_key=os.urandom(16), broadcast_key=os.urandom(16))


def taking_broadcasts(spec: MeterSpec, common: MeterKeys) -> MeterSpec:
    """The meter takes image blocks in UI frames to all stations, as long as a block of its own needs."""
    keys = replace(
        spec.keys, authentication_key=common.authentication_key, broadcast_key=common.broadcast_key
    )
    return replace(
        spec, keys=keys, broadcast_client=_BROADCAST_CLIENT, broadcast_max_info=_BROADCAST_INFO_OCTETS
    )


def meter_id(number: int) -> str:
    """The id under which the gateway knows the meter, counted from 0."""
    return f"MTR{number + 1:04d}"


@dataclass(frozen=True)
class Site:
    """A port of a gateway, as its configuration has it, and the meters there."""

    port: Mapping[str, object]
    specs: Sequence[MeterSpec]


def write_configuration(
    directory: Path,
    device: str,
    baud: int,
    specs: Sequence[MeterSpec],
    sections: Mapping[str, Mapping[str, object]],
) -> Path:
    """gateway.toml and keys.toml for a gateway with one port, `device`, and these meters; `sections` are the
    others. The path of gateway.toml."""
    port = {"name": "rs485-1", "kind": "rs485", "device": device, "baud": baud}
    return write(directory, [Site(port, specs)], sections)


def write(directory: Path, sites: Sequence[Site], sections: Mapping[str, Mapping[str, object]]) -> Path:
    """The same with several ports. keys.toml comes last: where it is, everything is."""
    head = [settings(f"[{name}]", values) for name, values in sections.items()]
    (directory / "gateway.toml").write_text("\n".join([*head, described(sites)]), "utf-8")
    _write_keys(directory, sites)
    return directory / "gateway.toml"


def described(sites: Sequence[Site]) -> str:
    """Ports, meters and their profile, as they stand in a configuration; ids count over all ports."""
    text = [settings("[[ports]]", site.port) for site in sites]
    here = [(site.port["name"], spec) for site in sites for spec in site.specs]
    for number, (port, spec) in enumerate(here):
        meter = {
            "id": meter_id(number),
            "port": port,
            "physical_address": spec.address.lower,
            "logical_address": spec.address.upper,
            "client": spec.client,
            "authentication": spec.authentication,
            "security": spec.security,
            "logical_device_name": spec.logical_device_name,
            "profile": "virtual",
        }
        text.append(settings("[[meters]]", {key: value for key, value in meter.items() if value is not None}))
    text.append(settings("[profiles.virtual]", {**PROFILE, **_of_broadcast([spec for _, spec in here])}))
    return "\n".join(text)


def _of_broadcast(specs: Sequence[MeterSpec]) -> Mapping[str, object]:
    """What a profile says of the meters among them that take broadcasts, which are alike in it."""
    for spec in specs:
        if spec.broadcast_client:
            return {
                "broadcast": True,
                "broadcast_client": spec.broadcast_client,
                "broadcast_max_info": spec.broadcast_max_info,
            }
    return {}


def _write_keys(directory: Path, sites: Sequence[Site]) -> None:
    specs = [spec for site in sites for spec in site.specs]
    with open(directory / "keys.toml", "w", encoding="utf-8", opener=_private) as file:
        for number, spec in enumerate(specs):
            keys = spec.keys
            secrets = {
                "encryption_key": keys.encryption_key.hex(),
                "authentication_key": keys.authentication_key.hex(),
                "broadcast_key": keys.broadcast_key.hex(),
                "password": keys.password.decode(),
            }
            if present := {name: secret for name, secret in secrets.items() if secret}:
                file.write(settings(f"[meters.{meter_id(number)}]", present) + "\n")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def settings(head: str, values: Mapping[str, object]) -> str:
    """A section of TOML. JSON's texts, numbers, booleans and lists of them are TOML's as well."""
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])
