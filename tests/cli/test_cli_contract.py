"""What scripts hold on to: one exit status for each way a command can end, and JSON from everything that reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import click
import pytest
from support.commands import commands, example_files, words_of
from support.patience import PATIENCE_S
from support.running import NEW, RunningGateway
from support.terminal import Terminal

from gateway.cli import guide, main

COMMANDS = commands()
ALONE = {
    "run", "check", "image keygen", "image sign", "state export", "state import", "state adopt", "support-bundle",
    "simulate", "demo",
}  # fmt: skip
"""They ask no daemon."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Three meters on a line without speed, the third locked, and a window that is closed for hours."""
    directory = tmp_path_factory.mktemp("gateway")
    windows = {"windows.never": {"start": "00:00", "duration": "1h", "valid_from": "2099-01-01"}}
    running = RunningGateway(directory, meters=3, sections=windows, changes={2: {"transfer_enabled": False}})
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def firmware(tmp_path):
    file = tmp_path / "FW.bin"
    file.write_bytes(os.urandom(2000))
    return file


# -- JSON -----------------------------------------------------------------------------------------------------


def one(text: str) -> dict:
    """The one document that it is."""
    assert text.count("\n") == 1
    return json.loads(text)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def script(files, digest):
    """Every command with --json, in an order in which each finds what it needs: words, exit status, what it prints."""
    order = ("--sha256", digest, "--identifier", "FW", "--expect-version", NEW)
    held = ("campaign", "submit", "--id", "held", *order, "--meter", "MTR0002", "--window", "never")
    return [
        (("check",), 0, one),
        (("status",), 0, one),
        (("meters",), 0, one),
        (("meters", "put", "MTR0009", "--port", "rs485-1", "--address", "1/40"), 0, one),
        (("meters", "rm", "MTR0009"), 0, one),
        (("read", "MTR0001"), 0, one),
        (("read", "MTR0001", "1-0:0.2.0.255:2"), 0, one),
        (("probe", "MTR0001"), 0, one),
        (("probe", "MTR9"), 1, one),
        (("counter", "adopt", "MTR0001", "70000"), 0, one),
        (("ports",), 0, one),
        (("scan", "rs485-1", "--from", "17", "--to", "18", "--timeout", "50ms"), 0, one),
        (("trace", "rs485-1", "--for", "100ms"), 0, lines),
        (("port", "hold", "rs485-1", "--for", "1h"), 0, one),
        (("port", "release", "rs485-1"), 0, one),
        (("image", "add", str(files / "FW.bin")), 0, one),
        (("image", "ls"), 0, one),
        (("image", "show", digest[:12]), 0, one),
        (("image", "show", "0" * 64), 1, one),
        (("image", "keygen", str(files / "third")), 0, one),
        (("image", "sign", "--add", str(files / "FW-4.1.7.bin.manifest"), "--key", str(files / "third.key")), 0, one),
        (("window", "ls"), 0, one),
        (("window", "set", "weekend", "--start", "02:00", "--duration", "1h", "--day", "sat"), 0, one),
        (held, 0, one),
        (held, 1, one),
        (("campaign", "ls"), 0, one),
        (("campaign", "show", "held"), 0, one),
        (("campaign", "report", "held"), 0, one),
        (("campaign", "pause", "held"), 0, one),
        (("campaign", "resume", "held"), 0, one),
        (("campaign", "retry", "held"), 1, one),
        (("campaign", "approve", "held"), 1, one),
        (("campaign", "cancel", "held"), 0, one),
        (("campaign", "watch", "held"), 1, lines),
        (("image", "rm", digest[:12]), 0, one),
        (("update", "MTR0001", str(files / "FW.bin"), "--expect-version", NEW), 0, lines),
        (("update", "MTR0003", str(files / "FW.bin")), 1, lines),
        (("events", "-n", "3"), 0, one),
        (("state", "export", str(files / "state")), 0, one),
        (("state", "import", str(files / "state")), 1, one),
        (("state", "adopt"), 1, one),
        (("support-bundle", "-o", str(files / "bundle.tar.gz")), 0, one),
    ]  # fmt: skip


ELSEWHERE = {
    "run": "reports nothing",
    "simulate": "test_cli_simulate",
    "demo": "test_cli_demo",
    "image serve": "test_cli_serve",
}
"""Commands that have no line in the script, and why."""


def test_everything_that_reports_does_so_in_json(gateway, files, firmware, tmp_path, capsys):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    assert main(["image", "add", str(firmware), "--config", str(gateway.config)]) == 0
    digest = capsys.readouterr().out.split()[0]
    told = set()
    for words, status, read in script(tmp_path, digest):
        assert main([*words, "--json", "--config", str(gateway.config)]) == status, (
            words,
            capsys.readouterr(),
        )
        out, _ = capsys.readouterr()
        document = read(out)
        if status and read is one:
            assert document["code"]
            assert document["message"]
        told.add(
            max((path for path in COMMANDS if words[: len(path.split())] == tuple(path.split())), key=len)
        )
    assert told == set(COMMANDS) - set(ELSEWHERE)


