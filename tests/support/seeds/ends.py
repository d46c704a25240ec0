"""What must be true when everything has healed and ended: each order came to its end, each meter to the right one, and
the head-end knows all of it."""

from __future__ import annotations

from support.seeds.fate import Fate
from support.seeds.meters import Drawn
from support.seeds.witness import Witness
from support.world import BASE, World

from gateway.model import (
    TERMINAL_CAMPAIGN,
    TERMINAL_JOB,
    ActivateWhen,
    Campaign,
    CampaignState,
    Job,
    JobState,
)
from gateway.store.documents import job_document

_LAST = {"done", "failed", "rejected"}


def ended(world: World) -> bool:
    """Every order that was accepted has come to its end, and everybody was told."""
    if world.store.open_campaigns() or world.store.outbox_batch(0, 1) or world.broker.waiting:
        return False
    return not world.store._row("SELECT 1 FROM errands LIMIT 1")


def check_ends(fate: Fate, world: World, witness: Witness, commands: dict[str, str]) -> None:
    """Raises AssertionError. `commands`: the verbs of all that were sent, by id."""
    for cmd_id, verb in commands.items():
        _check_answers(verb, cmd_id, witness)
    for campaign in world.store.campaigns():
        _check_campaign(world, witness, campaign)
    for drawn in fate.meters:
        _check_meter(fate, world, drawn)


def _check_answers(verb: str, cmd_id: str, witness: Witness) -> None:
    statuses = [reply["status"] for reply in witness.told.replies.get(cmd_id, [])]
    wanted = [["accepted", "done"], ["accepted", "failed"], ["done"], ["rejected"]]
    assert statuses in wanted, f"{verb} {cmd_id} was answered {statuses}"


def _check_campaign(world: World, witness: Witness, campaign: Campaign) -> None:
    """The Store, the head-end and what was seen of every commit agree."""
    assert campaign.state in TERMINAL_CAMPAIGN, f"campaign {campaign.id} is {campaign.state}"
    assert witness.campaigns[campaign.id].state is campaign.state
    told = world.broker.snapshot(f"{BASE}/campaign/{campaign.id}")
    assert told is not None and (told["state"], told["rev"]) == (campaign.state, campaign.rev), told
    for job in world.store.jobs(campaign.id):
        assert job.state in TERMINAL_JOB, f"{campaign.id}/{job.meter_id} is {job.state}"
        assert witness.jobs[campaign.id, job.meter_id] == job
        told = world.broker.snapshot(f"{BASE}/campaign/{campaign.id}/job/{job.meter_id}")
        document = job_document(job, ts=world.gateway_now)
        assert told is not None and told["state"] == document["state"], (told, document)


def _check_meter(fate: Fate, world: World, drawn: Drawn) -> None:
    jobs = _jobs_of(world, drawn.sim.id)
    if fate.calm and drawn.ends:
        (job,) = [job for _, job in jobs]
        found = job.code or job.state
        right = found == drawn.ends or drawn.sim.port.startswith(("lan", "probe"))
        # A neighbour with the same key may have told the counter that this one does not.
        right = right or (drawn.ends, found) == ("T_SECURITY", "updated")
        assert right, f"{drawn.sim.id} ({drawn.story}) ended {found}, not {drawn.ends}: {job.message}"
    if drawn.sturdy:
        for campaign, job in jobs:
            if not (drawn.falls_ill and job.code == "T_HEALTH"):
                _check_sturdy(campaign, job)


def _jobs_of(world: World, meter_id: str) -> list[tuple[Campaign, Job]]:
    return [
        (campaign, job)
        for campaign in world.store.campaigns()
        for job in world.store.jobs(campaign.id)
        if job.meter_id == meter_id
    ]


def _check_sturdy(campaign: Campaign, job: Job) -> None:
    """A meter without faults of its own comes out updated: whatever went wrong around it has healed. But activation is
    ordered once: where its octets are lost, or the power after the decision, it stays as it was, and is told so."""
    if campaign.state in (CampaignState.CANCELLED, CampaignState.EXPIRED):
        return
    lost_order = job.code == "T_ACTIVATE" or (
        campaign.activate_when is ActivateWhen.METER and job.code == "W_EXPIRED"
    )
    fine = job.state in (JobState.UPDATED, JobState.SKIPPED, JobState.CANCELLED)
    assert fine or lost_order, f"{job.campaign_id}/{job.meter_id} ended {job.state} {job.code}: {job.message}"
