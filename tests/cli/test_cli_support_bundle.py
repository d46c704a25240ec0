"""What is handed to a developer: everything that helps, whatever is broken, and no secret."""

import hashlib
import json
import stat
import tarfile

import pytest
from support.certificates import Authority
from support.running import RunningGateway

from gateway.cli import main
from gateway.cli.redaction import HIDDEN, Scrubber, configuration, secrets_in

ENCRYPTION, AUTHENTICATION = "00112233445566778899AABBCCDDEEFF", "F0E1D2C3B4A5968778695A4B3C2D1E0F"
SECRETS = {
    "a meter's password": "lls-passw0rd",
    "the broker's password": "br0ker-passw0rd",
    "a password in the wrong place": "misplaced-passw0rd",
    "a password in a comment": "commented-passw0rd",
    "a password in a URL": "url-passw0rd",
    "a token in a URL": "t0ken-of-a-url",
    "a token of a proxy": "pr0xy-passw0rd",
    "a password among hosts": "h0st-passw0rd",
    "an encryption key": ENCRYPTION,
    "an authentication key": AUTHENTICATION,
}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def home(tmp_path):
    """A configuration with secrets wherever somebody could have put one, right or wrong."""
    certificate, private = Authority(tmp_path / "ca").sign("gw-001")
    (tmp_path / "password").write_text("br0ker-passw0rd\n")
    (tmp_path / "keys.toml").touch(0o600)
    (tmp_path / "keys.toml").write_text(
        f'[meters.MTR0001]\npassword = "lls-passw0rd"\nencryption_key = "{ENCRYPTION}"\n'
        f'authentication_key = "{AUTHENTICATION}"\n'
    )
    (tmp_path / "gateway.toml").write_text(f"""
# the old one was commented-passw0rd
#password = "commented-passw0rd"
[gateway]
id = "gw-001"
system_title = "4D47570000000001"
state_dir = "{tmp_path}/state"
control_socket = "{tmp_path}/control.sock"

[mqtt]
url = "mqtts://gw-001:url-passw0rd@broker.example:8883?token=t0ken-of-a-url"
username = "{AUTHENTICATION.lower()}"
password = "misplaced-passw0rd"
password_file = "{tmp_path}/password"
cert_file = "{certificate}"
key_file = "{private}"

[firmware]
proxy = "http://gw:pr0xy-passw0rd@proxy.example:3128"
allow_hosts = ["gw:h0st-passw0rd@fw.example.net", "fw2.example.net"]

[[ports]]
name = "bus"
kind = "rs485"
device = "/dev/ttyS99"

[[meters]]
id = "MTR0001"
port = "bus"
physical_address = 17
encryption_key = "{ENCRYPTION}"
logical_device_name = "ACM0000000001"
""")
    main(["image", "keygen", str(tmp_path / "operations")])
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "more.toml").write_text(
        f'[commands]\nthreshold = 1\nkey = """\n{private.read_text()}"""\n'
    )
    return tmp_path


def write(home, *words):
    file = home / "bundle.tar.gz"
    status = main(["support-bundle", "-o", str(file), "--config", str(home / "gateway.toml"), *words])
    return status, file


def content(file):
    with tarfile.open(file) as archive:
        return {entry.name.partition("/")[2]: archive.extractfile(entry).read().decode() for entry in archive}


def private_lines(home):
    """Of the gateway's own key, and of one that signs orders and was left lying about."""
    texts = [file.read_text() for file in (*(home / "ca").glob("gw-001*.key"), home / "operations.key")]
    return [line for text in texts for line in text.splitlines() if not line.startswith("-----")]


def say(directory, program, text):
    """A program of that name on PATH, that says `text`."""
    directory.mkdir(exist_ok=True)
    (directory / "text").write_text(text)
    script = directory / program
    script.write_text(f"#!/bin/sh\ncat {directory}/text\n")
    script.chmod(0o755)


def test_no_secret_is_in_it_wherever_one_was_put(home, monkeypatch, capsys):
    known = ("a meter's password", "the broker's password", "an encryption key", "an authentication key")
    private = "\n".join(private_lines(home))
    url = "https://u:url-passw0rd@fw.example.net/x.bin?token=t0ken-of-a-url&x=pr0xy-passw0rd"
    journal = [*(SECRETS[what].lower() for what in known), url, f"-----BEGIN PRIVATE KEY-----\n{private}"]
    say(home / "bin", "journalctl", "\n".join(journal))
    monkeypatch.setenv("PATH", str(home / "bin"), prepend=":")
    status, file = write(home)
    assert status == 0, capsys.readouterr()
    everything = "".join(content(file).values()) + capsys.readouterr().out
    for what, secret in SECRETS.items():
        assert secret.lower() not in everything.lower(), what
    assert not [line for line in private_lines(home) if line in everything]
    assert "https://fw.example.net/x.bin" in everything


