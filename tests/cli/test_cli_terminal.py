"""The command line on a real pseudo-terminal, with a real daemon and virtual meters: what an engineer sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from support.patience import PATIENCE_S, eventually
from support.running import NEW, OLD, RunningGateway
from support.terminal import Terminal

from gateway.cli import main
from gateway.cli.text import width

IN_TURN = ("MTR0003", "MTR0001", "MTR0002", "MTR0004", "MTR0005", "MTR0006")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Six meters on a line of 9600 baud, the third locked; an order for it and then the others, of many minutes."""
    directory = tmp_path_factory.mktemp("gateway")
    changes = {2: {"transfer_enabled": False}}
    running = RunningGateway(directory, meters=6, baud=9600, changes=changes)
    file = directory / "FW.bin"
    file.write_bytes(os.urandom(200_000))
    here = ("--config", str(running.config))
    try:
        running.start()
        digest = added(file, *here)
        order = ("--id", "fw-2026-11", "--sha256", digest, "--identifier", "FW", "--expect-version", NEW)
        targets = [word for meter in IN_TURN for word in ("--meter", meter)]
        assert main(["campaign", "submit", *order, *targets, *here]) == 0
        yield running
    finally:
        running.close()


def added(file, *here) -> str:
    command = [sys.executable, "-m", "gateway", "image", "add", str(file), *here]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


@pytest.fixture
def on_terminal(gateway):
    """A command on a terminal."""
    opened = []

    def run(*words: str, **options) -> Terminal:
        opened.append(Terminal(*words, "--config", str(gateway.config), **options))
        return opened[-1]

    yield run
    for terminal in opened:
        terminal.__exit__()


# -- watching -------------------------------------------------------------------------------------------------


def test_a_campaign_is_watched_live_with_bar_pace_and_rest_of_each_meter(on_terminal):
    watching = on_terminal("campaign", "watch", "fw-2026-11")
    watching.wait_for("fw-2026-11: running", "MTR0006  queued", "B/s", "T_DISABLED")
    lines = watching.lines()
    (at_work,) = [line for line in lines if line.startswith("MTR0001")]
    assert "━" in at_work or "─" in at_work
    assert " %" in at_work
    assert tuple(line[:7] for line in lines if line.startswith("MTR")) == IN_TURN
    assert "red" in watching.colours()
    watching.type(b"\x03")
    assert watching.status() == 130
    left = watching.everything()
    assert not any("━" in line for line in left), "the picture is gone, the summary stays"
    (last,) = [line for line in left if line.startswith("campaign fw-2026-11: running")]
    assert last.endswith("1 failed, 4 queued, 1 transferring")
    assert any("the daemon goes on" in line for line in left)


def test_a_picture_is_drawn_in_its_place_and_never_scrolls(on_terminal):
    watching = on_terminal("campaign", "watch", "fw-2026-11")
    watching.wait_for("B/s")
    before = watching.frames
    eventually(lambda: watching.frames > before + 2)
    assert sum(line.startswith("fw-2026-11:") for line in watching.everything()) == 1
    assert b"\x1b[2J" not in watching.raw, "nothing is wiped away, so nothing flickers"
    for number in (b"?25l", b"?1049h"):
        assert number not in watching.raw, "nothing that must be put back"


def test_a_terminal_may_change_its_size(on_terminal):
    watching = on_terminal("campaign", "watch", "fw-2026-11")
    watching.wait_for("MTR0006")
    watching.resize(40, 7)
    text = watching.wait_for("more: ", "fw-2026-11: running")
    lines = text.splitlines()
    assert sum(line.startswith("fw-2026-11:") for line in lines) == 1
    assert max(map(width, lines)) <= 40
    assert "MTR0001" in text, "who is at work stays"
    watching.resize(100, 30)
    text = watching.wait_for("MTR0006", "B/s")
    assert "more: " not in text
    assert sum(line.startswith("fw-2026-11:") for line in text.splitlines()) == 1


def test_who_is_killed_leaves_the_terminal_as_it_was(on_terminal):
    watching = on_terminal("campaign", "watch", "fw-2026-11")
    watching.wait_for("B/s")
    watching.signal(signal.SIGKILL)
    assert watching.status() == -signal.SIGKILL
    assert not any(mode in watching.raw for mode in (b"?25", b"?1049", b"?7l"))


@pytest.mark.parametrize(
    "env", [{"TERM": "dumb"}, {"TERM": None}, {"TERM": ""}], ids=["dumb", "unset", "empty"]
)
def test_a_terminal_that_cannot_draw_gets_lines_and_no_codes(on_terminal, env):
    watching = on_terminal("campaign", "watch", "fw-2026-11", env=env)
    watching.wait_for("MTR0001: transferring")
    watching.type(b"\x03")
    assert watching.status() == 130
    assert b"\x1b" not in watching.raw


def test_no_color_is_respected_and_the_picture_still_drawn(on_terminal):
    watching = on_terminal("campaign", "watch", "fw-2026-11", env={"NO_COLOR": "1"})
    watching.wait_for("B/s", "T_DISABLED")
    assert watching.colours() == set()


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": None, "LANG": None}], ids=["C", "none"])
def test_a_locale_without_unicode_gets_bars_of_ascii(on_terminal, locale):
    watching = on_terminal("campaign", "watch", "fw-2026-11", env=locale)
    watching.wait_for("B/s", "....")
    watching.type(b"\x03")
    assert watching.status() == 130
    assert watching.raw.isascii()


