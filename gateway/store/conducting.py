"""Campaigns that wait and go on: what the conductor decides and operators order, and the windows that were set here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

from gateway.board import CONDUCTOR
from gateway.errors import Code, StateError
from gateway.model import (
    WAITS_FOR_IMAGE,
    ActivateWhen,
    Campaign,
    CampaignState,
    Command,
    Job,
    JobState,
    PausedWhy,
    Reply,
    ReplyStatus,
    Window,
)
from gateway.states import decided_anew
from gateway.store.documents import is_late, time_text, window_document, window_from
from gateway.store.holds import Holds
from gateway.store.rows import insert

_MEASURED_JOBS = 5000
_MEASURED_OF_PORT = 50
"""So many of the newest transfers tell how fast lines are, in all and of each."""

_CONDUCTED = (CampaignState.READY, CampaignState.RUNNING, CampaignState.PAUSED)
_GOES_ON_BY_ITSELF = (PausedWhy.WINDOW, PausedWhy.CLOCK, PausedWhy.SOAK, PausedWhy.SIGNATURE)
_EXPIRES = WAITS_FOR_IMAGE.union(_CONDUCTED)


class Conducting(Holds):
    """Pausing, going on, and when."""

    _configured: Mapping[str, Window] = {}
    _set: Mapping[str, Window] | None = None
    unproven: frozenset[str] = frozenset()
    """Campaigns of which nobody can say at the moment who signed their image: no meter hears of them. Not durable:
    it is looked at anew at each start."""

    # -- windows ----------------------------------------------------------------------------------------------

    def use_windows(self, configured: Mapping[str, Window]) -> None:
        """Those of the configuration; they hold before those that were set here."""
        self._configured = dict(configured)
        if self._board:
            self._board.ring(CONDUCTOR)

    def windows(self) -> Mapping[str, Window]:
        """By name, the configured ones first. Cheap: it is asked often."""
        if self._set is None:
            rows = self._rows("SELECT document FROM windows ORDER BY name")
            known = [window_from(json.loads(row["document"])) for row in rows]
            self._set = {window.name: window for window in known}
        return {**self._set, **self._configured}

    def set_window(self, command: Command, window: Window) -> Reply:
        """Keep a window in the state. Raises StateError for one of the configuration."""
        if window.name in self._configured:
            raise StateError(f"window {window.name} stands in the configuration: change it there")
        with self._transaction() as database:
            reply = Reply(command.cmd_id, ReplyStatus.DONE, data={"window": window.name})
            known = self._accept(database, command, reply)
            if known is not reply:
                return known
            document = json.dumps(window_document(window))
            insert(database, "windows", {"name": window.name, "document": document}, verb="REPLACE")
            self._event(database, "window", who=command.who, message=f"window {window.name} was set")
            self._set = None
            self._to_ring.add(CONDUCTOR)
            return reply

    # -- the conductor's side ---------------------------------------------------------------------------------

    def conducted(self) -> list[Campaign]:
        """Open campaigns which nobody cancels, oldest first."""
        return [campaign for campaign in self.open_campaigns() if campaign.state in _EXPIRES]

    def conduct(
        self,
        campaign_id: str,
        *,
        state: CampaignState,
        released: int,
        paused: PausedWhy | None,
        message: str,
        opens_at: datetime | None,
        eta: datetime | None,
    ) -> Campaign:
        """Write what was decided, where it differs from what is. Raises StateError where the campaign has ended, is
        being cancelled, or was paused or resumed by an operator meanwhile."""
        with self._transaction() as database:
            stored = self._conducted_campaign(campaign_id)
            if (stored.paused is PausedWhy.OPERATOR) is not (paused is PausedWhy.OPERATOR):
                raise StateError(f"campaign {campaign_id}: an operator was here meanwhile")
            decided = replace(
                stored,
                state=state,
                released=released,
                paused=paused,
                message=message,
                opens_at=opens_at,
                eta=eta,
            )
            if decided == stored:
                return stored
            if is_late(decided) and not is_late(stored):
                late = f"it is expected to end at {time_text(eta)}, after its not_after"
                self._event(database, "late", campaign_id=campaign_id, code=Code.W_EXPIRED, message=late)
            if replace(decided, eta=stored.eta) != stored:
                self._ring(self.jobs(campaign_id))
            return self._write_campaign(database, decided)

    def paces(self) -> dict[str, float]:
        """Octets of image a second that each port took in the newest transfers, as far as there were any."""
        rows = self._rows(
            "SELECT port, sum(bytes_sent) / sum(transfer_s) AS pace FROM"
            " (SELECT port, bytes_sent, transfer_s, row_number() OVER (PARTITION BY port ORDER BY number DESC) AS nth"
            " FROM (SELECT * FROM jobs WHERE transfer_s > 0 ORDER BY number DESC LIMIT ?))"
            " WHERE nth <= ? GROUP BY port",
            _MEASURED_JOBS,
            _MEASURED_OF_PORT,
        )
        return {row["port"]: row["pace"] for row in rows}

    def expire_campaign(self, campaign_id: str) -> Campaign:
        """Its time is over: what was not activated is cancelled; what was is let to its end. Raises StateError."""
        with self._transaction() as database:
            campaign = self._campaign_in(_EXPIRES, campaign_id)
            over = f"its time was over at {time_text(campaign.not_after)}"
            return self._stop(database, campaign, code=Code.W_EXPIRED, message=over)

    def withdraw_campaign(self, campaign_id: str, code: Code, message: str) -> Campaign:
        """The image may not be used any more: what was not activated is cancelled; what was is let to its end. Raises
        StateError where it has ended or is being cancelled."""
        with self._transaction() as database:
            campaign = self._open_campaign(campaign_id)
            if campaign.state is CampaignState.CANCELLING:
                raise StateError(f"campaign {campaign_id} is being cancelled")
            return self._stop(database, campaign, code=code, message=message)

    def hold_unproven(self, campaign_ids: frozenset[str]) -> None:
        """These, and no others, become `unproven`."""
        changed, self.unproven = self.unproven ^ campaign_ids, campaign_ids
        for campaign_id in changed:
            with self._transaction():
                self._ring(self.jobs(campaign_id))

    # -- the operator's side ----------------------------------------------------------------------------------

    def pause_campaign(self, command: Command, campaign_id: str) -> Reply:
        """Until it is resumed; meters are left at a block boundary. Raises NotFoundError and StateError."""

        def pause(campaign: Campaign) -> Campaign:
            return replace(
                campaign, state=CampaignState.PAUSED, paused=PausedWhy.OPERATOR, message="paused by an operator",
                opens_at=None,
            )  # fmt: skip

        return self._order(command, campaign_id, pause)

    def resume_campaign(self, command: Command, campaign_id: str) -> Reply:
        """Go on, and bear with the failures so far. Raises NotFoundError and StateError."""

        def resume(campaign: Campaign) -> Campaign:
            if campaign.state is not CampaignState.PAUSED:
                raise StateError(f"campaign {campaign_id} is {campaign.state}, not paused")
            if campaign.paused in _GOES_ON_BY_ITSELF:
                raise StateError(
                    f"campaign {campaign_id} goes on by itself: it is paused ({campaign.paused})"
                )
            if campaign.paused is PausedWhy.APPROVAL:
                raise StateError(f"campaign {campaign_id} waits for campaign.approve")
            failed = self.job_counts(campaign_id).get(JobState.FAILED, 0)
            return replace(
                campaign, state=CampaignState.RUNNING, paused=None, message="", failures_accepted=failed
            )

        return self._order(command, campaign_id, resume)

    def approve_campaign(self, command: Command, campaign_id: str) -> Reply:
        """Let the meters that verified their image be activated. Raises NotFoundError and StateError."""

        def approve(campaign: Campaign) -> Campaign:
            if campaign.activate_when is not ActivateWhen.MANUAL:
                raise StateError(
                    f"campaign {campaign_id} wants no approval: it activates {campaign.activate_when}"
                )
            return replace(campaign, approved=True)

        return self._order(command, campaign_id, approve)

    def retry_campaign(self, command: Command, campaign_id: str) -> Reply:
        """Try the failed meters of an open campaign again. Raises NotFoundError, and StateError where none failed or
        one belongs to another campaign by now."""
        with self._transaction() as database:
            known = self.stored_reply(command.cmd_id, command.body_sha256)
            if known:
                return known
            campaign = self._conducted_campaign(campaign_id)
            failed = [job for job in self.jobs(campaign_id) if job.state is JobState.FAILED]
            if not failed:
                raise StateError(f"campaign {campaign_id}: no meter has failed")
            self._check_free(failed)
            for job in failed:
                self._unpark(database, job.meter_id, "campaign.retry", who=command.who, port=job.port)
                self._write_job(database, job, _anew(job), who=command.who)
            accepted = max(0, campaign.failures_accepted - len(failed))
            campaign = self._write_campaign(
                database, replace(campaign, failures_accepted=accepted), who=command.who
            )
            self._ring(failed)
            data = {
                "campaign_id": campaign_id,
                "state": campaign.state,
                "meters": [job.meter_id for job in failed],
            }
            return self._accept(database, command, Reply(command.cmd_id, ReplyStatus.DONE, data=data))

    # -- below ------------------------------------------------------------------------------------------------

    def _order(self, command: Command, campaign_id: str, change: Callable[[Campaign], Campaign]) -> Reply:
        with self._transaction() as database:
            known = self.stored_reply(command.cmd_id, command.body_sha256)
            if known:
                return known
            changed = change(self._conducted_campaign(campaign_id))
            campaign = self._write_campaign(database, changed, who=command.who)
            self._ring(self.jobs(campaign_id))
            data = {"campaign_id": campaign_id, "state": campaign.state, "paused": campaign.paused}
            return self._accept(database, command, Reply(command.cmd_id, ReplyStatus.DONE, data=data))

    def _conducted_campaign(self, campaign_id: str) -> Campaign:
        return self._campaign_in(_CONDUCTED, campaign_id)

    def _campaign_in(self, states: Collection[CampaignState], campaign_id: str) -> Campaign:
        campaign = self._open_campaign(campaign_id)
        if campaign.state not in states:
            raise StateError(f"campaign {campaign_id} is {campaign.state}")
        return campaign


def _anew(job: Job) -> Job:
    """As it was before it began, but for what is known of the meter: decisions are made again. One that runs its new
    firmware is looked at again."""
    if job.code is Code.T_HEALTH:
        return _looked_at_again(job)
    record = job.record and decided_anew(job.record)
    return replace(
        job, state=JobState.QUEUED, code=None, message="tried again by an operator", detail="", tries=0, line_tries=0,
        crashes=0, next_try_at=None, activated_at=None, record=record, health=(),
    )  # fmt: skip


def _looked_at_again(job: Job) -> Job:
    return replace(
        job, state=JobState.QUEUED, code=None, message="its health is checked again for an operator", detail="",
        tries=0, line_tries=0, crashes=0, next_try_at=None,
        health=tuple(replace(check, after=None) for check in job.health),
    )  # fmt: skip