def test_what_helps_is_in_it(home, capsys):
    status, file = write(home, "--json")
    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    parts = content(file)
    assert [one["name"] for one in told["contents"]] == [name for name in parts if name != "contents.json"]
    shown = json.loads(parts["configuration/gateway.toml.json"])
    assert shown["gateway"]["id"] == "gw-001"
    assert shown["mqtt"]["password"] == HIDDEN
    assert shown["firmware"]["allow_hosts"] == [HIDDEN, "fw2.example.net"]
    assert shown["ports"] == [{"name": "bus", "kind": "rs485", "device": "/dev/ttyS99"}]
    assert shown["meters"][0]["physical_address"] == 17
    assert shown["meters"][0]["encryption_key"] == HIDDEN
    assert "mqtt.password: found an unknown key" in parts["configuration/mistakes.txt"]
    assert json.loads(parts["configuration/certificates.json"])[0]["subject"] == "CN=gw-001"
    assert json.loads(parts["machine.json"])["libraries"]["cryptography"]
    assert {one["name"] for one in told["left_out"]} >= {"status.json", "database.json", "events.txt"}
    assert "keys.toml" in parts["files.txt"]


def test_a_configuration_that_is_no_toml_is_shown_as_far_as_it_is(home, capsys):
    text = (home / "gateway.toml").read_text()
    (home / "gateway.toml").write_text(text + '\n[windows.night\nstart = "22:00"\n')
    status, file = write(home)
    parts = content(file)
    assert status == 0
    shown = json.loads(parts["configuration/gateway.toml.json"])
    assert {"baud": 9600} not in shown["lines"]
    assert {"id": "gw-001"} in shown["lines"]
    assert {"password": HIDDEN} in shown["lines"]
    everything = "".join(parts.values()) + capsys.readouterr().out
    assert not [what for what, secret in SECRETS.items() if secret.lower() in everything.lower()]


def test_a_gateway_that_runs_is_asked_and_its_state_is_looked_at(tmp_path, capsys):
    gateway = RunningGateway(tmp_path, meters=1)
    try:
        gateway.start()
        image = tmp_path / "FW.bin"
        image.write_bytes(b"firmware")
        url = "http://127.0.0.1:9/FW.bin?token=t0ken-of-a-url"
        main([
            "campaign", "submit", "--id", "fw-1", "--url", url, "--sha256", hashlib.sha256(b"x").hexdigest(),
            "--identifier", "FW", "--all", "--config", str(gateway.config),
        ])  # fmt: skip
        status, file = write(tmp_path)
    finally:
        gateway.close()
    assert status == 0
    parts = content(file)
    told = json.loads(parts["status.json"])
    assert told["campaign.list"]["campaigns"][0]["campaign_id"] == "fw-1"
    assert told["meter.list"]["meters"][0]["meter"] == "MTR0001"
    database = json.loads(parts["database.json"])
    assert database["integrity"] == ["ok"]
    assert database["rows"]["campaigns"] == 1
    assert json.loads(parts["events.txt"].splitlines()[0])["seq"] == 1
    everything = "".join(parts.values()) + capsys.readouterr().out
    keys = (tmp_path / "keys.toml").read_text()
    secrets = [line.partition('"')[2].strip('"') for line in keys.splitlines() if '"' in line]
    assert len(secrets) >= 2
    assert not [secret for secret in (*secrets, "t0ken-of-a-url") if secret.lower() in everything.lower()]


def test_a_journal_without_end_does_not_make_it_big(home, monkeypatch):
    say(home / "bin", "journalctl", "".join(f"line {number} of many\n" for number in range(300_000)))
    monkeypatch.setenv("PATH", str(home / "bin"), prepend=":")
    status, file = write(home)
    parts = content(file)
    assert status == 0
    assert sum(len(part) for part in parts.values()) < 16 * 2**20
    assert parts["journal.txt"].endswith("line 299999 of many\n")


def test_it_takes_nobodys_place(home, capsys):
    (home / "bundle.tar.gz").write_text("something else")
    status, file = write(home)
    assert status == 1
    assert file.read_text() == "something else"
    assert "File exists" in capsys.readouterr().err


def test_a_scrubbed_text_is_a_text_still():
    scrub = Scrubber(["s3cret", "abc"])
    assert scrub('{"url": "https://u:p@h/x?q=1", "n": "S3CRET"}') == '{"url": "https://h/x", "n": "(hidden)"}'
    assert scrub("abc") == "abc"
    quoted = '[meters."MTR0001"]\npassword = "hex:31323334"\nencryption_key = \'00FF\'\n'
    for keys in (quoted, quoted + "[broken"):
        assert secrets_in(keys) == {"hex:31323334", "31323334", "00FF"}
    assert configuration("zzz = 1\n[mqtt]\nurl = {password = 1}\n") == {
        "zzz": HIDDEN,
        "mqtt": {"url": HIDDEN},
    }
