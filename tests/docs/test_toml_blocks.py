"""Every piece of configuration that the documentation shows is one that the gateway takes, where it belongs."""

import re
import tomllib
from pathlib import Path

import pytest
from support.certificates import Authority
from support.pages import blocks
from support.signed import Signatory

from gateway import config
from gateway.errors import ConfigError

FILE = re.compile(r'(\w+) *= *(?:\[ *)?((?:"/[^"]+"(?:, *)?)+)')
SECRETS = f'encryption_key = "{"0F" * 16}"\nauthentication_key = "{"F0" * 16}"\npassword = "12345678"\n'


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def with_its_files(text: str, directory: Path) -> str:
    """The same configuration with the files that it names beneath `directory`, and there."""
    authority = Authority(directory / "authority")
    certificate, private = authority.sign("gw-001")
    for key, paths in FILE.findall(text):
        for path in re.findall(r'"([^"]+)"', paths):
            file = directory / path.strip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            match key:
                case "trusted_keys":
                    Signatory(file.stem).write(file.parent).rename(file)
                case "ca_file" | "trusted_root":
                    file.write_bytes(authority.file.read_bytes())
                case "cert_file":
                    file.write_bytes(certificate.read_bytes())
                case "key_file":
                    file.write_bytes(private.read_bytes())
                case "password_file":
                    file.write_text("secret")
                case _:
                    continue
            text = text.replace(f'"{path}"', f'"{file}"')
    return text


def surroundings(tree) -> str:
    """What the configuration names and does not say: ports, profiles, the gateway's own names, a broker."""
    lines = ["[gateway]"]
    own = tree.get("gateway", {})
    lines += ['id = "gw-001"'] * ("id" not in own) + ['system_title = "4D47570000000001"'] * (
        "system_title" not in own
    )
    if "url" not in tree.get("mqtt", {"url": ""}):
        lines += ["[mqtt]", 'url = "mqtts://broker.example"']
    meters = tree.get("meters", [])
    known = {port["name"] for port in tree.get("ports", [])}
    for name in sorted({meter["port"] for meter in meters} - known):
        lines += ["[[ports]]", f'name = "{name}"', 'kind = "rs485"', f'device = "/dev/{name}"']
    for name in sorted({meter.get("profile", "default") for meter in meters} - set(tree.get("profiles", ()))):
        lines += [f"[profiles.{name}]"]
    return "\n".join(lines)


def load(text: str, directory: Path):
    """The block as `gateway.toml`, or as `keys.toml` where it has a table for each meter."""
    tree = tomllib.loads(text)
    text = with_its_files(text, directory)
    keys = "".join(f"[meters.{meter['id']}]\n{SECRETS}" for meter in tree.get("meters", ()) if "id" in meter)
    if isinstance(tree.get("meters"), dict):
        keys = text
        meters = [
            f'[[meters]]\nid = "{name}"\nport = "bus"\nphysical_address = {number}\n'
            for number, name in enumerate(tree["meters"], start=17)
        ]
        text = "".join(meters)
        tree = tomllib.loads(text)
    (directory / "gateway.toml").write_text(text)
    (directory / "conf.d").mkdir()
    (directory / "conf.d" / "surroundings.toml").write_text(surroundings(tree))
    (directory / "keys.toml").touch(0o600)
    (directory / "keys.toml").write_text(keys)
    return config.load(directory / "gateway.toml")


@pytest.mark.parametrize("block", list(blocks("toml")), ids=str)
def test_a_configuration_that_is_shown_is_taken(block, tmp_path):
    load(block.text, tmp_path)


def test_one_that_is_not_taken_would_be_seen(tmp_path):
    with pytest.raises(ConfigError, match=r"profiles\.x\.blocksize: found an unknown key"):
        load("[profiles.x]\nblocksize = 12\n", tmp_path)
