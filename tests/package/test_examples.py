"""What is installed for people to read: examples that load, a manual page that misses no key, rules that say what they
mean. The package itself is tried by tests/package/run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gateway import config
from gateway.config import sections
from gateway.config.table import Mistakes, Node, Table, annotate
from gateway.model import Authentication, Framing, PortKind

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "etc" / "examples"
INSIDE_MATCH = {"object", "pattern"}
"""The page shows them in the line of `match`."""
READ_OTHERWISE = {"match", "password_file", "ca_file", "cert_file", "key_file"}
"""Keys that are not looked for where they are absent, or not by Table.read."""


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def example(directory: Path, name: str) -> config.Config:
    """The example as it would be read, with keys for all its meters."""
    text = (EXAMPLES / name).read_text("utf-8")
    secrets = 'encryption_key = "{0}"\nauthentication_key = "{0}"\npassword = "12345678"'.format("0F" * 16)
    keys = "\n".join(
        f"[meters.{meter}]\n{secrets}" for meter in re.findall(r'^id = "(MTR\d+)"', text, re.MULTILINE)
    )
    (directory / "gateway.toml").write_text(text)
    (directory / "keys.toml").touch(0o600)
    (directory / "keys.toml").write_text(keys)
    return config.load(directory / "gateway.toml")


def test_a_bus_of_30_meters(tmp_path):
    read = example(tmp_path, "rs485-bus.toml")
    assert [meter.physical_address for meter in read.meters] == list(range(17, 47))
    assert read.mqtt is not None and read.mqtt.url.startswith("mqtts://")


def test_an_optical_head(tmp_path):
    read = example(tmp_path, "optical-head.toml")
    assert read.ports[0].kind is PortKind.OPTICAL and read.ports[0].mode_e
    assert read.meters[0].authentication is Authentication.LLS


def test_meters_behind_tcp(tmp_path):
    assert [port.framing for port in example(tmp_path, "tcp-meter.toml").ports] == [
        Framing.WRAPPER,
        Framing.HDLC,
    ]


def test_the_keys_beside_them_fit(tmp_path):
    (tmp_path / "gateway.toml").write_text((EXAMPLES / "tcp-meter.toml").read_text("utf-8"))
    (tmp_path / "keys.toml").touch(0o600)
    (tmp_path / "keys.toml").write_text((EXAMPLES / "keys.toml").read_text("utf-8"))
    assert set(config.load(tmp_path / "gateway.toml").keys) == {"MTR0201", "MTR0202"}


def test_every_line_of_the_wiring_page_can_be_configured_so(tmp_path):
    blocks = re.findall(r"```toml\n(.+?)```", (ROOT / "docs" / "wiring.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "gateway.toml").write_text("\n".join(blocks))
    ports = {port.name: port for port in config.load(tmp_path / "gateway.toml").ports}
    assert {port.kind for port in ports.values()} == set(PortKind)
    assert {port.device.partition(":")[0] for port in ports.values()} > {"rfc2217", "socket"}
    assert ports["probe"].mode_e


def test_every_key_stands_in_the_manual_page(monkeypatch: pytest.MonkeyPatch):
    asked = keys_asked_for(monkeypatch)
    page = (ROOT / "debian" / "gateway.toml.5").read_text("utf-8")
    written = {key.replace("\\-", "-") for key in re.findall(r"\\fB([\w\\,\- ]+?)\\fR", page)}
    written = {name for entry in written for name in entry.split(", ")}
    assert asked - written == set(), "debian/gateway.toml.5 does not tell of these keys"
    assert written - asked == set(), "debian/gateway.toml.5 tells of keys that there are not"


def keys_asked_for(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that the configuration looks for, but those that it refuses as not supported yet."""
    asked: set[str] = set()

    def noting(self, key, kind, default, **options):
        asked.add(key)
        return read(self, key, kind, default, **options)

    read = Table.read
    monkeypatch.setattr(Table, "read", noting)
    text = """
        mqtt = {url = "mqtt://127.0.0.1"}
        ports = [{name = "a", kind = "optical", device = "/dev/a"}, {name = "b", kind = "tcp", address = "127.0.0.1:1"}]
        meters = [{id = "m", port = "a"}]
        profiles = {p = {match = {object = "0-0:96.1.1.255", pattern = "X"}}}
        windows = {w = {start = "22:00", duration = "5h"}}
    """
    mistakes = Mistakes()
    settings, secrets = (Table(annotated(some), "", mistakes) for some in (text, "meters = {m = {}}"))
    sections.build(settings, secrets, mistakes)
    return (asked - INSIDE_MATCH) | READ_OTHERWISE


def annotated(text: str) -> Node:
    return annotate(tomllib.loads(text), Path("gateway.toml"))
