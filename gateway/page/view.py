"""The page: what a look shows, the most important first. Pure.

Read as it stands without a script; the script asks for the same parts again and puts them in place (`live`). Bounded
whatever the gateway has: of campaigns and their meters what matters most, with counts of the rest; meters page by page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from gateway.model import JobState
from gateway.page.campaigns import campaigns, ended
from gateway.page.cells import Mood, clock_time, commands, facts, mark, more, quiet, section, table
from gateway.page.looks import ENDED, Look
from gateway.page.markup import Html, el, joined
from gateway.page.meters import meters, pages_of, ports
from gateway.words import counts, duration, window_hours, window_next

ALARMS_SHOWN = 30
WINDOWS_SHOWN = 30

_REFRESH_S = 10
"""Where no script runs."""


def meters_page(look: Look, number: int) -> int:
    """The page of meters that is nearest to the one that was asked for."""
    return min(max(number, 1), pages_of(look))


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
        "campaigns": campaigns(look),
        "ports": ports(look),
        "meters": meters(look, meters_page),
        "windows": _windows(look),
        "ended": ended(look),
    }


def _title(look: Look) -> str:
    return f"{_verdict(look)[0]} - {look.info['gateway'] or 'meter-gateway'}"


def _at(look: Look) -> str:
    zone = ZoneInfo(look.timezone) if look.timezone else None
    return f"{look.at.astimezone(zone):%H:%M:%S %Z}"


# -- the summary and its alarms -------------------------------------------------------------------------------


def _verdict(look: Look) -> tuple[str, Mood]:
    going_on = [one["counts"] for one in look.campaigns if one["state"] not in ENDED]
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
    waiting, ends = now["outbox_bytes"], (now["certificates"] or {}).get("first_end")
    pairs = [
        ("Broker", _broker(look)),
        ("Clock", mark(*_clock(look))),
        ("Meters", counts(Counter(meter["state"] or "idle" for meter in look.meters))),
        ("Campaigns", counts(Counter(one["state"] for one in look.campaigns if one["state"] not in ENDED))),
        ("Waits for the broker", f"{-(-waiting // 1024)} KiB" if waiting else ""),
        ("First certificate ends", clock_time(ends, look.at, look.timezone) if ends else ""),
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
        "alarms", "Alarms", el("ul", *entries, class_="alarms"), more(len(alarms) - ALARMS_SHOWN, "alarms")
    )


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
    rest = more(len(look.windows) - WINDOWS_SHOWN, "windows")
    return section("windows", "Windows", table("Windows", ("Window", "Next", "Hours"), rows), rest)
