"""Campaigns that ended long ago are forgotten: their rows, and what head-ends see of them.

What a meter may still hold of an order outlives it: `Jobs.last_record` needs it to know our transfer from a stranger's,
however old that is. So does the version that the meter reported last. Both are kept here, one row for each meter. And
the id, which no other order may have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from datetime import datetime, timedelta

from gateway.clock import EARLIEST
from gateway.model import JobState
from gateway.store.jobs import JOBS
from gateway.store.meters import Meters
from gateway.store.rows import TRANSFER, Sql, insert, moment_text

JOBS_AT_ONCE = 100
"""In one transaction, which others wait for: a campaign may have thousands."""

_NOT_TOLD = """
    SELECT 1 FROM outbox WHERE retain = 1 AND length(payload) > 0 AND (
      topic = :base || '/campaign/' || campaigns.id
      OR topic BETWEEN :base || '/campaign/' || campaigns.id || '/' AND :base || '/campaign/' || campaigns.id || '0')
"""
"""Its end still waits for the broker, which has to hear of it before it is taken back."""
_OLD = f"""
    SELECT id, manifest FROM campaigns WHERE finished_at IS NOT NULL
    AND coalesce(kept_since, finished_at) < :before AND NOT EXISTS ({_NOT_TOLD})
    ORDER BY finished_at LIMIT 1
"""  # noqa: S608  # a constant


class Pruning(Meters):
    """What is kept of old orders, and what is not."""

    def prune(self, retention_s: float, images: Collection[str]) -> bool:
        """Forget a campaign that ended longer ago, or a part of a large one; whether there may be more to do. Asked
        only by a clock that is right. `images`: digests of those that are here, whose manifests are kept.

        Cut at any moment, it goes on where it was. Nothing is done while the outbox is nearly full."""
        if self.outbox_busy():
            return False
        now = self._clock.now()
        before = moment_text(now - timedelta(seconds=retention_s))
        with self._transaction() as database:
            _date_anew(database, now)
            old = database.execute(_OLD, {"base": self._base, "before": before}).fetchone()
            if old is None:
                return False
            jobs = database.execute(
                f"{JOBS} WHERE campaign_id = ? ORDER BY jobs.number LIMIT ?", (old["id"], JOBS_AT_ONCE)
            ).fetchall()
            for job in jobs:
                self._forget_job(database, job)
            if len(jobs) < JOBS_AT_ONCE:
                self._forget_campaign(database, old, images)
            return True

    def _forget_job(self, database: sqlite3.Connection, job: sqlite3.Row) -> None:
        number = database.execute(
            "SELECT number FROM jobs WHERE campaign_id = ? AND meter_id = ?",
            (job["campaign_id"], job["meter_id"]),
        ).fetchone()["number"]
        _keep_what_is_left(database, number, job)
        database.execute("DELETE FROM transfers WHERE job = ?", (number,))
        database.execute("DELETE FROM jobs WHERE number = ?", (number,))
        self._snapshot(database, f"campaign/{job['campaign_id']}/job/{job['meter_id']}", None)

    def _forget_campaign(
        self, database: sqlite3.Connection, campaign: sqlite3.Row, images: Collection[str]
    ) -> None:
        insert(database, "campaign_ids", {"id": campaign["id"]}, verb="REPLACE")
        database.execute("DELETE FROM campaigns WHERE id = ?", (campaign["id"],))
        manifest = database.execute(
            "SELECT sha256 FROM manifests WHERE digest = :digest"
            " AND NOT EXISTS (SELECT 1 FROM campaigns WHERE manifest = :digest)",
            {"digest": campaign["manifest"]},
        ).fetchone()
        if manifest is not None and manifest["sha256"] not in images:
            database.execute("DELETE FROM manifests WHERE digest = ?", (campaign["manifest"],))
        self._snapshot(database, f"campaign/{campaign['id']}", None)
        self._event(database, "forgotten", campaign_id=campaign["id"], message="it ended long ago")


def _date_anew(database: sqlite3.Connection, now: datetime) -> None:
    """What ended by a clock that was wrong is kept from today on."""
    database.execute(
        "UPDATE campaigns SET kept_since = :now WHERE finished_at IS NOT NULL AND kept_since IS NULL"
        " AND (finished_at < :earliest OR finished_at > :now)",
        {"now": moment_text(now), "earliest": moment_text(EARLIEST)},
    )


def _keep_what_is_left(database: sqlite3.Connection, number: int, job: sqlite3.Row) -> None:
    """Of each kind what the newest of the meter's forgotten jobs says."""
    known = database.execute("SELECT * FROM remnants WHERE meter_id = ?", (job["meter_id"],)).fetchone()
    kept: dict[str, Sql] = dict(known) if known else {"meter_id": job["meter_id"], "job": 0, "version_job": 0}
    began = job["r_sha256"] is not None
    if (began or job["state"] == JobState.UPDATED) and number > int(kept["job"] or 0):
        kept |= {"job": number, **{name: job[f"r_{name}"] for name in TRANSFER.columns}}
    version = job["version_after"] or job["version_before"]
    if version and number > int(kept["version_job"] or 0):
        kept |= {"version_job": number, "version": version}
    if kept != (dict(known) if known else None) and (kept["job"] or kept["version_job"]):
        insert(database, "remnants", kept, verb="REPLACE")
