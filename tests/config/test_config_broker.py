"""Brokers and image servers: what their files must hold, found out before one of them is asked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from support.certificates import Authority, with_passphrase

from gateway import config
from gateway.errors import ConfigError
from gateway.model import FirmwareSettings, MqttSettings

PASSPHRASE = "correct horse battery staple"


class Files(NamedTuple):
    ca: Path
    cert: Path
    key: Path
    other_key: Path
    locked: Path
    password: Path
    rubbish: Path
    missing: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("files")
    authority = Authority(directory)
    certificate, key = authority.sign("gw-001")
    password, rubbish = directory / "password", directory / "rubbish"
    password.write_text("s3cret\n")
    rubbish.write_bytes(b"\x30\x82\xff\xfe no certificate")
    return Files(
        authority.file, certificate, key, authority.sign("gw-002")[1], with_passphrase(key, PASSPHRASE.encode()),
        password, rubbish, directory / "missing",
    )  # fmt: skip


def load(directory: Path, files: Files, lines: str) -> MqttSettings:
    """`lines` of [mqtt]; `{ca}` is the path of that file."""
    file = directory / "gateway.toml"
    file.write_text(f'[gateway]\nid = "g"\n[mqtt]\n{lines.format(**files._asdict())}\n')
    settings = config.load(file).mqtt
    assert settings is not None
    return settings


TLS = "url = 'mqtts://b'\n"
MUTUAL = f"{TLS}ca_file = '{{ca}}'\ncert_file = '{{cert}}'\nkey_file = '{{key}}'"


def test_authority_certificate_and_key_are_taken_as_they_are(tmp_path: Path, files: Files) -> None:
    read = load(tmp_path, files, MUTUAL)
    assert (read.ca_file, read.cert_file, read.key_file) == (files.ca, files.cert, files.key)


def test_the_outbox_has_the_limit_that_is_configured(tmp_path: Path, files: Files) -> None:
    assert load(tmp_path, files, f"{TLS}outbox_limit = '2MiB'").outbox_limit_bytes == 2 * 2**20
    assert load(tmp_path, files, TLS).outbox_limit_bytes == 64 * 2**20


def test_the_password_comes_from_its_file_and_is_not_shown(tmp_path: Path, files: Files) -> None:
    read = load(tmp_path, files, f"{TLS}username = 'gw'\npassword_file = '{{password}}'")
    assert read.password == "s3cret"
    assert "s3cret" not in repr(read)


def test_without_a_file_the_password_is_what_systemd_hands_over(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(tmp_path, files, f"{TLS}username = 'gw'").password == ""
    (tmp_path / "mqtt-password").write_text("handed\n")
    assert load(tmp_path, files, f"{TLS}username = 'gw'").password == "handed"
    assert load(tmp_path, files, TLS).password == ""
    assert load(tmp_path, files, f"{TLS}username = 'gw'\npassword_file = '{{password}}'").password == "s3cret"


MISTAKES = {
    "a key without its certificate": (f"{TLS}key_file = '{{key}}'", ["mqtt.cert_file: found nothing"]),
    "a certificate without its key": (f"{TLS}cert_file = '{{cert}}'", ["mqtt.key_file: found nothing"]),
    "another certificate's key": (
        f"{TLS}cert_file = '{{cert}}'\nkey_file = '{{other_key}}'", ['mqtt.key_file: found "{other_key}"'],
    ),
    "a key with a passphrase": (
        f"{TLS}cert_file = '{{cert}}'\nkey_file = '{{locked}}'", ['mqtt.key_file: found "{locked}"'],
    ),
    "certificate and key in each other's place": (
        f"{TLS}cert_file = '{{key}}'\nkey_file = '{{cert}}'", ['mqtt.cert_file: found "{key}"'],
    ),
    "an authority that is none": (f"{TLS}ca_file = '{{rubbish}}'", ['mqtt.ca_file: found "{rubbish}"']),
    "files that are not there": (
        f"{TLS}ca_file = '{{missing}}'\ncert_file = '{{missing}}'\nkey_file = '{{missing}}'",
        ["mqtt.ca_file: ", "mqtt.cert_file: ", "mqtt.key_file: "],
    ),
    "TLS files without TLS": (
        "url = 'mqtt://127.0.0.1'\nca_file = '{ca}'\ncert_file = '{cert}'\nkey_file = '{key}'",
        ["mqtt.ca_file: ", "mqtt.cert_file: ", "mqtt.key_file: "],
    ),
    "a password and nobody's name": (f"{TLS}password_file = '{{password}}'", ["mqtt.username: found nothing"]),
    "a password file that is not there": (
        f"{TLS}username = 'gw'\npassword_file = '{{missing}}'", ['mqtt.password_file: found "{missing}"'],
    ),
    "a password that is no text": (
        f"{TLS}username = 'gw'\npassword_file = '{{rubbish}}'", ['mqtt.password_file: found "{rubbish}"'],
    ),
    "no TLS over a network": ("url = 'mqtt://192.0.2.1'", ["mqtt.url: "]),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_is_wrong_is_told_once_by_key_and_nothing_secret(
    tmp_path: Path, files: Files, lines: str, expected: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, files, lines)
    mistakes = raised.value.mistakes
    wanted = [f"{tmp_path}/gateway.toml: {line.format(**files._asdict())}" for line in expected]
    assert len(mistakes) == len(wanted)
    assert all(line.startswith(beginning) for line, beginning in zip(sorted(mistakes), wanted, strict=True))
    assert not any(secret in line for secret in ("s3cret", PASSPHRASE, "PRIVATE") for line in mistakes)


# -- image servers --------------------------------------------------------------------------------------------


def firmware(directory: Path, files: Files, lines: str) -> FirmwareSettings:
    """`lines` of [firmware]."""
    file = directory / "gateway.toml"
    file.write_text(f"[firmware]\n{lines.format(**files._asdict())}\n")
    return config.load(file).firmware


def test_image_servers_have_files_of_their_own_and_a_proxy(tmp_path: Path, files: Files) -> None:
    lines = "ca_file = '{ca}'\ncert_file = '{cert}'\nkey_file = '{key}'\nproxy = 'http://proxy.example:3128'"
    read = firmware(tmp_path, files, lines)
    assert (read.ca_file, read.cert_file, read.key_file) == (files.ca, files.cert, files.key)
    assert read.proxy == "http://proxy.example:3128"


def test_without_them_the_machine_decides_whom_to_believe(tmp_path: Path, files: Files) -> None:
    read = firmware(tmp_path, files, "")
    assert (read.ca_file, read.cert_file, read.key_file, read.proxy) == (None, None, None, "")


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("key_file = '{key}'", "cert_file"),
        ("cert_file = '{cert}'\nkey_file = '{other_key}'", "key_file"),
        ("ca_file = '{rubbish}'", "ca_file"),
        ("proxy = 'https://proxy.example:3128'", "proxy"),
        ("proxy = 'http://proxy.example'", "proxy"),
        ("proxy = 'http://u:s3cret@proxy.example:3128'", "proxy"),
        ("proxy = 'http://proxy.example:3128/path'", "proxy"),
        ("proxy = 'proxy.example:3128'", "proxy"),
    ],
)
def test_what_is_wrong_there_is_told_by_key(tmp_path: Path, files: Files, lines: str, key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        firmware(tmp_path, files, lines)
    [mistake] = raised.value.mistakes
    assert mistake.startswith(f"{tmp_path}/gateway.toml: firmware.{key}: found ")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:s3cret@proxy.example:3128", "http://...@proxy.example:3128"),
        ("http://u:s3@cret@proxy.example:3128", "http://...@proxy.example:3128"),
        ("u:s3cret@proxy.example:3128", "...@proxy.example:3128"),
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(
    tmp_path: Path, files: Files, url: str, shown: str
) -> None:
    for lines in (f"proxy = '{url}'", f"allow_hosts = ['{url}']"):
        with pytest.raises(ConfigError) as raised:
            firmware(tmp_path, files, lines)
        [mistake] = raised.value.mistakes
        assert shown in mistake
        assert "cret" not in mistake
