"""Meters that were put by command, beside the files of the configuration: read by the same words, left out where they
do not fit, and back when they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.config import with_stored
from gateway.model import Authentication, Config, Security

FILE = """
[gateway]
system_title = "4D47570000000001"
[[ports]]
name = "bus"
kind = "rs485"
device = "/dev/none"
[[ports]]
name = "lan"
kind = "tcp"
address = "192.0.2.1:4059"
[[meters]]
id = "M1"
port = "bus"
physical_address = 17
[profiles.x3]
window = 3
"""
KEYS = f"""
[meters.M7]
encryption_key = "{"ab" * 16}"
authentication_key = "{"cd" * 16}"
password = "12345678"
"""
CIPHERS = {"authentication": "hls-gmac", "security": "both"}


def read(tmp_path: Path, settings: str = FILE, keys: str = KEYS) -> Config:
    file = tmp_path / "gateway.toml"
    file.write_text(settings)
    file.with_name("keys.toml").write_text(keys)
    file.with_name("keys.toml").chmod(0o600)
    return config.load(file)


def test_a_stored_meter_is_one_like_those_of_the_file(tmp_path: Path) -> None:
    effective = with_stored(
        read(tmp_path), {"M7": {"port": "bus", "physical_address": 18, "profile": "x3", **CIPHERS}}
    )
    first, stored = effective.meters
    assert first.id == "M1"
    assert (stored.id, stored.port, stored.physical_address, stored.profile.window) == ("M7", "bus", 18, 3)
    assert (stored.authentication, stored.security) == (Authentication.HLS_GMAC, Security.BOTH)
    assert effective.stored == {"M7"}
    assert not effective.left_out


NEW = {"port": "bus", "physical_address": 18}
OTHER_PORT = FILE.replace('name = "bus"', 'name = "b2"').replace('port = "bus"', 'port = "b2"')

LEFT_OUT = {
    "its port is gone": (OTHER_PORT, KEYS, NEW, 'port: found "bus", expected the name of a port, b2, lan'),
    "its profile is gone": (
        FILE.replace("x3", "x4"), KEYS, {**NEW, "profile": "x3"},
        'profile: found "x3", expected the name of a profile, x4',
    ),
    "its id is taken by the file": (
        FILE.replace('"M1"', '"M7"'), KEYS, NEW, 'id: found "M7", expected an id that no meter of the configuration has'
    ),
    "its address is taken by the file": (
        FILE.replace("17", "18"), KEYS, NEW,
        "physical_address: found 18, expected another address on port bus than that of meter M1",
    ),
    "its line is of another kind now": (
        FILE.replace('kind = "rs485"', 'kind = "tcp"').replace('device = "/dev/none"', 'address = "192.0.2.2:1"')
        .replace("physical_address = 17", ""),
        KEYS, NEW, 'physical_address: found 18, expected no such key, for its port has framing = "wrapper"',
    ),
    "its keys are gone": (
        FILE, "", {**NEW, **CIPHERS},
        "keys.toml: meters.M7.encryption_key: found nothing, expected a secret, as this meter is put",
    ),
    "its password is gone": (
        FILE, "", {**NEW, "authentication": "lls"}, "keys.toml: meters.M7.password: found nothing"
    ),
    "the gateway has no system title": (
        FILE.replace("system_title", "#"), KEYS, {**NEW, **CIPHERS},
        "gateway.toml: gateway.system_title: found nothing",
    ),
    "an older program knew another word": (FILE, KEYS, {**NEW, "colour": "red"}, "colour: found an unknown key"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "keys", "stored", "why"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_one_that_does_not_fit_is_left_out_and_comes_back(
    tmp_path: Path, settings: str, keys: str, stored: dict[str, object], why: str
) -> None:
    unfit = with_stored(
        read(tmp_path, settings, keys), {"M7": stored, "M8": {"port": "lan", "logical_address": 8}}
    )
    assert any(why in line for line in unfit.left_out["M7"]), unfit.left_out
    assert unfit.stored == {"M8"}, "another one is served"
    if "colour" not in stored:
        fit = with_stored(read(tmp_path), {"M7": stored})
        assert fit.stored == {"M7"}
        assert not fit.left_out


def test_of_two_at_one_address_the_older_stays(tmp_path: Path) -> None:
    effective = with_stored(read(tmp_path), {"M8": dict(NEW), "M7": dict(NEW)})
    assert effective.stored == {"M8"}
    assert "another address on port bus than that of meter M8" in effective.left_out["M7"][0]


def test_every_mistake_is_named_and_no_value_of_a_secret_word_is_shown(tmp_path: Path) -> None:
    stored = {"port": "bux", "client": 500, "profile": "x9", "password": "sesame-open"}
    found = with_stored(read(tmp_path), {"M7": stored}).left_out["M7"]
    assert [line.split(": ")[1] for line in found] == ["port", "profile", "client", "password"]
    assert all(line.startswith("meter M7: ") for line in found)
    assert not any("sesame-open" in line for line in found)


def test_a_reload_keeps_the_stored_ones(tmp_path: Path) -> None:
    stored = {"M7": {"port": "lan", "profile": "x3"}}
    running = with_stored(read(tmp_path), stored)
    plan = config.plan_reload(running, read(tmp_path, FILE.replace("window = 3", "window = 5")))
    again = with_stored(plan.config, stored)
    assert next(meter for meter in again.meters if meter.id == "M7").profile.window == 5
    assert not plan.needs_restart


def test_keys_that_are_new_in_the_file_need_a_restart(tmp_path: Path) -> None:
    plan = config.plan_reload(read(tmp_path, keys=""), read(tmp_path))
    assert plan.needs_restart == ("keys.toml",)
