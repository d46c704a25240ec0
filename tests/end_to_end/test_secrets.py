"""Nothing that the gateway says or keeps has a key or a password in it (invariant 13).

The real daemon, verbose, with a broker and four meters: keys that are right and wrong, a password that is right and
wrong. The line is watched meanwhile, deciphered and not. Then everything that left the process is searched for them in
every form in which one would slip out: log, messages, replies, the command line's output, the status page, the state on
disk, the broker's own files, the process as others see it.
They stand in keys.toml and nowhere else.
"""

import base64
import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.http_server import ImageServer
from support.patience import PATIENCE_S, eventually
from support.running import NEW, RunningGateway, free_port

from gateway.cli import main
from gateway.model import Authentication, MeterKeys, Security

BASE = "mgw/v1/gw-001"
IMAGE = bytes(number * 11 % 253 for number in range(6000))


def secret_octets(name):
    return hashlib.sha256(f"the {name} of a test".encode()).digest()[:16]


ENCRYPTION, AUTHENTICATION, WRONG = map(secret_octets, ("encryption key", "authentication key", "wrong key"))
PASSWORD, WRONG_PASSWORD, BROKER_PASSWORD = b"s3cret-meter", b"wr0ng-meter!", b"br0ker-pa55word"
SECRETS = {
    "encryption key": ENCRYPTION, "authentication key": AUTHENTICATION, "wrong key": WRONG, "password": PASSWORD,
    "wrong password": WRONG_PASSWORD, "broker's password": BROKER_PASSWORD,
}  # fmt: skip
KEYS = f"""
[meters.MTR0001]
encryption_key = "{ENCRYPTION.hex()}"
authentication_key = "{AUTHENTICATION.hex()}"
[meters.MTR0002]
encryption_key = "{WRONG.hex()}"
authentication_key = "{AUTHENTICATION.hex()}"
[meters.MTR0003]
password = "{PASSWORD.decode()}"
[meters.MTR0004]
password = "hex:{WRONG_PASSWORD.hex()}"
"""
WITH_PASSWORD = {
    "authentication": Authentication.LLS, "security": Security.NONE, "keys": MeterKeys(password=PASSWORD),
}  # fmt: skip
METERS = {
    0: {"keys": MeterKeys(ENCRYPTION, AUTHENTICATION)}, 1: {"keys": MeterKeys(ENCRYPTION, AUTHENTICATION)},
    2: WITH_PASSWORD, 3: WITH_PASSWORD,
}  # fmt: skip


# -- the search -----------------------------------------------------------------------------------------------


