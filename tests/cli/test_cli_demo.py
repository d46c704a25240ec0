"""`meter-gateway demo`, on a line that is faster than a person can read, and when something of it is broken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.broker import mosquitto_path
from support.patience import PATIENCE_S

from gateway.cli import demo, main, virtual

FAST = """
from gateway.cli import demo, main, virtual
demo._BAUD, demo._VERIFY_S, demo._REBOOT_S = 115200, 0.2, 0.5
virtual.PROFILE = {**virtual.PROFILE, "reconnect_after": "500ms"}
raise SystemExit(main())
"""


def children(directory: Path) -> set[str]:
    """What runs on this machine because of a demonstration in that directory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes()
        except OSError:
            continue
        if f"{directory}/meter-gateway-demo-".encode() in words:
            found.add(process.parent.name)
    return found


@pytest.fixture
def tmp_path():
    """The path of a socket is short (unix(7)), and that of pytest's own directories may be long."""
    with tempfile.TemporaryDirectory(prefix="mgw-") as directory:
        yield Path(directory)


def test_it_ends_with_what_the_meter_reports_and_leaves_nothing_behind(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", FAST, "demo", "--broker-binary", str(mosquitto_path())],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[-1] == "The meter reported version 1.0.0 before, and reports version 2.0.0 now."
    for words in (
        "manifest  signed with Ed25519 key",
        "MQTT  ->  cmd/campaign.submit",
        "MQTT  <-  rsp accepted",
        "transferring",
        "confirming",
    ):
        assert any(words in line for line in lines), words
    assert not list(tmp_path.iterdir())


def test_a_meter_that_does_not_want_it_makes_it_fail_with_reason_and_log(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = virtual.meters
    monkeypatch.setattr(
        virtual,
        "meters",
        lambda *args, **options: [replace(spec, transfer_enabled=False) for spec in made(*args, **options)],
    )
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["demo", "--broker-binary", str(mosquitto_path())]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    said = capsys.readouterr().err
    assert "the demonstration failed: MTR0001 ended failed: T_DISABLED" in said
    assert "-- the gateway's log" in said
    assert "ready: 1 ports, 1 meters" in said
    assert not children(tmp_path)


def test_a_broker_that_does_not_start_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["demo", "--broker-binary", "/bin/false"]) == 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert "the broker ended with status 1" in capsys.readouterr().err
    assert not children(tmp_path)


def test_without_a_broker_it_says_where_to_get_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(demo, "_ELSEWHERE", str(tmp_path))
    assert main(["demo"]) == 2
    assert "make demo" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_all_that_it_started(tmp_path, number):
    running = subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--broker-binary", str(mosquitto_path())],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if "rsp accepted" in line:
            break
    assert children(tmp_path)
    running.send_signal(number)
    running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert not children(tmp_path)
    assert not list(tmp_path.iterdir())
