"""Watching a line at the gateway: in a terminal, in a pipe, as JSON, in a file for Wireshark; with a real daemon."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.patience import PATIENCE_S, eventually
from support.running import RunningGateway

from gateway.cli import main
from gateway.cli.pcapng import LINKTYPE_USER0
from gateway.model import Authentication, MeterKeys, Security

PASSWORD = b"Zq7#vKx9!pL2"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A meter with keys, and one with a password."""
    with_keys = {"keys": MeterKeys(bytes(range(16)), bytes(range(16, 32)))}
    with_password = {
        "authentication": Authentication.LLS, "security": Security.NONE, "keys": MeterKeys(password=PASSWORD),
    }  # fmt: skip
    changes = {0: with_keys, 1: with_password}
    running = RunningGateway(tmp_path_factory.mktemp("gateway"), meters=2, changes=changes)
    (running.directory / "keys.toml").write_text(
        f'[meters.MTR0001]\nencryption_key = "{bytes(range(16)).hex()}"\n'
        f'authentication_key = "{bytes(range(16, 32)).hex()}"\n[meters.MTR0002]\npassword = "{PASSWORD.decode()}"\n'
    )
    try:
        yield running.start()
    finally:
        running.close()


@dataclass
class Watcher:
    """`meter-gateway trace` in a process of its own, that watches already."""

    gateway: RunningGateway
    words: tuple[str, ...]
    options: dict[str, object] = field(default_factory=lambda: {"stdout": subprocess.PIPE})

    def __enter__(self):
        before = self.gateway.said().count("watched")
        command = [sys.executable, "-m", "gateway", "trace", "rs485-1", *self.words]
        self.process = subprocess.Popen(
            [*command, "--config", str(self.gateway.config)], stderr=subprocess.PIPE, **self.options
        )
        eventually(lambda: self.gateway.said().count("watched") > before)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self):
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err.decode()


def probe(gateway, meter):
    assert main(["probe", meter, "--config", str(gateway.config)]) == 0


def test_a_probe_is_seen_frame_by_frame_and_counted(gateway, capsys):
    with Watcher(gateway, ("--count", "12")) as watcher:
        probe(gateway, "MTR0001")
        status, out, err = watcher.end()
    assert (status, err) == (0, "")
    lines = out.decode().splitlines()
    heads = [line for line in lines if not line.startswith("    ")]
    assert sum(" -- " not in line for line in heads) == 12
    assert b"\x1b" not in out
    frames = [line for line in heads if " -- " not in line]
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}Z (->|<-) MTR0001 ", line) for line in frames), frames
    assert "-> MTR0001 SNRM" in frames[0]
    assert "<- MTR0001 UA" in frames[1]
    assert any("AARQ" in line for line in frames)
    assert "    7e a0 " in out.decode()


def test_a_terminal_has_colours_and_ctrl_c_says_that_the_daemon_goes_on(gateway, capsys):
    ours, theirs = pty.openpty()
    with Watcher(gateway, (), {"stdout": theirs, "env": {**os.environ, "TERM": "xterm"}}) as watcher:
        os.close(theirs)
        probe(gateway, "MTR0001")
        seen = b""
        deadline = time.monotonic() + PATIENCE_S
        while b"AARQ" not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(ours, 4096)
        watcher.process.send_signal(signal.SIGINT)
        err = watcher.process.communicate(timeout=PATIENCE_S)[1].decode()
    os.close(ours)
    assert watcher.process.returncode == 130
    assert "no longer watching rs485-1" in err
    assert "the daemon goes on" in err
    assert b"\x1b[36m" in seen


def test_json_is_a_line_each_and_it_ends_by_itself(gateway, capsys):
    with Watcher(gateway, ("--json", "--for", "60s", "--count", "8")) as watcher:
        probe(gateway, "MTR0001")
        status, out, _ = watcher.end()
    documents = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert sum(one["kind"] == "hdlc" for one in documents) == 8
    assert {one["port"] for one in documents} == {"rs485-1"}
    assert main(["trace", "rs485-1", "--for", "300ms", "--config", str(gateway.config)]) == 0


