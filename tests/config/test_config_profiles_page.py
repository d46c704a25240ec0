"""docs/profiles.md is where an engineer looks up a key: every one is there, with the default that it really has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from gateway import config
from gateway.model import Profile

PAGE = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text("utf-8")
KEYS = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \| .+ \| .+ \|$", PAGE, flags=re.MULTILINE))


def the_profile(tmp_path: Path, settings: str) -> Profile:
    file = tmp_path / "gateway.toml"
    file.write_text(f"""
[[ports]]
name = "bus"
kind = "rs485"
device = "/dev/ttyUSB0"

[[meters]]
id = "MTR0001"
port = "bus"
profile = "acme-x3"

[profiles.acme-x3]
{settings}
""")
    return config.load(file).meters[0].profile


def test_every_key_of_a_profile_is_on_the_page_and_no_other():
    names = {field.name.removesuffix("_s") for field in fields(Profile)} - {"name"}
    assert set(KEYS) == names


def test_the_defaults_on_the_page_are_those_of_the_gateway(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    settings = "\n".join(f"{key} = {default}" for key, default in KEYS.items() if default != "none")
    assert the_profile(tmp_path, settings) == Profile(name="acme-x3")


def test_the_examples_on_the_page_are_right(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    examples = re.findall(r"^\[profiles.acme-x3\]\n(.+?)```", PAGE, flags=re.MULTILINE | re.DOTALL)
    model, checked, bus = [the_profile(tmp_path, settings) for settings in examples]
    assert model.match is not None
    assert model.after_initiate_s == 60.0
    assert [check.class_id for check in checked.health_checks] == [70, 3, 4]
    assert checked.health_failure
    assert bus.broadcast
    assert bus.broadcast_max_info == 640
