"""Campaigns: what the supplier and the workers do is written here, one transaction at a time.

A campaign comes to one terminal state, in the transaction in which its last job does. A terminal job or campaign
never changes again: whoever comes late gets StateError and lets go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from gateway.board import CONDUCTOR
from gateway.errors import BusyError, Code, ConflictError, NotFoundError, StateError
from gateway.model import (
    TERMINAL_CAMPAIGN,
    TERMINAL_JOB,
    WAITS_FOR_IMAGE,
    Campaign,
    CampaignState,
    Command,
    Image,
    Job,
    JobState,
    Reply,
    ReplyStatus,
)
from gateway.states import CAN_BE_CANCELLED, in_its_meters_hands
from gateway.store.commands import no_longer
from gateway.store.documents import GATEWAY, campaign_document
from gateway.store.jobs import JOBS, LONGEST_PAUSE, Jobs, job_of
from gateway.store.rows import CAMPAIGN, insert, moment_text, update

_AT_REST = frozenset({JobState.QUEUED, JobState.WAITING})
_GOOD = frozenset({JobState.UPDATED, JobState.SKIPPED})


class Campaigns(Jobs):
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

    def needed_images(self) -> dict[str, list[str]]:
        """The digests that open campaigns are for, each with the campaigns."""
        needed: dict[str, list[str]] = {}
        for row in self._rows("SELECT sha256, id FROM campaigns WHERE finished_at IS NULL ORDER BY number"):
            needed.setdefault(row["sha256"], []).append(row["id"])
        return needed

    def campaign_state(self, campaign_id: str) -> CampaignState:
        """Raises NotFoundError."""
        row = self._row("SELECT state FROM campaigns WHERE id = ?", campaign_id)
        if row is None:
            raise NotFoundError(f"no campaign {campaign_id}")
        return CampaignState(row["state"])

    # -- the desk's side --------------------------------------------------------------------------------------

    def submit_campaign(
        self,
        command: Command,
        campaign: Campaign,
        jobs: Sequence[Job],
        *,
        manifest: str = "",
        floors: Mapping[str, int] | None = None,
    ) -> Reply:
        """Accept an order with its jobs. `manifest`: the envelope of its image's, kept with it; `floors`: what the
        sequence floors of profiles rise to with it.

        Raises ConflictError (the campaign id was used before), StateError (a meter belongs to another open campaign),
        BusyError (the outbox is nearly full)."""
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
            if self._is_used(campaign.id):
                raise ConflictError(
                    f"campaign {campaign.id} exists already, or did: an id is never used twice"
                )
            self._check_free(jobs)
            if manifest:
                digest = self._keep_manifest(database, campaign.sha256, manifest)
                campaign = replace(campaign, manifest=digest)
            self._raise_floors(database, floors or {})
            insert(database, "campaigns", {**CAMPAIGN.values(campaign), "cmd_id": command.cmd_id})
            self._tell_campaign(database, campaign, who=command.who)
            self._insert_jobs(database, jobs)
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

    def next_fetch(self, now: datetime, *, other_than: str = "") -> Campaign | None:
        """The oldest campaign that wants its image, another one than that of this SHA-256, and may try now."""
        rows = self._rows(
            "SELECT * FROM campaigns WHERE finished_at IS NULL AND state IN (?, ?)"
            " AND (fetch_next_try_at IS NULL OR fetch_next_try_at <= ? OR fetch_next_try_at > ?)"
            " AND sha256 != ? ORDER BY number LIMIT 1",
            *WAITS_FOR_IMAGE,
            moment_text(now),
            moment_text(now + LONGEST_PAUSE),
            other_than,
        )
        return CAMPAIGN.read(rows[0]) if rows else None

    def next_fetch_at(self) -> datetime | None:
        """When `next_fetch` will have something that waits now; None: nothing waits."""
        row = self._row(
            "SELECT min(coalesce(fetch_next_try_at, created_at)) AS at FROM campaigns"
            " WHERE finished_at IS NULL AND state IN (?, ?)",
            *WAITS_FOR_IMAGE,
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
            if stored.state not in WAITS_FOR_IMAGE:
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

    def end_orphans(self, places: Collection[tuple[str, str]]) -> None:
        """End every open job, and answer every read, whose meter and port are not among `places` any more, for no
        worker would: at start, and when the configuration changed and no worker has any of them in hand."""
        with self._transaction() as database:
            self._end_lost_errands(database, places)
        for row in self._rows(f"{JOBS} WHERE finished_at IS NULL ORDER BY jobs.number"):
            job = job_of(row)
            if (job.meter_id, job.port) in places:
                continue
            code = Code.T_UNKNOWN if in_its_meters_hands(job) else Code.E_NOT_FOUND
            message = no_longer(job.meter_id, job.port)
            with suppress(StateError):  # cancelled meanwhile
                self.save_job(replace(job, state=JobState.FAILED, code=code, message=message))

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
            if job.state in _AT_REST and not in_its_meters_hands(job):
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

    def _is_used(self, campaign_id: str) -> bool:
        """Also by a campaign that was forgotten."""
        query = "SELECT 1 FROM campaigns WHERE id = ? UNION ALL SELECT 1 FROM campaign_ids WHERE id = ?"
        return self._row(query, campaign_id, campaign_id) is not None

    def _open_campaign(self, campaign_id: str) -> Campaign:
        campaign = self.campaign(campaign_id)
        if campaign is None:
            raise NotFoundError(f"no campaign {campaign_id}")
        if campaign.state in TERMINAL_CAMPAIGN:
            raise StateError(f"campaign {campaign_id} has ended: {campaign.state}")
        return campaign

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
        if ended in (CampaignState.EXPIRED, CampaignState.CANCELLED):
            code, message = campaign.code, campaign.message
        if code is None and ended in (CampaignState.FAILED, CampaignState.PARTIAL):
            code = next((job.code for job in self.jobs(campaign.id) if job.code), None)
        message = message or ", ".join(f"{count} {state}" for state, count in counts.items())
        over = replace(
            campaign, state=ended, code=code, message=message, paused=None, opens_at=None, eta=None
        )
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


def _can_be_cancelled(job: Job) -> bool:
    return job.state in CAN_BE_CANCELLED and not (job.record and job.record.activate_decided)


def _ended(campaign: Campaign, counts: Mapping[JobState, int]) -> CampaignState:
    if campaign.code is Code.W_EXPIRED and JobState.CANCELLED in counts:
        return CampaignState.EXPIRED
    if counts.keys() <= _GOOD:
        return CampaignState.SUCCEEDED
    if counts.keys() & _GOOD:
        return CampaignState.PARTIAL
    return CampaignState.CANCELLED if campaign.state is CampaignState.CANCELLING else CampaignState.FAILED
