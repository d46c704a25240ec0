"""The file that is installed: safe as it stands, and right in everything it suggests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.certificates import Authority
from support.signed import Signatory

from gateway import config
from gateway.model import Trust

SHIPPED = Path(__file__).parents[2] / "etc" / "gateway.toml"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def test_as_it_stands_it_opens_nothing_and_trusts_nothing():
    read = config.load(SHIPPED)
    assert (read.mqtt, read.ports, read.meters) == (None, (), ())
    assert read.firmware.trust is Trust.SIGNED
    assert read.firmware.allow_hosts == ()


def test_everything_it_suggests_is_right(tmp_path):
    text = re.sub(r"^#(?=[\[a-z])", "", SHIPPED.read_text("utf-8"), flags=re.MULTILINE)
    (tmp_path / "mqtt.password").write_text("x")
    authority = Authority(tmp_path / "ca")
    made = (authority.file, *authority.sign("gw-001"))
    for file, name in zip(made, ("broker-ca.pem", "gateway.pem", "gateway.key"), strict=True):
        file.rename(tmp_path / name)
    (tmp_path / "firmware-ca.pem").write_bytes((tmp_path / "broker-ca.pem").read_bytes())
    (tmp_path / "trust").mkdir()
    Signatory("utility").write(tmp_path / "trust")
    text = text.replace("/etc/meter-gateway/", f"{tmp_path}/")
    (tmp_path / "gateway.toml").write_text(text)
    (tmp_path / "keys.toml").touch(0o600)
    keys = "\n".join(f'{name}_key = "{"0F" * 16}"' for name in ("encryption", "authentication"))
    (tmp_path / "keys.toml").write_text(f"[meters.MTR0001]\n{keys}\n")
    read = config.load(tmp_path / "gateway.toml")
    assert read.mqtt is not None
    assert [port.name for port in read.ports] == ["rs485-1", "lan"]
    assert read.meters[0].profile.name == "acme-x3"
