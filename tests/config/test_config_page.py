"""Where the status page listens: nowhere unless it is said, and never at a place that it could not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError
from gateway.model import PageSettings


def load(directory: Path, text: str) -> PageSettings | None:
    file = directory / "gateway.toml"
    file.write_text(text)
    return config.load(file).page


def test_it_is_off_unless_an_address_is_named(tmp_path: Path) -> None:
    assert load(tmp_path, "") is None


@pytest.mark.parametrize("text, host, port", [
    ("127.0.0.1:8471", "127.0.0.1", 8471),
    ("[::1]:8471", "::1", 8471),
    ("192.0.2.7:1024", "192.0.2.7", 1024),
    ("0.0.0.0:65535", "0.0.0.0", 65535),  # noqa: S104 (as somebody may want it)
    ("[::]:8471", "::", 8471),
    ("[fe80::1%eth0]:8471", "fe80::1%eth0", 8471),
])  # fmt: skip
def test_an_address_of_this_machine(tmp_path: Path, text: str, host: str, port: int) -> None:
    assert load(tmp_path, f'[page]\nlisten = "{text}"') == PageSettings(host, port)


@pytest.mark.parametrize("text", [
    "8471", ":8471", "localhost:8471", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:65536", "127.0.0.1:0", "::1:8471",
    "[127.0.0.1]:8471", "224.0.0.1:8471", "[ff02::1]:8471", "1.2.3:8471", "http://127.0.0.1:8471", "127.0.0.1:8471/",
    "127.0.0.1:8471 ", "127.0.0.1:٨٤٧١",
])  # fmt: skip
def test_what_is_no_such_address_is_a_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, f"[page]\nlisten = '{text}'")
    [mistake] = refused.value.mistakes
    assert "page.listen: found " in mistake and "127.0.0.1:8471" in mistake


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "[page]\nport = 8471")
    assert [line.split(": ", 1)[1].split(",")[0] for line in refused.value.mistakes] == [
        "page.listen: found nothing",
        "page.port: found an unknown key",
    ]
