"""Campaigns on the page: those that go on, with their meters, and those that ended lately. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gateway.model import TERMINAL_JOB, CampaignState, JobState
from gateway.page.cells import (
    ATTENTION,
    advice,
    bar,
    clock_time,
    lines,
    mark,
    more,
    quiet,
    section,
    state_mood,
    table,
)  # fmt: skip
from gateway.page.looks import ENDED, Document, Look
from gateway.page.markup import Html, el, joined
from gateway.words import counts, duration, expected_end, state_of, waits_for

JOBS_SHOWN = 20
"""Of a campaign; those that are queued are counted."""
ENDED_SHOWN = 5

_ENDED_JOB = {state.value for state in TERMINAL_JOB}
_BLOCKS_GO = frozenset({
    JobState.QUEUED, JobState.WAITING, JobState.PRECHECK, JobState.INITIATING, JobState.TRANSFERRING,
})  # fmt: skip
"""Afterwards the meter has them all, and its state says what it does with them."""


def campaigns(look: Look) -> Html:
    going_on = sum(one["state"] not in ENDED for one in look.campaigns)
    if not going_on:
        return section("campaigns", "Campaigns", el("p", "None at work.", class_="quiet"))
    cards = [_campaign(campaign, jobs, look) for campaign, jobs in look.open]
    return section("campaigns", "Campaigns", *cards, more(going_on - len(cards), "that go on"))


def _campaign(campaign: Document, jobs: Sequence[Document], look: Look) -> Html:
    name = campaign["campaign_id"]
    over = sum(job["state"] in _ENDED_JOB for job in jobs)
    far = [quiet(f"{over} of {len(jobs)} meters have ended: {counts(campaign['counts'])}")]
    if end := expected_end(campaign, look.timezone):
        far.append(quiet(f"Ends about {end}"))
    shown = sorted((job for job in jobs if job["state"] != JobState.QUEUED), key=_job_order)[:JOBS_SHOWN]
    rest = Counter(str(job["state"]) for job in jobs) - Counter(str(job["state"]) for job in shown)
    return el(
        "article",
        el("h3", name, " ", mark(state_of(campaign), state_mood(campaign["state"]))),
        lines(waits_for(campaign, look.timezone), advice(campaign), _fetch(campaign)),
        bar(over, len(jobs), f"{name}: meters that have ended"),
        lines(*far),
        table(f"Meters of {name}", ("Meter", "State", "Progress", "Result"), map(_job, shown))
        if shown
        else None,
        el("p", f"And {counts(rest)}.", class_="quiet") if rest else None,
        aria_label=f"Campaign {name}",
    )


def _fetch(campaign: Document) -> Html:
    fetch = campaign["fetch"]
    if not fetch or campaign["state"] != CampaignState.FETCHING:
        return Html("")
    done, total = fetch["bytes_done"], fetch["bytes_total"]
    words = [f"{done // 1024} {f'of {total // 1024} ' if total else ''}KiB of the image"]
    words += [f"{fetch['bytes_per_s'] // 1024} KiB/s"] if fetch["bytes_per_s"] else []
    words += _to_go(fetch)
    return joined(bar(done, total or 0, "Octets of the image"), quiet(", ".join(words)))


def _job_order(job: Document) -> tuple[int, bool]:
    """Those that need somebody, then those at work."""
    return ATTENTION.index(state_mood(job["state"])), job["state"] in _ENDED_JOB


def _job(job: Document) -> Sequence[object]:
    return job["meter"], mark(job["state"], state_mood(job["state"])), _progress(job), _result(job)


def _progress(job: Document) -> Html:
    total = job["blocks_total"]
    if not total or job["state"] not in _BLOCKS_GO:
        return Html("")
    words = [f"{100 * job['blocks_done'] // total} %"]
    if job["state"] == JobState.TRANSFERRING:
        words += [f"{job['rate_bps']:.0f} B/s"] if job.get("rate_bps") else []
        words += _to_go(job)
    return joined(bar(job["blocks_done"], total, f"{job['meter']}: blocks"), quiet(", ".join(words)))


def _to_go(document: Document) -> list[str]:
    return [] if document.get("eta_s") is None else [f"{duration(document['eta_s'])} to go"]


def _result(job: Document) -> Html:
    if job["state"] == JobState.UPDATED:
        return joined(f"{job['version_before'] or '?'} → {job['version_after']}")
    if job["code"]:
        return lines(f"{job['code']}: {job['message']}", quiet(job["detail"]), advice(job))
    return lines(job["message"])


def ended(look: Look) -> Html:
    over = [one for one in look.campaigns if one["state"] in ENDED]
    if not over:
        return el("section", id="ended", hidden=True)
    rows = [
        (
            one["campaign_id"],
            mark(one["state"], state_mood(one["state"])),
            counts(one["counts"]),
            clock_time(one["finished_at"], look.at, look.timezone),
            lines(f"{one['code']}: {one['message']}" if one["code"] else "", advice(one)),
        )
        for one in sorted(over, key=lambda one: one["finished_at"], reverse=True)[:ENDED_SHOWN]
    ]
    head = ("Campaign", "Outcome", "Meters", "Ended", "Why")
    return section("ended", "Ended lately", table("Campaigns that have ended", head, rows))
