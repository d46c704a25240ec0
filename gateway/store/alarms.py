"""Alarms: what an operator should look at, from when it is found until it is over.

Whoever looks says at every look how it is; only a change is written, told and logged. The Board has what is so now,
the broker a retained document at `alarm/{code}`, emptied when it is over. The row here says what the broker was told
last, so an alarm of an earlier process stands until somebody has looked again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from gateway.errors import StoreError
from gateway.model import Alarm, AlarmKind
from gateway.store.documents import alarm_document
from gateway.store.rows import ALARM, insert
from gateway.store.tunings import Tunings


class Alarms(Tunings):
    """Which alarms there are. Nothing here raises: where the disk cannot take an alarm it stands on the Board, and is
    written when somebody looks again."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._alarms = {row["code"]: ALARM.read(row) for row in self._rows("SELECT * FROM alarms")}
        for alarm in self._alarms.values():
            self._show(alarm)
        broken = [path.name for path in self._path.parent.glob(f"{self._path.name}.broken-*[0-9]")]
        if broken:
            self.raise_alarm(AlarmKind.STORE, f"the database was broken: {', '.join(sorted(broken))}")
        else:
            self.end_alarm(AlarmKind.STORE)

    def alarmed(self, kind: AlarmKind, port: str = "") -> bool:
        """Whether the broker was told so, by this process or an earlier one."""
        return _code(kind, port) in self._alarms

    def raise_alarm(self, kind: AlarmKind, message: str, *, port: str = "") -> None:
        """It is so; `message` says what was found. `port`: the line that it is about."""
        code = _code(kind, port)
        with self._writing:
            known = self._alarms.get(code)
            if known is not None and known.message == message:
                return
            alarm = Alarm(code, kind, port, message, known.since if known else self._clock.now())
            self._show(alarm)
            with suppress(StoreError):
                with self._transaction() as database:
                    insert(database, "alarms", ALARM.values(alarm), verb="REPLACE")
                    self._snapshot(database, f"alarm/{code}", alarm_document(alarm))
                    self._event(
                        database, "alarm", port=port or None, message=f"{code}: {message}",
                        level=logging.WARNING,
                    )  # fmt: skip
                self._alarms[code] = alarm

    def end_alarm(self, kind: AlarmKind, *, port: str = "") -> None:
        """It is not so, or no longer."""
        code = _code(kind, port)
        with self._writing:
            if self._board:
                self._board.drop(("alarm", code))
            if code not in self._alarms:
                return
            with suppress(StoreError):
                with self._transaction() as database:
                    database.execute("DELETE FROM alarms WHERE code = ?", (code,))
                    self._snapshot(database, f"alarm/{code}", None)
                    self._event(database, "alarm", port=port or None, message=f"{code}: over")
                del self._alarms[code]

    def end_alarms_elsewhere(self, ports: Collection[str]) -> None:
        """Those of lines that are not among `ports` any more."""
        for alarm in list(self._alarms.values()):
            if alarm.port and alarm.port not in ports:
                self.end_alarm(alarm.kind, port=alarm.port)

    def _show(self, alarm: Alarm) -> None:
        if self._board:
            self._board.post(("alarm", alarm.code), alarm_document(alarm))


def _code(kind: AlarmKind, port: str) -> str:
    return f"{kind}.{port}" if port else str(kind)
