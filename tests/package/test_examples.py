"""What is installed for people to read: examples that load, rules that say what they mean. The manual pages are made,
and looked at in tests/docs; the package itself is tried by tests/package/run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway import config
from gateway.model import Authentication, Framing, PortKind

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "etc" / "examples"


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
