"""Campaigns and their jobs: what the supplier and the workers do is written here, one transaction at a time.

A campaign comes to one terminal state, in the transaction in which its last job does. A terminal job or campaign
never changes again: whoever comes late gets StateError and lets go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.board import CONDUCTOR, SUPPLIER, port_actor
from gateway.errors import BusyError, Code, ConflictError, NotFoundError, StateError
from gateway.model import (
    TERMINAL_CAMPAIGN,
    TERMINAL_JOB,
    Campaign,
    CampaignState,
    Command,
    Image,
    Job,
    JobState,
    Reply,
    ReplyStatus,
    TransferRecord,
)
from gateway.states import CAN_BE_CANCELLED
from gateway.store.commands import Commands, no_longer
from gateway.store.documents import campaign_document, job_document
from gateway.store.rows import CAMPAIGN, JOB, TRANSFER, insert, moment_text, update
from gateway.store.telling import GATEWAY

LONGEST_PAUSE = timedelta(hours=1)
FULL_OUTBOX_WAIT = timedelta(seconds=10)
"""When a worker looks again while the outbox is too full to go on."""

_AT_REST = frozenset({JobState.QUEUED, JobState.WAITING})
_GOOD = frozenset({JobState.UPDATED, JobState.SKIPPED})

_WANTS_IMAGE = (CampaignState.ACCEPTED, CampaignState.FETCHING)
_WANTS_LINE = (CampaignState.READY, CampaignState.RUNNING, CampaignState.CANCELLING)

_JOBS = (
    f"SELECT {JOB.selected()}, {TRANSFER.selected('r_')} FROM jobs"  # noqa: S608  # names of fields
    " LEFT JOIN transfers ON transfers.job = jobs.number"
)
_DUE = (
    f"{_JOBS} JOIN campaigns ON campaigns.id = jobs.campaign_id"
    " WHERE jobs.port = ? AND jobs.finished_at IS NULL AND ((jobs.place < campaigns.released"
    f" AND campaigns.state IN ({', '.join(repr(str(state)) for state in _WANTS_LINE)}))"
    # What a meter was ordered to activate is looked after in a paused campaign too.
    " OR (campaigns.state = 'paused' AND transfers.activate_decided = 1))"
)


class Campaigns(Commands):
    """Orders, and what became of them."""

    # -- asking -----------------------------------------------------------------------------------------------

    def campaign(self, campaign_id: str) -> Campaign | None:
        row = self._row("SELECT * FROM campaigns WHERE id = ?", campaign_id)
        return CAMPAIGN.read(row) if row else None

    def campaigns(self, limit: int = 1000) -> list[Campaign]:
        """The newest `limit` campaigns, oldest of them first."""
        rows = self._rows("SELECT * FROM campaigns ORDER BY number DESC LIMIT ?", limit)
        return [CAMPAIGN.read(row) for row in reversed(rows)]

    def open_campaigns(self) -> list[Campaign]:
        """Those that have not ended, oldest first."""
        return [
            CAMPAIGN.read(row)
            for row in self._rows("SELECT * FROM campaigns WHERE finished_at IS NULL ORDER BY number")
        ]

    def campaign_state(self, campaign_id: str) -> CampaignState:
        """Raises NotFoundError."""
        row = self._row("SELECT state FROM campaigns WHERE id = ?", campaign_id)
        if row is None:
            raise NotFoundError(f"no campaign {campaign_id}")
        return CampaignState(row["state"])

    def jobs(self, campaign_id: str) -> list[Job]:
        """In the order of the campaign's meters."""
        return [
            _job(row) for row in self._rows(f"{_JOBS} WHERE campaign_id = ? ORDER BY number", campaign_id)
        ]

    def job(self, campaign_id: str, meter_id: str) -> Job | None:
        row = self._row(f"{_JOBS} WHERE campaign_id = ? AND meter_id = ?", campaign_id, meter_id)
        return _job(row) if row else None

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
            f"{_JOBS} WHERE jobs.meter_id = ? AND (transfers.job IS NOT NULL OR jobs.state = ?)"
            " ORDER BY jobs.number DESC LIMIT 1",
            meter_id,
            JobState.UPDATED,
        )
        return _job(row).record if row else None

    # -- the desk's side --------------------------------------------------------------------------------------

    def submit_campaign(self, command: Command, campaign: Campaign, jobs: Sequence[Job]) -> Reply:
        """Accept an order with its jobs. Raises ConflictError (the campaign id was used before), StateError (a
        meter belongs to another open campaign), BusyError (the outbox is nearly full)."""
        accepted = Reply(
            command.cmd_id,
            ReplyStatus.ACCEPTED,
            data={"campaign_id": campaign.id, "state": campaign.state, "meters": len(campaign.meters)},
        )
        with self._transaction() as database:
            reply = self._accept(database, command, accepted)
            if reply is not accepted:
                return reply
            if self.outbox_busy():
                raise BusyError(
                    "too many messages wait for the broker; new campaigns are taken when it has them"
                )
            if self.campaign(campaign.id):
                raise ConflictError(f"campaign {campaign.id} exists already; an id is never used twice")
            self._check_free(jobs)
            insert(database, "campaigns", {**CAMPAIGN.values(campaign), "cmd_id": command.cmd_id})
            self._tell_campaign(database, campaign, who=command.who)
            for job in jobs:
                self._insert_job(database, job)
            self._snapshot_campaign(database, campaign)
            self._ring(jobs)
            return accepted

    def cancel_campaign(self, command: Command, campaign_id: str) -> Reply:
        """Stop what can be stopped: jobs at rest at once, running ones by their workers at the next step. Raises
        NotFoundError, and StateError where it has ended or every meter that is left is activating."""
        with self._transaction() as database:
            known = self.stored_reply(command.cmd_id, command.body_sha256)
            if known:
                return known
            campaign = self._open_campaign(campaign_id)
            if not any(_can_be_cancelled(job) for job in self.jobs(campaign_id)):
                raise StateError(f"campaign {campaign_id}: every meter that is left is activating its image")
            campaign = self._stop(database, campaign, who=command.who)
            data = {"campaign_id": campaign_id, "state": campaign.state}
            return self._accept(database, command, Reply(command.cmd_id, ReplyStatus.DONE, data=data))

    # -- the supplier's side ----------------------------------------------------------------------------------

    def next_fetch(self, now: datetime) -> Campaign | None:
        """The oldest campaign that wants its image and may try now."""
        rows = self._rows(
            "SELECT * FROM campaigns WHERE finished_at IS NULL AND state IN (?, ?)"
            " AND (fetch_next_try_at IS NULL OR fetch_next_try_at <= ? OR fetch_next_try_at > ?)"
            " ORDER BY number LIMIT 1",
            *_WANTS_IMAGE,
            moment_text(now),
            moment_text(now + LONGEST_PAUSE),
        )
        return CAMPAIGN.read(rows[0]) if rows else None

    def next_fetch_at(self) -> datetime | None:
        """When `next_fetch` will have something that waits now; None: nothing waits."""
        row = self._row(
            "SELECT min(coalesce(fetch_next_try_at, created_at)) AS at FROM campaigns"
            " WHERE finished_at IS NULL AND state IN (?, ?)",
            *_WANTS_IMAGE,
        )
        return datetime.fromisoformat(row["at"]) if row and row["at"] else None

    def save_campaign(self, campaign: Campaign) -> Campaign:
        """Write state, code, message and fetch fields; `rev` rises. Raises StateError where the campaign has
        ended or is being cancelled meanwhile."""
        with self._transaction() as database:
            stored = self._open_campaign(campaign.id)
            if stored.state is CampaignState.CANCELLING and campaign.state is not CampaignState.CANCELLING:
                raise StateError(f"campaign {campaign.id} is being cancelled")
            return self._write_campaign(database, campaign)

    def image_ready(self, campaign: Campaign, image: Image) -> Campaign:
        """The image is stored and checked: the workers may begin. Raises StateError as `save_campaign`."""
        ready = replace(
            campaign,
            state=CampaignState.READY,
            code=None,
            message="",
            image_size=image.size,
            fetch_next_try_at=None,
        )
        with self._transaction() as database:
            stored = self._open_campaign(campaign.id)
            if stored.state not in _WANTS_IMAGE:
                raise StateError(f"campaign {campaign.id} is {stored.state}, it wants no image")
            self._ring(self.jobs(campaign.id))
            return self._write_campaign(database, ready)

    def fail_campaign(self, campaign: Campaign, code: Code, message: str) -> Campaign:
        """End a campaign and all its open jobs as failed. Raises StateError where it has ended meanwhile."""
        with self._transaction() as database:
            stored = self._open_campaign(campaign.id)
            for job in self.jobs(campaign.id):
                if job.state not in TERMINAL_JOB:
                    ended = replace(job, state=JobState.FAILED, code=code, message=message)
                    self._write_job(database, job, ended)
            kept = replace(campaign, state=stored.state)
            return self._settle(database, kept, code=code, message=message)

    # -- the workers' side ------------------------------------------------------------------------------------

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
            if (row["campaign_id"], row["meter_id"]) not in busy and may(job := _job(row)):
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
            if ((job := _job(row)).campaign_id, job.meter_id) not in busy and may(job)
        ]
        if not jobs:
            return None
        now = self._clock.now()
        if self.outbox_full():
            return now + FULL_OUTBOX_WAIT
        return min(job.next_try_at or now for job in jobs)

    def end_orphans(self, places: Collection[tuple[str, str]]) -> None:
        """End every open job, and answer every read, whose meter and port are not among `places` any more, for no
        worker would: at start, and when the configuration changed and no worker has any of them in hand."""
        with self._transaction() as database:
            self._end_lost_errands(database, places)
        for row in self._rows(f"{_JOBS} WHERE finished_at IS NULL ORDER BY jobs.number"):
            job = _job(row)
            if (job.meter_id, job.port) in places:
                continue
            activated = job.record is not None and job.record.activate_decided
            code = Code.T_UNKNOWN if activated else Code.E_NOT_FOUND
            message = no_longer(job.meter_id, job.port)
            with suppress(StateError):  # cancelled meanwhile
                self.save_job(replace(job, state=JobState.FAILED, code=code, message=message))

    def try_now(self, port: str, code: Code) -> None:
        """What jobs on this port wait for since they met `code` is over: none of them waits for its next try."""
        waits = "port = ? AND code = ? AND finished_at IS NULL AND next_try_at IS NOT NULL"
        if self._row(f"SELECT 1 FROM jobs WHERE {waits} LIMIT 1", port, code):  # noqa: S608  # a constant
            with self._transaction() as database:
                database.execute(f"UPDATE jobs SET next_try_at = NULL WHERE {waits}", (port, code))  # noqa: S608

    def open_jobs(self, port: str) -> list[Job]:
        """Every job on this port that has not ended, whatever its campaign waits for."""
        rows = self._rows(f"{_JOBS} WHERE port = ? AND finished_at IS NULL ORDER BY number", port)
        return [_job(row) for row in rows]

    def save_job(self, job: Job) -> Job:
        """Write a job as it is now, with its record; returns it with the new `rev`.

        A change that an operator would see goes to the outbox as a snapshot; a change of state is an event, and
        may start or end the campaign. Raises NotFoundError, and StateError where the stored job has ended.
        """
        with self._transaction() as database:
            stored = self.job(job.campaign_id, job.meter_id)
            if stored is None:
                raise NotFoundError(f"campaign {job.campaign_id} has no meter {job.meter_id}")
            if stored.state in TERMINAL_JOB:
                raise StateError(
                    f"campaign {job.campaign_id}, meter {job.meter_id}: the job is {stored.state}"
                )
            saved = self._write_job(database, stored, job)
            if saved.state is not stored.state:
                campaign = self._open_campaign(job.campaign_id)
                if campaign.state is CampaignState.READY:
                    campaign = replace(campaign, state=CampaignState.RUNNING)
                self._settle(database, campaign)
                self._to_ring.add(CONDUCTOR)
            return saved

    # -- below ------------------------------------------------------------------------------------------------

    def _stop(
        self,
        database: sqlite3.Connection,
        campaign: Campaign,
        *,
        who: str = GATEWAY,
        code: Code | None = None,
        message: str = "",
    ) -> Campaign:
        """Cancel what can be: jobs at rest at once, running ones by their workers."""
        jobs = self.jobs(campaign.id)
        for job in jobs:
            if not _can_be_cancelled(job):
                continue
            if job.state in _AT_REST:
                cancelled = replace(
                    job, state=JobState.CANCELLED, code=code, message=message or "cancelled before it began"
                )
                self._write_job(database, job, cancelled, who=who)
            else:
                update(database, "jobs", {"next_try_at": None}, "number", self._number(job))
        self._ring(jobs)
        stopping = replace(
            campaign, state=CampaignState.CANCELLING, code=code, message=message, paused=None, opens_at=None
        )
        return self._settle(database, stopping, who=who)

    def _open_campaign(self, campaign_id: str) -> Campaign:
        campaign = self.campaign(campaign_id)
        if campaign is None:
            raise NotFoundError(f"no campaign {campaign_id}")
        if campaign.state in TERMINAL_CAMPAIGN:
            raise StateError(f"campaign {campaign_id} has ended: {campaign.state}")
        return campaign

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

    def _insert_job(self, database: sqlite3.Connection, job: Job) -> None:
        job = replace(job, rev=job.rev + 1)
        insert(database, "jobs", JOB.values(job))
        self._snapshot_job(database, job)

    def _write_job(self, database: sqlite3.Connection, stored: Job, job: Job, *, who: str = GATEWAY) -> Job:
        """Write row and record, tell what is worth telling."""
        now = self._clock.now()
        left_queue = job.state is not JobState.QUEUED
        job = replace(
            job,
            rev=stored.rev + 1,
            started_at=job.started_at or (now if left_queue else None),
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

    def _write_campaign(
        self, database: sqlite3.Connection, campaign: Campaign, *, who: str = GATEWAY
    ) -> Campaign:
        stored = self._open_campaign(campaign.id)
        finished_at = self._clock.now() if campaign.state in TERMINAL_CAMPAIGN else None
        campaign = replace(campaign, rev=stored.rev + 1, finished_at=finished_at)
        update(database, "campaigns", CAMPAIGN.changes(stored, campaign), "id", campaign.id)
        if campaign.state is not stored.state:
            self._tell_campaign(database, campaign, who=who)
        self._snapshot_campaign(database, campaign)
        return campaign

    def _settle(
        self,
        database: sqlite3.Connection,
        campaign: Campaign,
        *,
        who: str = GATEWAY,
        code: Code | None = None,
        message: str = "",
    ) -> Campaign:
        """Write the campaign and tell its new counts; where its last job has ended, end it and answer the order."""
        counts = self.job_counts(campaign.id)
        if counts.keys() - TERMINAL_JOB:
            return self._write_campaign(database, campaign, who=who)
        ended = _ended(campaign, counts)
        if ended is CampaignState.EXPIRED:
            code, message = campaign.code, campaign.message
        if code is None and ended in (CampaignState.FAILED, CampaignState.PARTIAL):
            code = next((job.code for job in self.jobs(campaign.id) if job.code), None)
        message = message or ", ".join(f"{count} {state}" for state, count in counts.items())
        over = replace(campaign, state=ended, code=code, message=message, paused=None, opens_at=None)
        campaign = self._write_campaign(database, over, who=who)
        self._answer_submit(database, campaign)
        return campaign

    def _answer_submit(self, database: sqlite3.Connection, campaign: Campaign) -> None:
        """The last reply to the order: what became of it."""
        row = database.execute("SELECT cmd_id FROM campaigns WHERE id = ?", (campaign.id,)).fetchone()
        good = campaign.state is CampaignState.SUCCEEDED
        status = ReplyStatus.DONE if good else ReplyStatus.FAILED
        counts = self.job_counts(campaign.id)
        data = {"campaign_id": campaign.id, "state": campaign.state, "counts": counts}
        self._answer(database, Reply(row["cmd_id"], status, campaign.code, campaign.message, data=data))

    def _tell_campaign(self, database: sqlite3.Connection, campaign: Campaign, *, who: str) -> None:
        self._event(
            database,
            "campaign",
            who=who,
            campaign_id=campaign.id,
            state=campaign.state,
            code=campaign.code,
            message=campaign.message,
        )

    def _snapshot_campaign(self, database: sqlite3.Connection, campaign: Campaign) -> None:
        counts = self.job_counts(campaign.id)
        document = campaign_document(campaign, counts, ts=self._clock.now())
        self._snapshot(database, f"campaign/{campaign.id}", document)

    def _snapshot_job(self, database: sqlite3.Connection, job: Job) -> None:
        document = job_document(job, ts=self._clock.now())
        self._snapshot(database, f"campaign/{job.campaign_id}/job/{job.meter_id}", document)

    def _ring(self, jobs: Sequence[Job]) -> None:
        self._to_ring.update(port_actor(job.port) for job in jobs)
        self._to_ring.update((SUPPLIER, CONDUCTOR))


def _job(row: sqlite3.Row) -> Job:
    record = None if row["r_sha256"] is None else TRANSFER.read(row, prefix="r_")
    return JOB.read(row, record=record)


def _can_be_cancelled(job: Job) -> bool:
    return job.state in CAN_BE_CANCELLED and not (job.record and job.record.activate_decided)


def _seen(job: Job) -> tuple[object, ...]:
    """What an operator looks at; the count of blocks is told as progress, which costs the disk nothing."""
    return (
        job.state, job.code, job.message, job.detail, job.blocks_total, job.version_before, job.version_after,
        job.activated_at, job.delivery,
    )  # fmt: skip


def _ended(campaign: Campaign, counts: Mapping[JobState, int]) -> CampaignState:
    if campaign.code is Code.W_EXPIRED and JobState.CANCELLED in counts:
        return CampaignState.EXPIRED
    if counts.keys() <= _GOOD:
        return CampaignState.SUCCEEDED
    if counts.keys() & _GOOD:
        return CampaignState.PARTIAL
    return CampaignState.CANCELLED if campaign.state is CampaignState.CANCELLING else CampaignState.FAILED
