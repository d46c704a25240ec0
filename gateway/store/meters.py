"""Meters that come and go by command. Here is what was said of them; what it means is `gateway.config`'s to say, beside
the files of the configuration."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.errors import BusyError, NotFoundError, StateError
from gateway.model import Command, Errand, Reply
from gateway.store.commands import GATEWAY_ERRANDS, METER_CHANGES, meter_changed
from gateway.store.conducting import Conducting
from gateway.store.rows import insert

STORED_METERS_LIMIT = 4096
"""As many as an order may name (invariant 8)."""


class Meters(Conducting):
    """One row for each. What changes a line is answered as accepted, and is an errand of the gateway from then on, in
    the same transaction: whoever owns the configuration answers when the line is served so."""

    def stored_meters(self) -> dict[str, Mapping[str, Any]]:
        """By id, each in the words of the configuration, oldest first."""
        rows = self._rows("SELECT id, settings FROM meters ORDER BY number")
        return {row["id"]: json.loads(row["settings"]) for row in rows}

    def changing_meters(self) -> tuple[str, ...]:
        """Whose last change nobody has begun to bring into force."""
        rows = self._rows(
            "SELECT meter_id FROM errands WHERE verb IN (?, ?) AND running = 0 ORDER BY number",
            *METER_CHANGES,
        )
        return tuple(row["meter_id"] for row in rows)

    def put_meter(
        self, command: Command, meter_id: str, settings: Mapping[str, Any], *, port: str, at_once: bool
    ) -> Reply:
        """Keep a meter, or another description of it. `at_once`: nothing changes for its line. Raises StateError where
        there is work for the meter, BusyError where there are too many meters or its last change is under way."""
        with self._transaction() as database:
            if known := self.stored_reply(command.cmd_id, command.body_sha256):
                return known
            if not at_once:
                self._refuse_at_work(database, meter_id)
            stored = database.execute("SELECT count(*) FROM meters WHERE id != ?", (meter_id,)).fetchone()[0]
            if stored >= STORED_METERS_LIMIT:
                raise BusyError(f"{stored} meters are stored already")
            database.execute("DELETE FROM meters WHERE id = ?", (meter_id,))
            insert(database, "meters", {"id": meter_id, "settings": json.dumps(settings)})
            said = ", ".join(f"{name} {value}" for name, value in settings.items())
            return self._change(database, command, meter_id, port, f"put: {said}", at_once=at_once)

    def delete_meter(self, command: Command, meter_id: str, *, port: str) -> Reply:
        """Forget a stored meter; its counters, and why it is left alone, are kept for when it comes back. Raises
        NotFoundError, and StateError and BusyError as `put_meter`."""
        with self._transaction() as database:
            if known := self.stored_reply(command.cmd_id, command.body_sha256):
                return known
            self._refuse_at_work(database, meter_id)
            if not database.execute("DELETE FROM meters WHERE id = ?", (meter_id,)).rowcount:
                raise NotFoundError(f"no meter {meter_id}")
            return self._change(database, command, meter_id, port, "deleted", at_once=False)

    def _change(
        self, database: sqlite3.Connection, command: Command, meter_id: str, port: str, message: str, *, at_once: bool
    ) -> Reply:  # fmt: skip
        self._event(database, "meter", who=command.who, meter_id=meter_id, port=port or None, message=message)
        if at_once:
            return self._accept(database, command, replace(meter_changed(meter_id), cmd_id=command.cmd_id))
        errand = Errand(command.cmd_id, command.verb, GATEWAY_ERRANDS, meter_id, {})
        return self._accept_errand(database, command, errand)

    def _refuse_at_work(self, database: sqlite3.Connection, meter_id: str) -> None:
        """Raises StateError or BusyError where somebody counts on the meter as it is."""
        job = database.execute(
            "SELECT campaign_id FROM jobs WHERE meter_id = ? AND finished_at IS NULL", (meter_id,)
        ).fetchone()
        if job:
            raise StateError(f"meter {meter_id} belongs to the open campaign {job['campaign_id']}")
        errand = database.execute("SELECT port, verb FROM errands WHERE meter_id = ?", (meter_id,)).fetchone()
        if errand and errand["port"] == GATEWAY_ERRANDS:
            raise BusyError(f"the last change of meter {meter_id} is under way")
        if errand:
            raise StateError(f"a {errand['verb']} waits for meter {meter_id}")
