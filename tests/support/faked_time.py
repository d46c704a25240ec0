"""A time of day that a test sets, for a gateway's process and who stands beside it: on any machine, as root or not."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


class FakedTime:
    """`before` and `env`: what a `RunningGateway` is started with. `monkeypatch`: the commands of this process get
    that time as well."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
        self._offset = directory / "offset"
        self.set(now)
        self.before = (
            f"import pathlib, sys\nsys.path.insert(0, {str(TESTS)!r})\nimport support.set_clock\n"
            f"support.set_clock.from_file(pathlib.Path({str(self._offset)!r}))"
        )
        tools = directory / "tools"
        tools.mkdir()
        says_yes = tools / "timedatectl"
        says_yes.write_text("#!/bin/sh\necho yes\n")
        says_yes.chmod(0o755)
        self.env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        """Where somebody keeps the clock right, whatever it shows."""
        monkeypatch.setattr("gateway.cli.client.datetime", self._elsewhere())

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(self._offset.read_text()))

    def set(self, now: datetime) -> None:
        new = self._offset.with_suffix(".new")
        new.write_text(str((now - datetime.now(UTC)).total_seconds()))
        new.replace(self._offset)  # it is read all the time

    def shift(self, **by: float) -> None:
        """So many `hours`, `minutes`, ... onward or back."""
        self.set(self.now + timedelta(**by))

    def _elsewhere(self) -> type[datetime]:
        faked = self

        class Elsewhere(datetime):
            @classmethod
            def now(cls, tz=None):  # type: ignore[no-untyped-def,override]
                return faked.now.astimezone(tz)

        return Elsewhere