def forms(secret):
    """Every way in which these octets would be written by accident."""
    yield secret
    octets = [f"{octet:02x}" for octet in secret]
    for joint in ("", " ", ":", "-", ",", ", ", "\\x", ", 0x"):
        yield joint.join(octets).encode()
    yield repr(secret)[2:-1].encode()
    yield json.dumps(secret.decode("latin-1"))[1:-1].encode()
    yield ", ".join(map(str, secret)).encode()
    yield ",".join(map(str, secret)).encode()
    # Base64 of something with the secret in the middle: three alignments, without what the neighbours decide.
    for before in range(3):
        whole = bytes(before) + secret
        cut = whole[: len(whole) // 3 * 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(cut)[4 * (before > 0) :]


def found_in(text):
    """The names of the secrets that are in `text`."""
    folded = text.lower()
    return {
        name
        for name, secret in SECRETS.items()
        if any(form in text or form.lower() in folded for form in forms(secret))
    }


@pytest.mark.parametrize("name", SECRETS)
def test_the_search_would_find_it(name):
    secret = SECRETS[name]
    slips = [
        b"key=" + secret + b"\n", f"key {secret.hex().upper()}".encode(), f"{secret!r}".encode(),
        secret.hex(":").encode(), str(list(secret)).encode(), json.dumps({"k": secret.hex()}).encode(),
        *(base64.b64encode(b"x" * before + secret + b"yz") for before in range(4)),
    ]  # fmt: skip
    for slip in slips:
        assert found_in(slip) == {name}, slip


# -- the gateway ----------------------------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def gateway(tmp_path, broker):
    directory = tmp_path / "gateway"
    directory.mkdir()
    password_file = tmp_path / "broker-password"
    password_file.write_bytes(BROKER_PASSWORD)
    password_file.chmod(0o600)
    mqtt = {"url": broker.url, "username": "gw-001", "password_file": str(password_file)}
    page = {"listen": f"127.0.0.1:{free_port()}"}
    sections = {"gateway": {"id": "gw-001"}, "mqtt": mqtt, "page": page}
    verbose = "import sys; sys.argv.append('--verbose')"
    running = RunningGateway(directory, meters=4, sections=sections, changes=METERS, before=verbose)
    (directory / "keys.toml").write_text(KEYS)
    running.page = f"http://{page['listen']}/"
    try:
        yield running
    finally:
        running.close()


class Said:
    """Everything that was heard or found, by where."""

    def __init__(self):
        self.texts = {}

    def add(self, where, *texts):
        found = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
        self.texts[where] = self.texts.get(where, b"") + b"\n".join(found) + b"\n"

    def add_files(self, directory, *but):
        for path in directory.rglob("*"):
            if path.is_file() and path not in but:
                self.add(str(path), str(path), path.read_bytes())


def publish(head_end, verb, args):
    """Send a command; its id."""
    now = datetime.now(UTC).replace(microsecond=0)
    command = {
        "v": 1, "cmd_id": str(uuid.uuid4()), "issued": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "expires": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "args": args,
    }  # fmt: skip
    head_end.publish(f"{BASE}/cmd/{verb}", json.dumps(command).encode())
    return command["cmd_id"]


def replies(head_end, cmd_id):
    documents = [heard.document for heard in head_end.heard(f"{BASE}/rsp")]
    return [reply for reply in documents if reply["cmd_id"] == cmd_id]


def work(head_end, url):
    """An order for all meters, and probes of all of them, from far away."""
    image = {"sha256": hashlib.sha256(IMAGE).hexdigest(), "url": url, "size": len(IMAGE)}
    order = {
        "campaign_id": "fw-2", "image": image, "identifier": "FW-2", "expect_version": NEW, "targets": "all",
    }  # fmt: skip
    order_id = publish(head_end, "campaign.submit", order)
    eventually(lambda: len(replies(head_end, order_id)) == 2)
    probe_ids = [publish(head_end, "meter.probe", {"meter": f"MTR000{number}"}) for number in range(1, 5)]
    for verb in ("info.get", "meter.list", "port.list", "campaign.list"):
        asked = publish(head_end, verb, {})
        eventually(lambda asked=asked: bool(replies(head_end, asked)))
    ends = {"done", "failed", "rejected"}
    eventually(lambda: all(ends & {r["status"] for r in replies(head_end, one)} for one in probe_ids))
    jobs = {
        heard.document["meter"]: heard.document["code"] or heard.document["state"]
        for heard in head_end.heard()
        if "/job/" in heard.topic
    }
    probes = [replies(head_end, one)[-1]["code"] for one in probe_ids]
    return jobs, probes


class Watcher:
    """`meter-gateway trace`, as JSON with every octet and as a file for Wireshark, until it is told to end."""

    def __init__(self, gateway, *words):
        self.capture = gateway.directory / f"line{'-'.join(words)}.pcapng"
        before = gateway.said().count("watched")
        line = ["trace", "rs485-1", "--json", "--pcapng", str(self.capture), *words]
        command = [sys.executable, "-m", "gateway", *line, "--config", str(gateway.config)]
        # A file: a pipe that nobody reads meanwhile would fill.
        self.told = gateway.directory / f"told{'-'.join(words)}"
        with self.told.open("wb") as told:
            self.process = subprocess.Popen(command, stdout=told, stderr=subprocess.PIPE)
        eventually(lambda: gateway.said().count("watched") > before)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        complaint = self.process.communicate(timeout=PATIENCE_S)[1]
        return self.told.read_bytes() + complaint


COMMAND_LINES = [
    "check", "status", "status --json", "campaign ls --json", "campaign show fw-2", "campaign watch fw-2",
    *(f"probe MTR000{number}" for number in range(1, 5)), "probe MTR0002 --json", "counter adopt MTR0001 9000000",
    "counter adopt MTR0001 5",
]  # fmt: skip


def test_no_secret_is_anywhere_but_in_its_own_file(tmp_path, gateway, broker, capsys):
    said = Said()
    keys_file = gateway.directory / "keys.toml"

    def type_in(line):
        status = main([*line.split(), "--config", str(gateway.config)])
        said.add(line, f"exit {status}", *capsys.readouterr())

    with ImageServer(IMAGE) as server, HeadEnd(broker.port, f"{BASE}/#") as head_end:
        gateway.start()
        head_end.wait_for(f"{BASE}/state")  # before it, nobody hears an order
        watchers = {"trace": Watcher(gateway), "trace deciphered": Watcher(gateway, "--decipher")}
        try:
            jobs, probes = work(head_end, server.url)
        finally:
            for where, watcher in watchers.items():
                said.add(where, watcher.end())
        for line in COMMAND_LINES:
            type_in(line)
        for path in ("", "live.json", "metrics"):
            with urllib.request.urlopen(gateway.page + path, timeout=PATIENCE_S) as page:
                said.add("page", page.read())
        process = Path(f"/proc/{gateway.process.pid}")
        said.add("process", *((process / name).read_bytes() for name in ("cmdline", "environ", "status")))
        # A configuration with mistakes in the secrets themselves, at check and at reload.
        keys_file.write_text(KEYS.replace(WRONG.hex(), WRONG.hex()[:-1]).replace("hex:", "hex:0"))
        type_in("check")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for("configuration has mistakes")
        keys_file.write_text(KEYS)
        assert gateway.stop() == 0
        said.add("heard", *(f"{one.topic} {one.correlation!r} {one.payload!r}" for one in head_end.heard()))
        said.add("heard raw", *(one.payload for one in head_end.heard()))
    said.add_files(tmp_path, keys_file, tmp_path / "broker-password")

    # It did what would have told: associations that worked, and others that failed.
    assert jobs == {
        "MTR0001": "updated", "MTR0002": "T_SECURITY", "MTR0003": "updated", "MTR0004": "T_SECURITY",
    }  # fmt: skip
    assert probes == [None, "T_SECURITY", None, "T_SECURITY"]
    assert b"DEBUG" in said.texts[str(gateway.log)]
    for expected in ("store.db", "counters.json", "gateway.toml", "mosquitto.log"):
        assert any(expected in where for where in said.texts), expected
    assert b"left alone since" in said.texts["heard"]
    assert b"LEFT ALONE" in said.texts["status"]
    assert b"keys.toml" in said.texts["check"]
    assert b"left alone" in said.texts["page"] and b"meters_parked 2" in said.texts["page"]
    for where in watchers:
        assert b"password (not shown)" in said.texts[where]
        assert b"glo-action-request" in said.texts[where]
        assert said.texts[where].count(b"IC ") > 20
    assert b"image block transfer" in said.texts["trace deciphered"]
    assert b'"deciphered"' not in said.texts["trace"]
    assert b'"kind":"trace"' in said.texts["heard raw"].replace(b" ", b"")

    assert [(where, found) for where, text in said.texts.items() if (found := found_in(text))] == []
    assert found_in(keys_file.read_bytes()) == set(SECRETS) - {"broker's password"}