def test_an_update_leaves_its_outcome_in_the_scroll_back(tmp_path):
    running = RunningGateway(tmp_path, meters=1)
    file = tmp_path / "FW-2.0.0.bin"
    file.write_bytes(os.urandom(5000))
    try:
        running.start()
        words = ("update", "MTR0001", str(file), "--expect-version", NEW, "--config", str(running.config))
        with Terminal(*words) as terminal:
            assert terminal.status() == 0
            said = [line for line in terminal.everything() if line]
        assert said[0] == f"MTR0001: updated, {OLD} -> {NEW}"
        assert said[1].endswith("succeeded, 1 updated")
        assert len(said) == 2
    finally:
        running.close()


# -- status ---------------------------------------------------------------------------------------------------


def test_status_is_one_screen_with_colours_on_a_terminal_only(gateway, on_terminal):
    shown = on_terminal("status")
    assert shown.status() == 0
    lines = [line for line in shown.everything() if line]
    assert len(lines) <= 23
    assert {"green"} <= shown.colours()
    for word in ("needs you", "clock", "meters", "CAMPAIGN", "fw-2026-11", "PORT", "HEALTH", "rs485-1"):
        assert word in shown.text()
    command = [sys.executable, "-m", "gateway", "status", "--config", str(gateway.config)]
    piped = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S).stdout
    assert b"\x1b" not in piped
    assert b"rs485-1" in piped


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_status_without_colours_where_they_are_not_wanted(on_terminal, env):
    shown = on_terminal("status", env=env)
    assert shown.status() == 0
    assert b"\x1b" not in shown.raw


def bad_night(directory, *, lost: int) -> RunningGateway:
    """20 meters, of which one has another key than the gateway; `lost` lines without a device; a broker that is away;
    a window; and an order for all of them."""
    sections = {
        "gateway": {"id": "gw-001"},
        "windows.night": {"start": "22:00", "duration": "5h"},
        "mqtt": {"url": "mqtt://127.0.0.1:1"},
    }
    running = RunningGateway(directory, meters=20, baud=9600, sections=sections)
    ports = (
        f'\n[[ports]]\nname = "cellar-{number}"\nkind = "rs485"\ndevice = "/dev/serial/by-id/usb-FTDI_{number:04d}"\n'
        for number in range(lost)
    )
    running.config.write_text(running.config.read_text() + "".join(ports))
    keys = directory / "keys.toml"
    keys.write_text(keys.read_text().replace(running.meters[4].spec.keys.encryption_key.hex(), "00" * 16))
    return running


@pytest.mark.parametrize("lost", [1, 9])
def test_status_of_a_bad_night_fits_its_screen_and_says_what_to_do(tmp_path, lost):
    running = bad_night(tmp_path, lost=lost)
    here = ("--config", str(running.config))
    file = tmp_path / "FW.bin"
    file.write_bytes(os.urandom(200_000))
    try:
        running.start()
        assert main(["probe", "MTR0005", *here]) == 1
        order = ("--id", "fw", "--sha256", added(file, *here), "--identifier", "FW", "--all")
        assert main(["campaign", "submit", *order, *here]) == 0
        command = [sys.executable, "-m", "gateway", "status", "--json", *here]
        eventually(
            lambda: (
                subprocess.run(command, capture_output=True, check=True).stdout.count(b"port-lost.") >= lost
            )
        )
        with Terminal("status", *here) as shown:
            assert shown.status() == 0
            lines = [line for line in shown.everything() if line]
            assert "red" in shown.colours()
        piped = subprocess.run(command[:-3] + list(here), capture_output=True, text=True, check=True).stdout
        document = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    finally:
        running.close()
    text = "\n".join(lines)
    assert len(lines) <= 23
    assert max(map(width, lines)) <= 80
    assert lines[1].startswith(f"needs you  {lost} alarm")
    assert "1 meter left alone" in lines[1]
    assert "not connected for" in text
    assert "ALARM port-lost.cellar-" in text
    assert text.count("Check the adapter and its cable") == 1
    assert "Correct the meter's keys, password or counter." in text
    assert "fw  " in text
    told = sum(line.startswith("ALARM") for line in lines)
    assert told == lost or f"and {lost - told} more: meter-gateway status --json" in lines
    assert all(f"ALARM port-lost.cellar-{number}:" in piped for number in range(lost)), (
        "a pipe is told everything"
    )
    newest_first = sorted(
        document["info"]["now"]["alarms"].items(), key=lambda one: one[1]["since"], reverse=True
    )
    assert re.findall(r"^ALARM (\S+):", piped, re.MULTILINE) == [name for name, _ in newest_first]


@pytest.mark.parametrize(("columns", "lines"), [(40, 12), (60, 24), (200, 50)])
def test_tables_are_never_wider_than_the_terminal(on_terminal, columns, lines):
    for words in (
        ("status",),
        ("meters",),
        ("campaign", "ls"),
        ("campaign", "show", "fw-2026-11"),
        ("ports",),
    ):
        shown = on_terminal(*words, columns=columns, lines=lines)
        assert shown.status() == 0
        written = shown.raw.decode().replace("\r", "").split("\n")
        assert max(width(line) for line in map(without_colour, written)) <= columns, words


def without_colour(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