def test_deciphered_shows_what_was_asked_and_no_password_in_either(gateway, capsys):
    with Watcher(gateway, ("--decipher", "--octets", "4096", "--json", "--count", "40")) as watcher:
        probe(gateway, "MTR0001")
        probe(gateway, "MTR0002")
        status, out, err = watcher.end()
    assert (status, err) == (0, "")
    documents = [json.loads(line) for line in out.splitlines()]
    told = [one["deciphered"] for one in documents if "deciphered" in one]
    assert any("(image block size)" in one for one in told), told
    assert any("password (not shown)" in one.get("apdu", "") for one in documents)
    assert PASSWORD not in out
    assert PASSWORD.hex().encode() not in out


def test_a_port_that_is_not_there(gateway, capsys):
    assert main(["trace", "nowhere", "--config", str(gateway.config)]) == 1
    assert "E_NOT_FOUND: no port nowhere" in capsys.readouterr().err


def test_a_time_that_is_none_and_a_file_that_cannot_be(gateway, capsys, tmp_path):
    config = ["--config", str(gateway.config)]
    assert main(["trace", "rs485-1", "--for", "soon", *config]) == 2
    assert "expected a duration" in capsys.readouterr().err
    assert main(["trace", "rs485-1", "--pcapng", str(tmp_path / "no" / "file"), *config]) == 2
    assert "No such file" in capsys.readouterr().err


# -- a file for Wireshark -------------------------------------------------------------------------------------


def blocks(octets):
    """The blocks of a pcapng file: type, body, options by code. Each says its length twice."""
    at = 0
    while at < len(octets):
        kind, length = struct.unpack_from("<II", octets, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", octets, at + length - 4) == (length,)
        yield kind, octets[at + 8 : at + length - 4]
        at += length


def options(octets):
    found = {}
    at = 0
    while at < len(octets):
        code, length = struct.unpack_from("<HH", octets, at)
        if code == 0:
            break
        found[code] = octets[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found


def packets(octets):
    """(direction, seconds, octets, comment) of each packet."""
    (section, header), (interface, description), *rest = blocks(octets)
    assert (section, interface) == (0x0A0D0D0A, 1)
    assert struct.unpack_from("<IHHq", header) == (0x1A2B3C4D, 1, 0, -1)
    assert struct.unpack_from("<HHI", description) == (LINKTYPE_USER0, 0, 0)
    assert options(description[8:])[2] == b"rs485-1"
    for kind, body in rest:
        assert kind == 6
        number, high, low, captured, original = struct.unpack_from("<5I", body)
        assert (number, captured) == (0, original)
        said = options(body[20 + captured + -captured % 4 :])
        (flags,) = struct.unpack("<I", said[2])
        yield flags & 3, ((high << 32) + low) / 1e6, body[20 : 20 + captured], said[1].decode()


@pytest.fixture
def captured(gateway, tmp_path, capsys):
    """What a file has of a probe of each meter."""
    file = tmp_path / "line.pcapng"
    with Watcher(gateway, ("--pcapng", str(file), "--count", "40", "--octets", "0")) as watcher:
        probe(gateway, "MTR0001")
        probe(gateway, "MTR0002")
        assert watcher.end()[0] == 0
    return file


def test_a_file_has_the_frames_with_directions_times_and_words(captured):
    began = time.time()
    found = list(packets(captured.read_bytes()))
    assert len(found) == 40
    assert {way for way, *_ in found} == {1, 2}
    assert all(octets[:1] == octets[-1:] == b"\x7e" for _, _, octets, _ in found)
    assert all(began - PATIENCE_S < at <= began + 1 for _, at, _, _ in found)
    assert any("AARQ" in comment for *_, comment in found)
    assert any("octets are not shown" in comment for *_, comment in found)
    assert PASSWORD not in captured.read_bytes()
    assert captured.stat().st_mode & 0o077 == 0


def test_a_pipe_has_the_file_and_nothing_else(gateway, capsys):
    with Watcher(gateway, ("--pcapng", "-", "--count", "4")) as watcher:
        probe(gateway, "MTR0001")
        status, out, err = watcher.end()
    assert (status, err) == (0, "")
    assert len(list(packets(out))) == 4


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_reads_it(captured: Path):
    fields = ["-T", "fields", "-e", "frame.len", "-e", "frame.packet_flags_direction", "-e", "frame.comment"]
    read = subprocess.run(
        ["tshark", "-r", str(captured), *fields], capture_output=True, text=True, check=True
    )
    lines = read.stdout.splitlines()
    ours = list(packets(captured.read_bytes()))
    assert [int(line.split("\t")[0]) for line in lines] == [len(octets) for _, _, octets, _ in ours]
