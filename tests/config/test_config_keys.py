"""Keys: where they may stand, who may read them, and that no mistake ever shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError

SECRET = "000102030405060708090A0B0C0D0E0F"
SETTINGS = """
[gateway]
system_title = "4D47570000000001"
[[ports]]
name = "p"
kind = "rs485"
device = "/dev/ttyS9"
[[meters]]
id = "m"
port = "p"
authentication = "hls-gmac"
"""
KEYS = f'[meters.m]\nencryption_key = "{SECRET}"\nauthentication_key = "{SECRET}"\n'


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def write(directory: Path, keys: str, *, settings: str = SETTINGS, mode: int = 0o600) -> Path:
    (directory / "gateway.toml").write_text(settings)
    (directory / "keys.toml").write_text(keys)
    (directory / "keys.toml").chmod(mode)
    return directory / "gateway.toml"


def mistakes_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    return list(caught.value.mistakes)


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int, good: bool) -> None:
    file = write(tmp_path, KEYS, mode=mode)
    if good:
        assert config.load(file).keys["m"].encryption_key == bytes(range(16))
        return
    assert (
        f"{tmp_path}/keys.toml: found mode {mode:04o}, expected mode 0600 or stricter" in mistakes_of(file)[0]
    )


def test_a_systemd_credential_goes_before_the_file_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "", mode=0o644)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert "mode 0644" in mistakes_of(file)[0]
    (credentials / "keys.toml").write_text(KEYS)
    assert config.load(file).keys["m"].authentication_key == bytes(range(16))


@pytest.mark.parametrize(
    ("meter", "missing"),
    [
        ("security = 'both'", ["encryption_key", "authentication_key"]),
        ("security = 'encryption'", ["encryption_key"]),
        ("security = 'authentication'", ["encryption_key", "authentication_key"]),
        ("authentication = 'hls-gmac'", ["encryption_key", "authentication_key"]),
        ("authentication = 'lls'", ["password"]),
        ("authentication = 'none'", []),
    ],
)
def test_a_meter_needs_the_secrets_of_the_way_it_is_talked_to(
    tmp_path: Path, meter: str, missing: list[str]
) -> None:
    file = write(tmp_path, "", settings=SETTINGS.replace('authentication = "hls-gmac"', meter))
    if not missing:
        config.load(file)
        return
    found = mistakes_of(file)
    assert [line.split(": ")[1] for line in found] == [f"meters.m.{key}" for key in missing]
    assert all("keys.toml: " in line and "found nothing" in line for line in found)


def test_ciphering_needs_the_title_of_the_gateway_and_says_so_once(tmp_path: Path) -> None:
    file = write(tmp_path, KEYS, settings=SETTINGS.replace('system_title = "4D47570000000001"', ""))
    (line,) = mistakes_of(file)
    assert line.startswith(f"{file}: gateway.system_title: found nothing, expected 8 octets")


def test_keys_may_be_there_before_their_meter_is_put_by_command(tmp_path: Path) -> None:
    read = config.load(write(tmp_path, KEYS + '[meters.other]\npassword = "x"\n'))
    assert read.keys["other"].password == b"x"
    assert [meter.id for meter in read.meters] == ["m"]


def test_the_name_of_such_a_meter_is_an_id(tmp_path: Path) -> None:
    (line,) = mistakes_of(write(tmp_path, KEYS + '[meters."an other"]\npassword = "x"\n'))
    assert line.startswith(
        f'{tmp_path}/keys.toml: meters."an other": found the name "an other", expected an id'
    )


@pytest.mark.parametrize(
    "keys",
    [
        KEYS.replace(SECRET, SECRET + "00"),
        KEYS + f'broadcast_key = "{SECRET}00"\n',
        KEYS + f'pasword = "{SECRET}"\n',
        KEYS + f'password = ["{SECRET}"]\n',
        KEYS + f'encryption_key = "{SECRET}"\n',
        KEYS + f'password = "hex:{SECRET}{SECRET}{SECRET}{SECRET}{SECRET}"\n',
        KEYS + f'initial_counter = "{SECRET}"\n',
        f'meters = "{SECRET}"',
        f'[meters]\nm = "{SECRET}"',
        f'"{SECRET}',
    ],
)
def test_no_mistake_shows_a_secret(tmp_path: Path, keys: str) -> None:
    found = mistakes_of(write(tmp_path, keys))
    assert SECRET not in "\n".join(found)


def test_a_meter_may_have_a_broadcast_key_and_nobody_sees_it(tmp_path: Path) -> None:
    other = "B0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF"
    read = config.load(write(tmp_path, KEYS + f'broadcast_key = "{other}"\n'))
    (keys,) = read.keys.values()
    assert keys.broadcast_key == bytes.fromhex(other)
    assert repr(keys.broadcast_key) not in repr(read) + repr(read.keys)


def test_a_configuration_never_shows_its_keys(tmp_path: Path) -> None:
    read = config.load(write(tmp_path, KEYS))
    assert repr(bytes(range(16))) not in repr(read) + repr(read.keys)
