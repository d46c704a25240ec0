"""Lines and meters on the page. Pure."""

from __future__ import annotations

from gateway.page.cells import (
    ATTENTION,
    Mood,
    advice,
    clock_time,
    lines,
    mark,
    quiet,
    section,
    state_mood,
    table,
)  # fmt: skip
from gateway.page.looks import Document, Look
from gateway.page.markup import Html, el, joined
from gateway.words import counts

METERS_SHOWN = 50
"""On one page."""


def ports(look: Look) -> Html:
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


def meters(look: Look, number: int) -> Html:
    if not look.meters:
        return section("meters", "Meters", el("p", "None configured.", class_="quiet"))
    pages = pages_of(look)
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


def pages_of(look: Look) -> int:
    """How many pages the meters fill."""
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
    return ATTENTION.index(_meter_mood(meter)), not meter["state"]


def _meter_state(meter: Document, look: Look) -> Html:
    parked = meter["parked"]
    if parked:
        since = clock_time(parked["since"], look.at, look.timezone)
        return lines(
            joined(mark("left alone", Mood.BAD), " since ", since),
            f"{parked['code']}: {parked['message']}",
            advice(parked),
        )
    if not meter["state"]:
        return mark("idle", Mood.QUIET)
    return joined(mark(meter["state"], _meter_mood(meter)), " ", quiet(meter["campaign_id"]))
