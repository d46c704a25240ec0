"""What others are told: the audit of events, and the outbox to the broker.

Rows go out in order of id. Of a retained topic only the newest snapshot is kept, and it goes to the end: a
snapshot never overtakes what was written before it, so a campaign's end follows the ends of its jobs. Nothing
follows a terminal snapshot on its topic, hence it is never replaced.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.board import UPLINK, Board
from gateway.clock import EARLIEST, Clock
from gateway.errors import Code
from gateway.model import TERMINAL_JOB, CampaignState, JobState, OutboxRow, Reply
from gateway.store.documents import (
    GATEWAY,
    Document,
    encoded,
    event_document,
    event_line,
    reply_document,
)
from gateway.store.floors import Floors
from gateway.store.rows import Sql, insert, moment_text

EVENTS_KEPT = timedelta(days=90)
"""How long `event.list` can look back (contract)."""

LINES_OF_A_JOB = 40
"""In the log, until its end; one that nothing disturbs has eight."""

_ROW_OVERHEAD_BYTES = 64
"""What a row costs besides its topic and payload, roughly."""

_BUSY_FILL = 0.8
_PAUSE_FILL = 0.95


class Telling(Floors):
    """Events and outbox. Without a gateway id (no broker configured) nothing goes to the outbox."""

    def __init__(
        self,
        state_dir: Path,
        *,
        gateway_id: str,
        root: str,
        clock: Clock,
        board: Board | None,
        outbox_limit_bytes: int,
    ) -> None:
        self._base = f"{root}/{gateway_id}" if gateway_id else ""
        self._outbox_limit_bytes = outbox_limit_bytes
        self._outbox_used_bytes: int | None = None
        self._lines_of_job: Counter[tuple[str, str]] = Counter()
        """Of open jobs, in this process."""
        super().__init__(state_dir, clock, board)
        if self.set_aside:
            with self._transaction() as database:
                self._event(database, "store", message=f"the database was broken: {self.set_aside.name}")

    # -- the uplink's side ------------------------------------------------------------------------------------

    def outbox_batch(self, after_id: int, limit: int) -> list[OutboxRow]:
        """The next rows with an id above `after_id` (0: from the beginning), in the order in which they must go.
        Ids never come again; a row may be gone meanwhile, replaced by a newer one."""
        if self._outbox_used_bytes == 0:  # the uplink asks many times a second, mostly for nothing
            return []
        rows = self._rows("SELECT * FROM outbox WHERE id > ? ORDER BY id LIMIT ?", after_id, limit)
        return [
            OutboxRow(row["id"], row["topic"], row["payload"], bool(row["retain"]), row["correlation"])
            for row in rows
        ]

    def outbox_delete(self, *ids: int) -> None:
        """The broker has these: one transaction, however many. Ids that are not there (any more) do no harm."""
        with self._transaction() as database:
            for id_ in ids:
                self._delete(database, "id = ?", id_)

    def outbox_bytes(self) -> int:
        """What waits for the broker, in octets, with what a row costs."""
        if (used := self._outbox_used_bytes) is not None:
            return used  # not behind the lock: a line asks before every block, and a commit takes its time
        with self._writing:
            if self._outbox_used_bytes is None:
                row = self._row(f"SELECT total({_COST}) AS used FROM outbox")  # noqa: S608  # a constant
                self._outbox_used_bytes = int(row["used"]) if row else 0
            return self._outbox_used_bytes

    def send_reply(self, reply: Reply, topic: str, correlation: bytes = b"") -> None:
        """Answer once more, or what cannot be stored: a repeated or a malformed command. Nothing is sent when the
        outbox is beyond its limit: such replies are all that outsiders could fill the disk with."""
        if self.outbox_bytes() >= self._outbox_limit_bytes:
            return
        with self._transaction() as database:
            self._send(database, topic, reply_document(reply), correlation=correlation)

    def outbox_busy(self) -> bool:
        """So much waits for the broker that no new campaign is accepted."""
        return self.outbox_bytes() >= _BUSY_FILL * self._outbox_limit_bytes

    def outbox_full(self) -> bool:
        """So much waits for the broker that what can wait should: running campaigns and reads over MQTT."""
        return self.outbox_bytes() >= _PAUSE_FILL * self._outbox_limit_bytes

    # -- the audit --------------------------------------------------------------------------------------------

    def events(self, after_seq: int = 0, limit: int = 100) -> list[Document]:
        """Events with a `seq` above `after_seq`, oldest first, as they were told."""
        rows = self._rows("SELECT document FROM events WHERE seq > ? ORDER BY seq LIMIT ?", after_seq, limit)
        return [json.loads(row["document"]) for row in rows]

    def event_span(self) -> tuple[int, int]:
        """The `seq` of the oldest and of the newest event that is kept; 0 and 0 where there was none yet."""
        row = self._row("SELECT coalesce(min(seq), 0) AS first, coalesce(max(seq), 0) AS last FROM events")
        assert row, "an aggregate has a row"
        return row["first"], row["last"]

    def last_event_before(self, moment: datetime) -> int:
        """The `seq` after which the events of `moment` and later stand; one below the oldest kept where all do. What
        was written by a clock that was wrong is as old as what stands after it, and nothing later is passed over."""
        first, last = self.event_span()
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            row = self._row(
                "SELECT seq, ts FROM events WHERE seq >= ? AND ts >= ? ORDER BY seq LIMIT 1",
                middle,
                moment_text(EARLIEST),
            )
            if row is None or row["ts"] >= moment_text(moment):
                high = middle
            else:
                low = row["seq"] + 1
        return low - 1

    def audit(self, kind: str, *, who: str, port: str, message: str) -> None:
        """Write down that somebody did something that leaves no other trace in the Store."""
        with self._transaction() as database:
            self._event(database, kind, who=who, port=port, message=message)

    # -- for subclasses ---------------------------------------------------------------------------------------

    def _event(
        self,
        database: sqlite3.Connection,
        kind: str,
        *,
        who: str = GATEWAY,
        campaign_id: str | None = None,
        meter_id: str | None = None,
        port: str | None = None,
        state: CampaignState | JobState | None = None,
        code: Code | None = None,
        message: str = "",
        level: int = logging.INFO,
    ) -> None:
        """Write an event and tell it; its `seq` follows the last one without a gap. `level`: of its line in the log."""
        now = self._clock.now()
        last = database.execute("SELECT max(seq) FROM events").fetchone()[0]
        seq = (last or 0) + 1
        document = event_document(
            kind,
            epoch=self.epoch,
            seq=seq,
            ts=now,
            who=who,
            campaign_id=campaign_id,
            meter_id=meter_id,
            port=port,
            state=state,
            code=code,
            message=message,
        )
        insert(
            database,
            "events",
            {"seq": seq, "ts": moment_text(now), "document": encoded(document).decode()},
        )
        if self._base:
            self._send(database, f"{self._base}/event", document)
        if self._deserves_a_line(campaign_id, meter_id, state):
            self._to_log.append((level, event_line(document), _fields(document)))

    def _deserves_a_line(
        self, campaign_id: str | None, meter_id: str | None, state: CampaignState | JobState | None
    ) -> bool:
        """Events are for the audit, which has its own place; the log may not be filled by one meter that comes and goes
        for days. The end of a job is always told."""
        if campaign_id is None or meter_id is None:
            return True
        job = (campaign_id, meter_id)
        if state in TERMINAL_JOB:
            self._lines_of_job.pop(job, None)
            return True
        self._lines_of_job[job] += 1
        if self._lines_of_job[job] == LINES_OF_A_JOB + 1:
            last = f"{meter_id}, campaign {campaign_id}: {LINES_OF_A_JOB} changes are told, the others are in the audit"
            self._to_log.append((logging.INFO, last, {"METER": meter_id, "CAMPAIGN": campaign_id}))
        return self._lines_of_job[job] <= LINES_OF_A_JOB

    def _snapshot(self, database: sqlite3.Connection, topic: str, document: Mapping[str, Any] | None) -> None:
        """Put a retained snapshot at the end of the outbox, in place of an older one that still waits there; None
        takes the one back that the broker has."""
        if self._base:
            topic = f"{self._base}/{topic}"
            self._delete(database, "retain = 1 AND topic = ?", topic)
            self._send(database, topic, document, retain=True)

    def _send(
        self,
        database: sqlite3.Connection,
        topic: str,
        document: Mapping[str, Any] | None,
        *,
        retain: bool = False,
        correlation: bytes = b"",
    ) -> None:
        payload = b"" if document is None else encoded(document)
        values: dict[str, Sql] = {
            "topic": topic,
            "payload": payload,
            "retain": retain,
            "correlation": correlation,
        }
        insert(database, "outbox", values)
        self._count(len(topic.encode()) + len(payload) + _ROW_OVERHEAD_BYTES)
        self._to_ring.add(UPLINK)

    def _delete(self, database: sqlite3.Connection, condition: str, value: int | str) -> None:
        query = f"DELETE FROM outbox WHERE {condition} RETURNING {_COST} AS cost"  # noqa: S608  # our conditions
        for row in database.execute(query, (value,)).fetchall():
            self._count(-row["cost"])

    def _purge_events(self, database: sqlite3.Connection) -> None:
        """Forget what is older than `EVENTS_KEPT`, but never the last one, which tells the next `seq`. What was
        written by a clock that was wrong is as old as what stands after it."""
        oldest = moment_text(self._clock.now() - EVENTS_KEPT)
        database.execute(
            "DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events WHERE ts >= ? AND ts < ?)"
            " AND seq < (SELECT max(seq) FROM events)",
            (moment_text(EARLIEST), oldest),
        )

    def _count(self, change: int) -> None:
        if self._outbox_used_bytes is not None:
            self._outbox_used_bytes += change

    def _forget(self) -> None:
        self._outbox_used_bytes = None


_COST = f"(length(CAST(topic AS BLOB)) + length(payload) + {_ROW_OVERHEAD_BYTES})"


def _fields(event: Document) -> dict[str, str]:
    """What the line can be found by in the journal."""
    named = {"METER": "meter", "PORT": "port", "CAMPAIGN": "campaign_id", "CODE": "code"}
    return {field: event[key] for field, key in named.items() if event[key]}
