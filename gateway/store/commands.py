"""Commands, their replies, and the errands that workers run for them.

A command is durable before it is answered, and its reply is in the outbox in the same transaction when it was
asked over MQTT. A reply is kept until a day after the command's `expires`, and for as long as work for it goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.board import CONTROL, SUPPLIER, port_actor
from gateway.errors import ADVICE, BusyError, Code, ConflictError, GatewayError, NotFoundError
from gateway.model import Command, Errand, Reply, ReplyStatus
from gateway.store.documents import encoded, reply_document, reply_from
from gateway.store.rows import Sql, insert, moment_text
from gateway.store.telling import Telling

LONGEST_LIFE = timedelta(days=7)
"""From `issued` to `expires` (contract); no command is remembered for longer, whatever it says of itself."""
REPLIES_KEPT_AFTER_EXPIRY = timedelta(days=1)
"""Contract: same cmd_id, same body, the stored reply again."""

ERRANDS_PER_PORT = 32
"""How many reads may wait for one line (invariant 8)."""

GATEWAY_ERRANDS = ""
"""In place of a port: errands of the gateway itself."""

METER_CHANGES = ("meter.put", "meter.delete")
"""Errands of the gateway: its lines are to be as the stored meters are."""

SUPPLIER_ERRANDS = ":images"
"""In place of a port: images to be fetched."""

COMMANDS_LIMIT = 20_000
"""Commands that are remembered; more are refused until some expire (invariant 8)."""

STORED_REPLY_LIMIT_BYTES = 4096
"""A longer reply that was given at once is that of a read: it is not kept, but given afresh when asked again. So is
one of `meter.read`, as soon as it is in the outbox, or else has expired."""


class Commands(Telling):
    """What was ordered and what was answered."""

    def stored_reply(self, cmd_id: str, body_sha256: str) -> Reply | None:
        """The newest reply to a command that is known, or None: it is not, or its reply was too long to keep.
        Raises ConflictError where the id was used for another body."""
        row = self._row("SELECT body_sha256, reply FROM commands WHERE cmd_id = ?", cmd_id)
        if row is None:
            return None
        if row["body_sha256"] != body_sha256:
            raise ConflictError(f"cmd_id {cmd_id} was used before for another command")
        return _reply(row)

    def reply_of(self, cmd_id: str) -> Reply | None:
        """The newest reply to a stored command, or None."""
        row = self._row("SELECT reply FROM commands WHERE cmd_id = ?", cmd_id)
        return _reply(row) if row else None

    def record(self, command: Command, reply: Reply) -> Reply:
        """Store a command that is answered at once. Returns `reply`, or the one that is stored already. Raises
        BusyError (too many are remembered) and ConflictError."""
        with self._transaction() as database:
            return self._accept(database, command, reply)

    def add_errand(self, command: Command, errand: Errand) -> Reply:
        """Accept a read for the worker of a port. Raises BusyError: too many wait for that line."""
        with self._transaction() as database:
            return self._accept_errand(database, command, errand)

    def take_errand(self, port: str) -> Errand | None:
        """The oldest read that waits for this port, marked as running; None: nothing waits, or it expired.
        Changes of meters do not: what was accepted is stored, and so from the next start on."""
        now = moment_text(self._clock.now())
        row = self._row(
            "SELECT errands.*, who, reply_topic FROM errands JOIN commands USING (cmd_id)"
            " WHERE port = ? AND running = 0 AND (expires > ? OR errands.verb IN (?, ?)) ORDER BY number LIMIT 1",
            port,
            now,
            *METER_CHANGES,
        )
        if row is None:
            return None
        with self._transaction() as database:
            database.execute("UPDATE errands SET running = 1 WHERE number = ?", (row["number"],))
        return replace(_errand(row), who=row["who"], local=not row["reply_topic"])

    def note_cursor(self, errand: Errand, cursor: str) -> None:
        """How far a long errand has come, for whoever hears that it was interrupted."""
        with self._transaction() as database:
            database.execute("UPDATE errands SET cursor = ? WHERE cmd_id = ?", (cursor, errand.cmd_id))

    def finish_errand(self, errand: Errand, reply: Reply) -> None:
        """Store and send the final reply to a read, once; nothing happens if it has one already."""
        with self._transaction() as database:
            self._finish(database, errand, reply)

    def fail_running_errands(self) -> None:
        """At start: what ran when the process ended is answered as failed, and may be asked again. An image that was
        being fetched is still wanted; a meter that was put or deleted is so from this start on."""
        with self._transaction() as database:
            database.execute("UPDATE errands SET running = 0 WHERE port = ?", (SUPPLIER_ERRANDS,))
            for row in database.execute(
                "SELECT * FROM errands WHERE verb IN (?, ?)", METER_CHANGES
            ).fetchall():
                self._finish(database, _errand(row), meter_changed(row["meter_id"]))
            for row in database.execute("SELECT * FROM errands WHERE running = 1").fetchall():
                cursor = f", at {row['cursor']} or a little later" if row["cursor"] else ""
                reason = BusyError(f"the gateway was restarted meanwhile{cursor}")
                self._finish(database, _errand(row), failed(row["cmd_id"], reason))

    def purge_expired(self) -> None:
        """Forget replies and events that nobody can ask for any more, and answer reads that nobody ran in time."""
        now = self._clock.now()
        with self._transaction() as database:
            for row in self._expired_errands(database, now):
                message = f"{_who_does(row['port'])} did not come to it in time"
                reply = Reply(
                    row["cmd_id"], ReplyStatus.FAILED, Code.E_EXPIRED, message, data=_advice(Code.E_EXPIRED)
                )
                self._finish(database, _errand(row), reply)
            database.execute(
                "DELETE FROM commands WHERE expires < ?"
                " AND NOT EXISTS (SELECT 1 FROM errands WHERE errands.cmd_id = commands.cmd_id)"
                " AND NOT EXISTS (SELECT 1 FROM campaigns WHERE campaigns.cmd_id = commands.cmd_id"
                " AND finished_at IS NULL)",
                (moment_text(now - REPLIES_KEPT_AFTER_EXPIRY),),
            )
            database.execute(
                "UPDATE commands SET reply = '' WHERE verb = 'meter.read' AND length(reply) > ? AND expires < ?",
                (STORED_REPLY_LIMIT_BYTES, moment_text(now)),
            )
            self._purge_events(database)

    # -- for subclasses ---------------------------------------------------------------------------------------

    def _end_lost_errands(self, database: sqlite3.Connection, places: Collection[tuple[str, str]]) -> None:
        """Answer reads from meters that are not where they were when the read was ordered."""
        for row in database.execute("SELECT * FROM errands WHERE port != ?", (GATEWAY_ERRANDS,)).fetchall():
            errand = _errand(row)
            if errand.meter_id and (errand.meter_id, errand.port) not in places:
                gone = NotFoundError(no_longer(errand.meter_id, errand.port))
                self._finish(database, errand, failed(errand.cmd_id, gone))

    def _accept_errand(self, database: sqlite3.Connection, command: Command, errand: Errand) -> Reply:
        waiting = database.execute("SELECT count(*) FROM errands WHERE port = ?", (errand.port,)).fetchone()[
            0
        ]
        if waiting >= ERRANDS_PER_PORT:
            raise BusyError(f"{waiting} orders wait for {_who_does(errand.port)} already")
        accepted = Reply(command.cmd_id, ReplyStatus.ACCEPTED)
        reply = self._accept(database, command, accepted)
        if reply is accepted:
            values = {
                "cmd_id": errand.cmd_id,
                "verb": errand.verb,
                "port": errand.port,
                "meter_id": errand.meter_id,
                "args": encoded(errand.args).decode(),
            }
            insert(database, "errands", values)
            self._to_ring.add(SUPPLIER if errand.port == SUPPLIER_ERRANDS else port_actor(errand.port))
        return reply

    def _accept(self, database: sqlite3.Connection, command: Command, reply: Reply) -> Reply:
        """Write a command with its first reply and send it, unless it has one. Raises ConflictError, BusyError."""
        stored = self.stored_reply(command.cmd_id, command.body_sha256)
        if stored:
            return stored
        if database.execute("SELECT count(*) FROM commands").fetchone()[0] >= COMMANDS_LIMIT:
            # What was refused may be asked again at no risk: it makes room.
            database.execute(
                "DELETE FROM commands WHERE cmd_id IN"
                " (SELECT cmd_id FROM commands WHERE reply LIKE ? ORDER BY expires LIMIT 1000)",
                ('%"status":"rejected"%',),
            )
        if database.execute("SELECT count(*) FROM commands").fetchone()[0] >= COMMANDS_LIMIT:
            raise BusyError(
                f"{COMMANDS_LIMIT} commands are remembered already; they are forgotten as they expire"
            )
        document = reply_document(reply)
        kept = encoded(document).decode()
        values: dict[str, Sql] = {
            "cmd_id": command.cmd_id,
            "verb": command.verb,
            "body_sha256": command.body_sha256,
            "who": command.who,
            "reply_topic": command.reply_topic,
            "correlation": command.correlation,
            "expires": moment_text(min(command.expires, self._clock.now() + LONGEST_LIFE)),
            "reply": kept if len(kept) <= STORED_REPLY_LIMIT_BYTES else "",
        }
        insert(database, "commands", values, verb="REPLACE")
        if command.reply_topic:
            self._send(database, command.reply_topic, document, correlation=command.correlation)
        return reply

    def _answer(self, database: sqlite3.Connection, reply: Reply) -> None:
        """The later reply to a command that was accepted."""
        row = database.execute(
            "SELECT verb, reply_topic, correlation FROM commands WHERE cmd_id = ?", (reply.cmd_id,)
        ).fetchone()
        if row is None:
            return
        document = reply_document(reply)
        kept = encoded(document).decode()
        if row["reply_topic"] and row["verb"] == "meter.read" and len(kept) > STORED_REPLY_LIMIT_BYTES:
            kept = ""
        database.execute("UPDATE commands SET reply = ? WHERE cmd_id = ?", (kept, reply.cmd_id))
        if row["reply_topic"]:
            self._send(database, row["reply_topic"], document, correlation=row["correlation"])
        self._to_ring.add(CONTROL)

    def _finish(self, database: sqlite3.Connection, errand: Errand, reply: Reply) -> None:
        if database.execute("DELETE FROM errands WHERE cmd_id = ?", (errand.cmd_id,)).rowcount:
            self._answer(database, replace(reply, cmd_id=errand.cmd_id))

    def _expired_errands(self, database: sqlite3.Connection, now: datetime) -> list[sqlite3.Row]:
        return database.execute(
            "SELECT errands.* FROM errands JOIN commands USING (cmd_id) WHERE running = 0 AND expires <= ?"
            " AND errands.verb NOT IN (?, ?)",
            (moment_text(now), *METER_CHANGES),
        ).fetchall()


def _who_does(port: str) -> str:
    return {GATEWAY_ERRANDS: "the gateway", SUPPLIER_ERRANDS: "the supplier of images"}.get(
        port, f"port {port}"
    )


def no_longer(meter_id: str, port: str) -> str:
    """Why work for this meter came to nothing."""
    return f"meter {meter_id} is no longer configured on port {port}"


def meter_changed(meter_id: str) -> Reply:
    """The last reply to who put or deleted a meter."""
    return Reply(None, ReplyStatus.DONE, data={"meter": meter_id})


def failed(cmd_id: str | None, error: GatewayError, status: ReplyStatus = ReplyStatus.FAILED) -> Reply:
    """A reply that says what went wrong, with the advice for the operator in its data."""
    detail = {"detail": error.detail} if error.detail else {}
    data = {**_advice(error.code), **detail}
    return Reply(cmd_id, status, error.code, error.message, error.retryable, data)


def _reply(row: sqlite3.Row) -> Reply | None:
    return reply_from(json.loads(row["reply"])) if row["reply"] else None


def _advice(code: Code) -> dict[str, str]:
    return {"advice": ADVICE[code]}


def _errand(row: sqlite3.Row) -> Errand:
    return Errand(row["cmd_id"], row["verb"], row["port"], row["meter_id"], json.loads(row["args"]))
