"""The first part of the quick start, typed as it stands there."""

import os
import re
import signal
import subprocess
import sys

import pytest
from support.pages import blocks
from support.patience import PATIENCE_S, eventually

TYPED = [line for block in blocks("sh") if block.page == "quick-start.md" for line in block.text.splitlines()]
STAYS = re.compile(r"meter-gateway (simulate|run) ")
READY = {"simulate": "Ctrl-C ends", "run": "ready: 1 ports, 1 meters"}


class Desk:
    """A directory with terminals: what stays in one is ended with Ctrl-C."""

    def __init__(self, directory):
        self.directory = directory
        self.opened = []
        command = directory / "bin" / "meter-gateway"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
        command.chmod(0o755)
        self.env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def stay(self, line, until):
        log = self.directory / f"terminal-{len(self.opened)}"
        with log.open("w") as screen:
            command = ["sh", "-c", f"exec {line}"]
            self.opened.append(
                subprocess.Popen(command, cwd=self.directory, env=self.env, stdout=screen, stderr=screen)
            )
        eventually(lambda: until in log.read_text(), log.read_text)

    def type_in(self, line):
        command = ["sh", "-c", line]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout

    def leave(self):
        for process in reversed(self.opened):
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.leave()


def test_the_first_update_goes_as_it_is_told(desk):
    simulate, run, *others = TYPED
    for line in (simulate, run):
        desk.stay(line, until=READY[STAYS.match(line)[1]])
    status, probe, image, update, campaigns, events = map(desk.type_in, others)
    assert "1 idle" in status
    assert "1.0.0" in probe
    assert image == ""
    assert "MTR0001: updated, 1.0.0 -> 2.0.0" in update
    assert "succeeded" in campaigns
    assert "the meter reports 2.0.0" in events