# -- exit status ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All that the examples name, and the configuration of a gateway that does not run."""
    directory = tmp_path_factory.mktemp("files")
    example_files(directory)
    (directory / "gateway.toml").write_text(f'[gateway]\ncontrol_socket = "{directory}/control.sock"\n')
    return directory


@pytest.fixture
def nobody(files, monkeypatch):
    monkeypatch.chdir(files)
    return files / "gateway.toml"


ASKING = sorted(set(COMMANDS) - ALONE - {"ports", "image serve"})


@pytest.mark.parametrize("path", ASKING)
def test_without_a_daemon_it_is_3_and_a_document_for_who_wants_one(nobody, capsys, path):
    capsys.readouterr()
    words = words_of(guide.examples(path)[0])
    assert main([*words, "--config", str(nobody)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "no daemon was reached" in err
    assert main([*words, "--config", str(nobody), *([] if "--json" in words else ["--json"])]) == 3
    document = one(capsys.readouterr().out)
    assert document["code"] is None
    assert "no daemon was reached" in document["message"]


def test_ports_are_told_without_a_daemon(nobody, capsys):
    assert main(["ports", "--config", str(nobody)]) == 0


WITHOUT_A_CONFIGURATION = {
    "image keygen", "image sign", "image serve", "simulate", "demo", "support-bundle", "ports",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(set(COMMANDS) - WITHOUT_A_CONFIGURATION))
def test_a_configuration_that_is_not_there_is_2_where_one_is_needed(path, nobody, tmp_path, capsys):
    words = words_of(guide.examples(path)[0])
    while "--config" in words:
        del words[words.index("--config") : words.index("--config") + 2]
    capsys.readouterr()
    assert main([*words, "--config", str(tmp_path / "none.toml"), "--json"]) == 2
    assert "no such file" in one(capsys.readouterr().out)["mistakes"][0]


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_an_option_that_there_is_not_is_2_everywhere(path, capsys):
    assert main([*path.split(), "--xyzzy"]) == 2
    assert "No such option" in capsys.readouterr().err


WITH_ARGUMENTS = [
    path
    for path, command in COMMANDS.items()
    if any(isinstance(one, click.Argument) and one.required for one in command.params)
]


@pytest.mark.parametrize("path", WITH_ARGUMENTS)
def test_an_argument_that_is_missing_is_2(path, capsys):
    assert main(path.split()) == 2
    assert "Missing argument" in capsys.readouterr().err


BROKEN_OFF = {
    "campaign watch": (("campaign", "watch", "slow"), "slow: running"),
    "lines of it": (("campaign", "watch", "slow", "--json"), '"campaign_id": "slow"'),
    "update": (("update", "MTR0002", "FW.bin"), "MTR0002"),
    "trace": (("trace", "rs485-1"), "<-"),
    "events": (("events", "--follow"), "campaign "),
    "scan": (("scan", "rs485-1", "--timeout", "1s", "--to", "500"), "addresses"),
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A gateway with an order that takes many minutes."""
    directory = tmp_path_factory.mktemp("slow")
    running = RunningGateway(directory, meters=2, baud=9600)
    file = directory / "FW.bin"
    file.write_bytes(os.urandom(400_000))
    here = ("--config", str(running.config))
    try:
        running.start()
        with Terminal("image", "add", str(file), *here, columns=100) as adding:
            assert adding.status() == 0
            digest = re.search(r"[0-9a-f]{64}", adding.text())[0]
        order = ("--id", "slow", "--sha256", digest, "--identifier", "FW", "--meter", "MTR0001")
        assert main(["campaign", "submit", *order, *here]) == 0
        running.wait_for("transferring")
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(("words", "seen"), BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_ctrl_c_is_130_says_that_the_work_goes_on_and_leaves_no_trace_of_python(slow, tmp_path, words, seen):
    shutil.copy(slow.directory / "FW.bin", tmp_path)
    words = [str(tmp_path / word) if word == "FW.bin" else word for word in words]
    with Terminal(*words, "--config", str(slow.config), columns=200) as terminal:
        terminal.wait_for(seen)
        terminal.type(b"\x03")
        assert terminal.status() == 130
        said = "\n".join(terminal.everything())
    assert "goes on" in said
    assert "Traceback" not in said
    assert slow.process.poll() is None


def test_a_watcher_that_is_told_to_end_by_a_signal_ends(slow):
    with Terminal("campaign", "watch", "slow", "--config", str(slow.config)) as terminal:
        terminal.wait_for("slow: running")
        terminal.signal(signal.SIGINT)
        assert terminal.status() == 130


def test_a_reader_that_has_seen_enough_is_no_failure(gateway):
    """`meter-gateway status | head -1`."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "gateway", "status", "--config", str(gateway.config)]
    ran = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    os.close(theirs)
    assert (ran.returncode, ran.stderr) == (0, b"")
