"""Meters of campaigns, one job each: which of them are due on a port, and how a job is written and told."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.board import CONDUCTOR, SUPPLIER, port_actor
from gateway.errors import Code, StateError
from gateway.model import TERMINAL_JOB, CampaignState, Job, JobState, Standing, TransferRecord
from gateway.store.commands import Commands
from gateway.store.documents import GATEWAY, job_document
from gateway.store.rows import JOB, TRANSFER, insert, moment_text, update

LONGEST_PAUSE = timedelta(hours=1)
FULL_OUTBOX_WAIT = timedelta(seconds=10)
"""When a worker looks again while the outbox is too full to go on."""

_WANTS_LINE = (CampaignState.READY, CampaignState.RUNNING, CampaignState.CANCELLING)

JOBS = (
    f"SELECT {JOB.selected()}, {TRANSFER.selected('r_')} FROM jobs"  # noqa: S608  # names of fields
    " LEFT JOIN transfers ON transfers.job = jobs.number"
)
_DUE = (
    f"{JOBS} JOIN campaigns ON campaigns.id = jobs.campaign_id"
    " WHERE jobs.port = ? AND jobs.finished_at IS NULL AND ((jobs.place < campaigns.released"
    f" AND campaigns.state IN ({', '.join(repr(str(state)) for state in _WANTS_LINE)}))"
    # What is in its meter's hands is looked after in a paused campaign too.
    " OR (campaigns.state = 'paused' AND (transfers.activate_decided = 1 OR transfers.scheduled_at IS NOT NULL)))"
)


class Jobs(Commands):
    """What becomes of campaigns in each of their meters; `Campaigns` ends and begins them by it."""

    # -- asking -----------------------------------------------------------------------------------------------

    def jobs(self, campaign_id: str) -> list[Job]:
        """In the order of the campaign's meters."""
        return [
            job_of(row) for row in self._rows(f"{JOBS} WHERE campaign_id = ? ORDER BY number", campaign_id)
        ]

    def job(self, campaign_id: str, meter_id: str) -> Job | None:
        row = self._row(f"{JOBS} WHERE campaign_id = ? AND meter_id = ?", campaign_id, meter_id)
        return job_of(row) if row else None

    def standings(self, campaign_id: str) -> list[Standing]:
        """Of the jobs, in their order: a tenth of the work that it is to read all of a thousand."""
        rows = self._rows(
            "SELECT meter_id, state, finished_at, activate_decided OR scheduled_at IS NOT NULL FROM jobs"
            " LEFT JOIN transfers ON transfers.job = jobs.number WHERE campaign_id = ? ORDER BY number",
            campaign_id,
        )
        return [
            Standing(
                meter_id,
                JobState(state),
                datetime.fromisoformat(finished_at) if finished_at else None,
                in_its_meters_hands=bool(in_hands),
            )
            for meter_id, state, finished_at, in_hands in rows
        ]

    def job_counts(self, campaign_id: str) -> dict[JobState, int]:
        """How many jobs are in which state; states without a job are left out."""
        rows = self._rows(
            "SELECT state, count(*) AS jobs FROM jobs WHERE campaign_id = ? GROUP BY state", campaign_id
        )
        return {JobState(row["state"]): row["jobs"] for row in rows}

    def last_record(self, meter_id: str) -> TransferRecord | None:
        """What the newest job that began a transfer in this meter left unfinished, of whatever campaign: it tells
        our own transfer from a stranger's. None after an update: that transfer is over."""
        row = self._row(
            f"{JOBS} WHERE jobs.meter_id = ? AND (transfers.job IS NOT NULL OR jobs.state = ?)"  # noqa: S608  # constants
            " AND jobs.number > coalesce((SELECT job FROM remnants WHERE meter_id = jobs.meter_id), 0)"
            " ORDER BY jobs.number DESC LIMIT 1",
            meter_id,
            JobState.UPDATED,
        )
        if row:
            return job_of(row).record
        left = self._row("SELECT * FROM remnants WHERE meter_id = ? AND sha256 IS NOT NULL", meter_id)
        return TRANSFER.read(left) if left else None

    def versions(self) -> dict[str, str]:
        """The firmware version that each meter reported last; those that never did are left out."""
        # max() takes the other columns from the row that it found (sqlite.org/lang_select.html#bareagg).
        rows = self._rows(
            "SELECT meter_id, max(number), version FROM"
            " (SELECT meter_id, number, coalesce(nullif(version_after, ''), version_before) AS version FROM jobs"
            " UNION ALL SELECT meter_id, version_job, version FROM remnants)"
            " WHERE version != '' GROUP BY meter_id"
        )
        return {row["meter_id"]: row["version"] for row in rows}

    def open_jobs(self, port: str) -> list[Job]:
        """Every job on this port that has not ended, whatever its campaign waits for."""
        rows = self._rows(f"{JOBS} WHERE port = ? AND finished_at IS NULL ORDER BY number", port)
        return [job_of(row) for row in rows]

    # -- what is due ------------------------------------------------------------------------------------------

    def due_job(
        self,
        port: str,
        now: datetime,
        busy: Collection[tuple[str, str]] = (),
        may: Callable[[Job], bool] = lambda _: True,
    ) -> Job | None:
        """The next open job on this port that may be worked on now, of the campaign with the highest priority, the
        oldest of equals, but none of `busy` (campaign and meter ids) and none that it `may` not be. None as well while
        the outbox is too full to tell what would happen."""
        if self.outbox_full():
            return None
        # A try that lies further ahead than any pause was set by a clock that was wrong.
        query = (
            f"{_DUE} AND (next_try_at IS NULL OR next_try_at <= ? OR next_try_at > ?)"
            " ORDER BY campaigns.priority DESC, jobs.number"
        )
        for row in self._rows(query, port, moment_text(now), moment_text(now + LONGEST_PAUSE)):
            if (row["campaign_id"], row["meter_id"]) not in busy and may(job := job_of(row)):
                return job
        return None

    def next_due_at(
        self,
        port: str,
        busy: Collection[tuple[str, str]] = (),
        may: Callable[[Job], bool] = lambda _: True,
    ) -> datetime | None:
        """When the next open job on this port, but none of `busy`, may be worked on; None: there is none until the
        bell rings, as it does when one that it `may` not be gets its turn."""
        jobs = [
            job
            for row in self._rows(_DUE, port)
            if ((job := job_of(row)).campaign_id, job.meter_id) not in busy and may(job)
        ]
        if not jobs:
            return None
        now = self._clock.now()
        if self.outbox_full():
            return now + FULL_OUTBOX_WAIT
        return min(job.next_try_at or now for job in jobs)

    def try_now(self, port: str, code: Code) -> None:
        """What jobs on this port wait for since they met `code` is over: none of them waits for its next try."""
        waits = "port = ? AND code = ? AND finished_at IS NULL AND next_try_at IS NOT NULL"
        if self._row(f"SELECT 1 FROM jobs WHERE {waits} LIMIT 1", port, code):  # noqa: S608  # a constant
            with self._transaction() as database:
                database.execute(f"UPDATE jobs SET next_try_at = NULL WHERE {waits}", (port, code))  # noqa: S608

    def count_crash(self, meter_ids: Collection[str], bug: str) -> None:
        """A bug, named by its class, ends the program at work on the open jobs of these meters. Of a job nothing but
        this number is touched: what it holds may be what the bug is about."""
        with self._transaction() as database:
            for meter_id in sorted(meter_ids):
                row = database.execute(
                    "UPDATE jobs SET crashes = crashes + 1 WHERE meter_id = ? AND finished_at IS NULL"
                    " RETURNING campaign_id, port, crashes",
                    (meter_id,),
                ).fetchone()
                if row is None:
                    continue
                self._event(
                    database, "crash", campaign_id=row["campaign_id"], meter_id=meter_id, port=row["port"],
                    message=f"{bug} at work on it, {row['crashes']} so far", level=logging.ERROR,
                )  # fmt: skip

    # -- below ------------------------------------------------------------------------------------------------

    def _check_free(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            row = self._row(
                "SELECT campaign_id FROM jobs WHERE meter_id = ? AND finished_at IS NULL", job.meter_id
            )
            if row:
                raise StateError(
                    f"meter {job.meter_id} belongs to campaign {row['campaign_id']}, which goes on"
                )

    def _number(self, job: Job) -> int:
        row = self._row(
            "SELECT number FROM jobs WHERE campaign_id = ? AND meter_id = ?", job.campaign_id, job.meter_id
        )
        assert row, "the job was read in this transaction"
        return int(row["number"])

    def _insert_jobs(self, database: sqlite3.Connection, jobs: Sequence[Job]) -> None:
        # Those that were forgotten are older, even where they were the last.
        (last,) = database.execute(
            "SELECT max(coalesce(max(number), 0), (SELECT coalesce(max(max(job, version_job)), 0) FROM remnants))"
            " FROM jobs"
        ).fetchone()
        for number, job in enumerate(jobs, last + 1):
            self._insert_job(database, number, replace(job, rev=job.rev + 1))

    def _insert_job(self, database: sqlite3.Connection, number: int, job: Job) -> None:
        insert(database, "jobs", {"number": number, **JOB.values(job)})
        self._snapshot_job(database, job)

    def _write_job(self, database: sqlite3.Connection, stored: Job, job: Job, *, who: str = GATEWAY) -> Job:
        """Write row and record, tell what is worth telling."""
        now = self._clock.now()
        # Whoever works on one says when it began; from the queue straight to its end it never did.
        begins = job.state is not JobState.QUEUED and job.state not in TERMINAL_JOB
        job = replace(
            job,
            rev=stored.rev + 1,
            started_at=job.started_at or (now if begins else None),
            finished_at=(job.finished_at or now) if job.state in TERMINAL_JOB else None,
        )
        number = self._number(job)
        update(database, "jobs", JOB.changes(stored, job), "number", number)
        if job.record is None:
            database.execute("DELETE FROM transfers WHERE job = ?", (number,))
        elif job.record != stored.record:
            insert(database, "transfers", {"job": number, **TRANSFER.values(job.record)}, verb="REPLACE")
        if job.state is not stored.state:
            self._event(
                database,
                "job",
                who=who,
                campaign_id=job.campaign_id,
                meter_id=job.meter_id,
                port=job.port,
                state=job.state,
                code=job.code,
                message=job.message,
            )
        if _seen(job) != _seen(stored):
            self._snapshot_job(database, job)
        return job

    def _snapshot_job(self, database: sqlite3.Connection, job: Job) -> None:
        document = job_document(job, ts=self._clock.now())
        self._snapshot(database, f"campaign/{job.campaign_id}/job/{job.meter_id}", document)

    def _ring(self, jobs: Sequence[Job]) -> None:
        self._to_ring.update(port_actor(job.port) for job in jobs)
        self._to_ring.update((SUPPLIER, CONDUCTOR))


def job_of(row: sqlite3.Row) -> Job:
    record = None if row["r_sha256"] is None else TRANSFER.read(row, prefix="r_")
    return JOB.read(row, record=record)


def _seen(job: Job) -> tuple[object, ...]:
    """What an operator looks at; the count of blocks is told as progress, which costs the disk nothing."""
    return (
        job.state, job.code, job.message, job.detail, job.blocks_total, job.version_before, job.version_after,
        job.activated_at, job.delivery, job.health,
    )  # fmt: skip
