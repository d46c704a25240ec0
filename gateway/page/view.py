"""The page: what a look shows, the most important first. Pure.

Read as it stands without a script; the script asks for the same parts again and puts them in place (`live`). Bounded
whatever the gateway has: of campaigns and their meters what matters most, with counts of the rest; meters page by page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from gateway.model import TERMINAL_CAMPAIGN, TERMINAL_JOB, CampaignState, JobState
from gateway.page.cells import (
    Mood,
    bar,
    clock_time,
    commands,
    facts,
    lines,
    mark,
    quiet,
    section,
    state_mood,
    table,
)
from gateway.page.looks import Document, Look
from gateway.page.markup import Html, el, joined
from gateway.words import counts, duration, expected_end, state_of, waits_for, window_hours, window_next

METERS_SHOWN = 50
"""On one page."""
JOBS_SHOWN = 20
"""Of a campaign; those that are queued are counted."""
ENDED_SHOWN = 5
ALARMS_SHOWN = 30
WINDOWS_SHOWN = 30

_REFRESH_S = 10
"""Where no script runs."""
_ENDED = {state.value for state in TERMINAL_CAMPAIGN}
_ENDED_JOB = {state.value for state in TERMINAL_JOB}
_BLOCKS_GO = frozenset({
    JobState.QUEUED, JobState.WAITING, JobState.PRECHECK, JobState.INITIATING, JobState.TRANSFERRING,
})  # fmt: skip
"""Afterwards the meter has them all, and its state says what it does with them."""
_ATTENTION = (Mood.BAD, Mood.WORK, Mood.WAIT, Mood.GOOD, Mood.QUIET)
"""In this order."""


def meters_page(look: Look, number: int) -> int:
    """The page of meters that is nearest to the one that was asked for."""
    return min(max(number, 1), _pages(look))


def page(look: Look, meters_page: int) -> bytes:
    """The whole document."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", _title(look)),
        el("link", rel="icon", href="icon.svg"),
        el("link", rel="stylesheet", href="page.css"),
        el("noscript", el("meta", http_equiv="refresh", content=_REFRESH_S)),
        el("script", src="page.js", defer=True),
    )
    header = el(
        "header",
        el("h1", look.info["gateway"] or "meter-gateway"),
        el("p", "As of ", el("time", _at(look), id="at"), " ", el("span", role="status", id="freshness")),
    )
    body = el(
        "body",
        header,
        el("main", *parts(look, meters_page).values()),
        el("footer", el("p", f"meter-gateway {look.info['version']}. This page shows, and changes nothing.")),
        data_live=f"live.json?meters={meters_page}",
        data_version=look.info["version"],
    )
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n".encode()


