"""Whose signatures count: keys and certificates in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.certificates import Authority
from support.signed import Signatory, p256

from gateway import config
from gateway.errors import ConfigError
from gateway.model import Trust

UTILITY, VENDOR = Signatory("utility"), p256("vendor")


@pytest.fixture
def mistakes_of(tmp_path):
    def read(text: str) -> list[str]:
        try:
            config.load(written(tmp_path, text))
        except ConfigError as error:
            return [line.partition(": ")[2] for line in error.mistakes]
        return []

    return read


def written(directory: Path, text: str) -> Path:
    file = directory / "gateway.toml"
    file.write_text(text)
    return file


def test_keys_and_roots_are_read_from_their_files(tmp_path):
    keys = [str(signatory.write(tmp_path)) for signatory in (UTILITY, VENDOR)]
    root = Authority(tmp_path / "authority").file
    read = config.load(
        written(
            tmp_path,
            f"""
[firmware]
trusted_keys = {keys}
trusted_root = "{root}"
threshold = 3
[commands]
signed_verbs = ["campaign.*", "port.hold"]
trusted_keys = {keys[:1]}
""",
        )
    )
    assert read.firmware.trust is Trust.SIGNED
    assert read.firmware.trusted_keys == (UTILITY.trusted, VENDOR.trusted)
    assert read.firmware.trusted_root == root.read_bytes()
    assert read.firmware.threshold == 3, "those of a root sign too, and nobody knows how many they are"
    assert read.commands.signed_verbs == ("campaign.*", "port.hold")
    assert (read.commands.trusted_keys, read.commands.threshold) == ((UTILITY.trusted,), 1)


def test_without_any_key_nothing_is_signed_and_that_is_no_mistake(tmp_path):
    read = config.load(written(tmp_path, ""))
    assert read.firmware.trusted_keys == read.commands.trusted_keys == read.commands.signed_verbs == ()


def test_every_mistake_is_found(tmp_path, mistakes_of):
    key, twin = UTILITY.write(tmp_path), tmp_path / "twin.pem"
    twin.write_bytes(b"\n# the same\n" + key.read_bytes())
    no_key = tmp_path / "no-key.pem"
    no_key.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    def one(text: str) -> str:
        (line,) = mistakes_of(text)
        return line

    for name, head in (("firmware", "[firmware]\n"), ("commands", "[commands]\nsigned_verbs = ['ping']\n")):
        assert one(f"{head}trusted_keys = ['{tmp_path}/gone.pem']").startswith(f"{name}.trusted_keys: ")
        assert "No such file" in one(f"{head}trusted_keys = ['{tmp_path}/gone.pem']")
        assert "holds no such key" in one(f"{head}trusted_keys = ['{no_key}']")
        assert "has that of utility.pem" in one(f"{head}trusted_keys = ['{key}', '{twin}']")
        assert "2 different keys" in one(f"{head}trusted_keys = ['{key}']\nthreshold = 2")
        assert "from 1 to 16" in one(f"{head}trusted_keys = ['{key}']\nthreshold = 0")
        assert "an absolute path" in one(f"{head}trusted_keys = ['key.pem']")
    assert "root certificates in PEM" in one(f"[firmware]\ntrusted_root = '{key}'")
    assert "root certificates in PEM" in one(f"[firmware]\ntrusted_root = '{tmp_path}/gone.pem'")
    assert one("[commands]\nsigned_verbs = ['campaign.submit']").startswith(
        "commands.trusted_keys: found nothing"
    )
    assert one("[commands]\nsigned_verbs = ['campaign.order']").startswith("commands.signed_verbs: ")