def live(look: Look, meters_page: int) -> bytes:
    """What the script puts in place, by the ids of the parts."""
    document = {
        "title": _title(look),
        "version": look.info["version"],
        "at": _at(look),
        "parts": parts(look, meters_page),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def parts(look: Look, meters_page: int) -> Mapping[str, Html]:
    """The sections by their ids, in order."""
    return {
        "summary": _summary(look),
        "alarms": _alarms(look),
        "campaigns": _campaigns(look),
        "ports": _ports(look),
        "meters": _meters(look, meters_page),
        "windows": _windows(look),
        "ended": _ended(look),
    }


def _title(look: Look) -> str:
    return f"{_verdict(look)[0]} - {look.info['gateway'] or 'meter-gateway'}"


def _at(look: Look) -> str:
    zone = ZoneInfo(look.timezone) if look.timezone else None
    return f"{look.at.astimezone(zone):%H:%M:%S %Z}"


# -- the summary and its alarms -------------------------------------------------------------------------------


def _verdict(look: Look) -> tuple[str, Mood]:
    going_on = [one["counts"] for one in look.campaigns if one["state"] not in _ENDED]
    found = (
        (len(look.alarms), "alarm", ""),
        (sum(meter["parked"] is not None for meter in look.meters), "meter", " left alone"),
        (sum(one.get(JobState.FAILED, 0) for one in going_on), "meter", " failed"),
        (sum(one.get(JobState.UNCERTAIN, 0) for one in going_on), "meter", " uncertain"),
    )
    wrong = [f"{number} {name}{'' if number == 1 else 's'}{rest}" for number, name, rest in found if number]
    if not (look.info["now"]["uplink"] or {"online": True})["online"]:
        wrong.append("broker not connected")
    return (", ".join(wrong), Mood.BAD) if wrong else ("In order", Mood.GOOD)


def _summary(look: Look) -> Html:
    words, mood = _verdict(look)
    now = look.info["now"]
    waiting = now["outbox_bytes"]
    pairs = [
        ("Broker", _broker(look)),
        ("Clock", mark(*_clock(look))),
        ("Meters", counts(Counter(meter["state"] or "idle" for meter in look.meters))),
        ("Campaigns", counts(Counter(one["state"] for one in look.campaigns if one["state"] not in _ENDED))),
        ("Waits for the broker", f"{-(-waiting // 1024)} KiB" if waiting else ""),
        ("Running for", duration(look.up_s)),
    ]
    return el(
        "section",
        el("h2", words, class_=f"verdict {mood}", id="summary-title"),
        facts((name, value) for name, value in pairs if value),
        el("p", note, class_="quiet") if (note := look.info["firmware"]["note"]) else None,
        id="summary",
        aria_labelledby="summary-title",
    )


def _broker(look: Look) -> Html:
    uplink = look.info["now"]["uplink"]
    if uplink is None:
        return quiet("none configured, or not tried yet")
    since = joined("since ", clock_time(uplink["since"], look.at, look.timezone))
    if uplink["online"]:
        return joined(mark("connected", Mood.GOOD), " ", quiet(since))
    return joined(
        mark("not connected", Mood.BAD), " ", quiet(since, ": ", uplink["reason"] or "never reached")
    )


def _clock(look: Look) -> tuple[str, Mood]:
    state = (look.info["now"]["clock"] or {}).get("state", "not looked at yet")
    return state, {"synced": Mood.GOOD, "unsynced": Mood.BAD}.get(state, Mood.QUIET)


def _alarms(look: Look) -> Html:
    alarms = sorted(look.alarms.items())
    if not alarms:
        return el("section", id="alarms", hidden=True)
    entries = [
        el(
            "li",
            el("h3", mark(code, Mood.BAD), " ", quiet("since ", clock_time(since, look.at, look.timezone))),
            el("p", alarm["message"]),
            el("p", commands(alarm.get("advice", "")), class_="advice"),
        )
        for code, alarm in alarms[:ALARMS_SHOWN]
        for since in [alarm.get("since") or alarm.get("at")]
    ]
    return section(
        "alarms", "Alarms", el("ul", *entries, class_="alarms"), _more(len(alarms) - ALARMS_SHOWN, "alarms")
    )


def _more(number: int, what: str) -> Html:
    return el("p", f"And {number} more {what}.", class_="quiet") if number > 0 else Html("")


# -- campaigns ------------------------------------------------------------------------------------------------


def _campaigns(look: Look) -> Html:
    going_on = sum(one["state"] not in _ENDED for one in look.campaigns)
    if not going_on:
        return section("campaigns", "Campaigns", el("p", "None at work.", class_="quiet"))
    cards = [_campaign(campaign, jobs, look) for campaign, jobs in look.open]
    return section("campaigns", "Campaigns", *cards, _more(going_on - len(cards), "that go on"))


def _campaign(campaign: Document, jobs: Sequence[Document], look: Look) -> Html:
    name = campaign["campaign_id"]
    ended = sum(job["state"] in _ENDED_JOB for job in jobs)
    far = [quiet(f"{ended} of {len(jobs)} meters have ended: {counts(campaign['counts'])}")]
    if end := expected_end(campaign, look.timezone):
        far.append(quiet(f"Ends about {end}"))
    shown = sorted((job for job in jobs if job["state"] != JobState.QUEUED), key=_job_order)[:JOBS_SHOWN]
    rest = Counter(str(job["state"]) for job in jobs) - Counter(str(job["state"]) for job in shown)
    return el(
        "article",
        el("h3", name, " ", mark(state_of(campaign), state_mood(campaign["state"]))),
        lines(waits_for(campaign, look.timezone), _advice(campaign), _fetch(campaign)),
        bar(ended, len(jobs), f"{name}: meters that have ended"),
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
    return _ATTENTION.index(state_mood(job["state"])), job["state"] in _ENDED_JOB


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
        return lines(f"{job['code']}: {job['message']}", quiet(job["detail"]), _advice(job))
    return lines(job["message"])


def _advice(document: Document) -> Html:
    return el("span", commands(document["advice"]), class_="advice") if document["advice"] else Html("")


def _ended(look: Look) -> Html:
    ended = [one for one in look.campaigns if one["state"] in _ENDED]
    if not ended:
        return el("section", id="ended", hidden=True)
    rows = [
        (
            one["campaign_id"],
            mark(one["state"], state_mood(one["state"])),
            counts(one["counts"]),
            clock_time(one["finished_at"], look.at, look.timezone),
            lines(f"{one['code']}: {one['message']}" if one["code"] else "", _advice(one)),
        )
        for one in sorted(ended, key=lambda one: one["finished_at"], reverse=True)[:ENDED_SHOWN]
    ]
    head = ("Campaign", "Outcome", "Meters", "Ended", "Why")
    return section("ended", "Ended lately", table("Campaigns that have ended", head, rows))


# -- lines, meters, windows -----------------------------------------------------------------------------------


def _ports(look: Look) -> Html:
    if not look.ports:
        return section("ports", "Ports", el("p", "None configured.", class_="quiet"))
    rows = [
        (
            port["port"],
            lines(_health(port, look), quiet(_trouble(port))),
            f"{port['figures']['utilisation_minute']:.0%}" if "figures" in port else "",
            port["meters"],
            lines(port["device"] or port["address"], quiet(_kind(port))),
        )
        for port in look.ports
    ]
    return section("ports", "Ports", table("Ports", ("Port", "Health", "Busy", "Meters", "Line"), rows))


def _kind(port: Document) -> str:
    return f"{port['kind']}, {port['baud']} baud" if port["device"] else f"{port['kind']}, {port['framing']}"


def _health(port: Document, look: Look) -> Html:
    if port["alarms"]:
        return joined(*(mark(kind, Mood.BAD) for kind in port["alarms"]))
    if port["held"]:
        return joined(
            mark("lent", Mood.WAIT), " until ", clock_time(port["held"]["until"], look.at, look.timezone)
        )
    if port["scan"]:
        return mark("scan", Mood.WORK)
    return mark("in order", Mood.GOOD) if "figures" in port else mark("not used yet", Mood.QUIET)


def _trouble(port: Document) -> str:
    figures = port.get("figures", {})
    kinds = {"timeouts": "time-outs", "polls": "polls", "damaged": "damaged", "foreign": "foreign"}
    found = {word: figures.get(kind, 0) for kind, word in kinds.items()}
    return counts(found) if any(found.values()) else ""


def _meters(look: Look, number: int) -> Html:
    if not look.meters:
        return section("meters", "Meters", el("p", "None configured.", class_="quiet"))
    pages = _pages(look)
    first = (number - 1) * METERS_SHOWN
    shown = sorted(look.meters, key=_meter_order)[first : first + METERS_SHOWN]
    rows = [
        (
            meter["meter"],
            _meter_state(meter, look),
            meter["version"],
            clock_time((meter.get("figures") or {}).get("last_heard"), look.at, look.timezone),
            meter["port"],
        )
        for meter in shown
    ]
    note = f" {first + 1} to {first + len(shown)} of {len(look.meters)}" if pages > 1 else ""
    head = ("Meter", "State", "Version", "Last heard", "Port")
    return section("meters", "Meters", table("Meters", head, rows), _turning(number, pages), note=note)


def _pages(look: Look) -> int:
    return max(1, -(-len(look.meters) // METERS_SHOWN))


def _turning(number: int, pages: int) -> Html:
    """Links to the other pages of meters."""
    if pages == 1:
        return Html("")
    links = [
        el("a", word, href=f"?meters={to}#meters", id=f"meters-{word.lower()}", rel=rel)
        for word, to, rel in (("Previous", number - 1, "prev"), ("Next", number + 1, "next"))
        if 1 <= to <= pages
    ]
    return el("nav", *links, quiet(f"page {number} of {pages}"), aria_label="Pages of meters")


def _meter_mood(meter: Document) -> Mood:
    if meter["parked"]:
        return Mood.BAD
    return state_mood(meter["state"]) if meter["state"] else Mood.QUIET


def _meter_order(meter: Document) -> tuple[int, bool]:
    return _ATTENTION.index(_meter_mood(meter)), not meter["state"]


def _meter_state(meter: Document, look: Look) -> Html:
    parked = meter["parked"]
    if parked:
        since = clock_time(parked["since"], look.at, look.timezone)
        return lines(
            joined(mark("left alone", Mood.BAD), " since ", since),
            f"{parked['code']}: {parked['message']}",
            _advice(parked),
        )
    if not meter["state"]:
        return mark("idle", Mood.QUIET)
    return joined(mark(meter["state"], _meter_mood(meter)), " ", quiet(meter["campaign_id"]))


def _windows(look: Look) -> Html:
    if not look.windows:
        return el("section", id="windows", hidden=True)
    rows = [
        (
            one["window"],
            mark(
                window_next(one, clock_trusted=look.clock_trusted), Mood.GOOD if one["open"] else Mood.QUIET
            ),
            window_hours(one),
        )
        for one in look.windows[:WINDOWS_SHOWN]
    ]
    rest = _more(len(look.windows) - WINDOWS_SHOWN, "windows")
    return section("windows", "Windows", table("Windows", ("Window", "Next", "Hours"), rows), rest)
