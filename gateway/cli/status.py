"""`status`: the gateway on one screen, for an engineer who stands before the cabinet; what needs hands comes first.

On a terminal it is never longer than that, lists are cut with a count; elsewhere everything is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from gateway.cli.client import Document, GatewayClient
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import Coloured, counts, duration, folded, say_json, table, terminal_size
from gateway.words import (
    decided_by,
    moment,
    share_done,
    state_of,
    waits_for,
    window_hours,
    window_next,
)

_LOOKED_INTO = 5
"""So many open campaigns are asked for their blocks: a screen has no room for more."""
_COUNTED = ("polls", "timeouts", "damaged", "foreign")
_GOOD, _SOON, _HANDS = "green", "yellow", "red"


@click.command()
@shared_options
@click.pass_obj
def status(desk: Desk) -> int | None:
    """Broker, clock, alarms, meters, campaigns, ports and windows on one screen, what needs hands first; of several
    gateways a line each."""
    if desk.is_fleet:
        from gateway.cli import fleet

        return fleet.status(desk)
    with desk.connect() as client:
        looks = {
            verb: client.ask(verb)["data"]
            for verb in ("ping", "info.get", "port.list", "meter.list", "campaign.list", "window.list")
        }
        open_ones = [one for one in looks["campaign.list"]["campaigns"] if not one["finished_at"]]
        # All the jobs of a campaign are much to ask of a gateway behind a radio link.
        shares = {} if desk.as_json or desk.gateway else _shares(client, open_ones)
    if desk.as_json:
        say_json({
            "info": looks["info.get"],
            "ports": looks["port.list"]["ports"],
            "meters": looks["meter.list"]["meters"],
            "campaigns": looks["campaign.list"]["campaigns"],
            **looks["window.list"],
        })  # fmt: skip
        return None
    info, meters = looks["info.get"], looks["meter.list"]["meters"]
    # The gateway's own time: it may be far away.
    now = datetime.fromisoformat(looks["ping"]["ts"])
    sections = [
        _facts(info, now, meters, looks["campaign.list"]["campaigns"]),
        _alarms(info["now"]["alarms"], now),
        _parked(meters),
        _campaigns(open_ones, shares, now),
        _ports(looks["port.list"]["ports"], now),
        _windows(looks["window.list"]),
    ]
    size = terminal_size()
    click.echo("\n".join(_screen([one for one in sections if one.items], size.lines - 1 if size else None)))
    return None


def _shares(client: GatewayClient, campaigns: Sequence[Document]) -> dict[str, float]:
    """How much of each campaign is done."""
    names = [one["campaign_id"] for one in campaigns[:_LOOKED_INTO]]
    return {
        name: share_done(client.ask("campaign.get", {"campaign_id": name})["data"]["jobs"]) for name in names
    }


# -- one screen -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Section:
    """Items of a line or more each, perhaps beneath a heading. Of those with a name, such as "ports", some may be left
    out; `rest` is the command that shows them."""

    items: list[list[str]]
    head: str = ""
    name: str = ""
    rest: str = ""
    left_out: int = 0

    def lines(self) -> Iterator[str]:
        if self.head and self.items:
            yield self.head
        for item in self.items:
            yield from item
        if self.left_out:
            others = f"and {self.left_out} more:" if self.items else f"{self.name}: {self.left_out}, see"
            yield f"{others} meter-gateway {self.rest}"

    def leave_out(self, number: int) -> None:
        del self.items[len(self.items) - number :]
        self.left_out += number


def _screen(sections: Sequence[_Section], room: int | None) -> list[str]:
    """The lines of all sections. With `room` for so many the space between gives way, then the longest lists, and at
    last whole sections, from the end."""
    between = [""]
    if room is not None and _length(sections, between) > room:
        between = []
        while _length(sections, between) > room and (longest := _longest(sections)):
            # The count takes a line as well: to leave out one alone gains nothing.
            longest.leave_out(1 if longest.left_out else 2)
        for section in reversed(sections):
            if section.name and _length(sections, between) > room:
                section.leave_out(len(section.items))
    lines: list[str] = []
    for section in sections:
        lines += [*(between if lines else []), *section.lines()]
    return lines


def _longest(sections: Sequence[_Section]) -> _Section | None:
    """The list that can best do without an item; two stay."""
    lists = [one for one in sections if one.name and len(one.items) >= (3 if one.left_out else 4)]
    return max(lists, key=lambda one: len(one.items), default=None)


def _length(sections: Sequence[_Section], between: Sequence[str]) -> int:
    return sum(len(list(one.lines())) for one in sections) + len(between) * (len(sections) - 1)


def _listed(rows: Sequence[Sequence[object]], head: Sequence[str], name: str, rest: str) -> _Section:
    """A table of which each row is one line on a terminal."""
    first, *others = table(rows, head=head, one_line=True).split("\n")
    return _Section([[line] for line in others], first, name, rest)


# -- what needs hands -----------------------------------------------------------------------------------------


def _facts(
    info: Document, now: datetime, meters: Sequence[Document], campaigns: Sequence[Document]
) -> _Section:
    latest = info["now"]
    needs = _needs_hands(latest["alarms"], meters, campaigns)
    states = Counter("left alone" if one["parked"] else one["state"] or "idle" for one in meters)
    over = Counter(one["state"] for one in campaigns if one["finished_at"])
    rows = [
        ("gateway", f"{info['gateway'] or '(no id)'}, version {info['version']}"),
        ("needs you", Coloured(needs, _HANDS) if needs else Coloured("no alarms, nothing to decide", _GOOD)),
        ("broker", _broker(latest["uplink"], now, configured=info["limits"]["outbox_bytes"] is not None)),
        ("clock", _clock(latest["clock"], now)),
        *([("firmware", info["firmware"]["note"])] if info["firmware"]["note"] else []),
        ("meters", f"{len(meters)}: {counts(states)}" if meters else "none"),
        *([("ended", f"campaigns: {counts(over)}")] if over else []),
    ]
    return _Section([[line] for line in table(rows, one_line=True).split("\n")])


def _needs_hands(alarms: Document, meters: Sequence[Document], campaigns: Sequence[Document]) -> str:
    """`2 alarms, 1 meter left alone, 1 campaign to be decided`; empty where all goes on by itself."""
    found = (
        (len(alarms), "alarm", "s", ""),
        (sum(one["parked"] is not None for one in meters), "meter", "s", " left alone"),
        (sum(decided_by(one) != "" for one in campaigns), "campaign", "s", " to be decided"),
    )
    return ", ".join(
        f"{count} {what}{plural if count > 1 else ''}{how}" for count, what, plural, how in found if count
    )


def _broker(uplink: Document | None, now: datetime, *, configured: bool) -> object:
    if not configured:
        return "none is configured"
    if uplink is None:
        return Coloured("not tried yet", _SOON)
    if uplink["online"]:
        return Coloured(f"connected for {_ago(uplink['since'], now)}, since {moment(uplink['since'])}", _GOOD)
    return Coloured(
        f"not connected for {_ago(uplink['since'], now)}: {uplink['reason'] or 'never reached'}", _HANDS
    )


def _ago(since: str, now: datetime) -> str:
    return duration((now - datetime.fromisoformat(since)).total_seconds())


def _clock(clock: Document | None, now: datetime) -> object:
    if clock is None:
        return "?"
    local = now.astimezone(ZoneInfo(clock["timezone"]) if clock["timezone"] else None)
    words = f"{clock['state']}, {local.isoformat(sep=' ', timespec='seconds')} {clock['timezone']}".rstrip()
    return Coloured(words, {"synced": _GOOD, "unchecked": _SOON}.get(clock["state"], _HANDS))


def _alarms(alarms: Document, now: datetime) -> _Section:
    """The newest first, each with what to do about it, which is said once."""
    items = []
    advised: set[str] = set()
    for name, alarm in sorted(alarms.items(), key=lambda one: str(one[1].get("since")), reverse=True):
        since = f", for {_ago(alarm['since'], now)}" if alarm.get("since") else ""
        words = folded(f"ALARM {name}: {alarm['message']}{since}")
        advice = "" if (said := alarm.get("advice", "")) in advised else said
        advised.add(advice)
        items.append([click.style(line, fg=_HANDS) for line in words] + folded(advice, "  "))
    return _Section(items, name="alarms", rest="status --json")


def _parked(meters: Sequence[Document]) -> _Section:
    """The meters that are left alone, and what to do about them."""
    parked = [(meter["meter"], meter["parked"]) for meter in meters if meter["parked"]]
    if not parked:
        return _Section([])
    rows = [
        (Coloured(name, _HANDS), why["since"][:19] + "Z", f"{why['code']}: {why['message']}")
        for name, why in parked
    ]
    section = _listed(rows, ("LEFT ALONE", "SINCE", ""), "meters left alone", "meters")
    advice = dict.fromkeys(why["advice"] for _, why in parked)
    section.items[0] += [line for text in advice for line in folded(text, "  ")]
    return section


# -- what goes on ---------------------------------------------------------------------------------------------


def _campaigns(campaigns: Sequence[Document], shares: dict[str, float], now: datetime) -> _Section:
    """Those that want a decision first."""
    if not campaigns:
        return _Section([])
    ordered = sorted(campaigns, key=lambda one: not decided_by(one))
    rows = [
        (one["campaign_id"], _state(one), _share(one, shares), counts(one["counts"]), _why(one, now))
        for one in ordered
    ]
    return _listed(rows, ("CAMPAIGN", "STATE", "DONE", "METERS", ""), "open campaigns", "campaign ls")


def _state(one: Document) -> object:
    words = state_of(one)
    if decided_by(one):
        return Coloured(words, _HANDS)
    return Coloured(words, _SOON) if one["paused"] else words


def _share(one: Document, shares: dict[str, float]) -> str:
    return f"{int(100 * shares[one['campaign_id']])} %" if one["campaign_id"] in shares else ""


def _why(one: Document, now: datetime) -> str:
    """Why it waits, and until when; of one that is at work, how long it still takes."""
    left_s = (datetime.fromisoformat(one["eta"]) - now).total_seconds() if one["eta"] else 0.0
    rest = f"{duration(left_s)} to go" if one["eta"] else ""
    return ", ".join(filter(None, (waits_for(one), rest, "later than it may" if one["late"] else "")))


def _ports(ports: Sequence[Document], now: datetime) -> _Section:
    """Those that cannot be used first."""
    if not ports:
        return _Section([])
    ordered = sorted(ports, key=lambda port: not (port["alarms"] or port["held"]))
    return _listed(
        [_port(port, now) for port in ordered],
        ("PORT", "HEALTH", "METERS", "BUSY", "WHERE"),
        "ports",
        "ports",
    )


def _port(port: Document, now: datetime) -> tuple[object, ...]:
    line = (
        f"{port['device']} {port['baud']} baud" if port["device"] else f"{port['address']} {port['framing']}"
    )
    figures = port.get("figures")
    busy = f"{100 * figures['utilisation_minute']:.0f} %" if figures else ""
    return port["port"], _health(port, figures, now), port["meters"], busy, line


def _health(port: Document, figures: Document | None, now: datetime) -> Coloured:
    """Why the line cannot be used now, and what was counted on it that goes wrong, in a row."""
    wrong = [f"{figures[kind]} {kind}" for kind in _COUNTED if figures and figures[kind]]
    if port["alarms"]:
        return Coloured(", ".join([each.replace("_", " ") for each in port["alarms"]] + wrong), _HANDS)
    if port["held"]:
        return Coloured(", ".join([f"lent until {moment(port['held']['until'])}", *wrong]), _SOON)
    if figures and figures["timeouts"] and not figures["last_heard"]:
        return Coloured(", ".join(["nobody answers", *wrong]), _HANDS)
    heard = f", heard {_ago(figures['last_heard'], now)} ago" if figures and figures["last_heard"] else ""
    return Coloured(", ".join([f"good{heard}", *wrong]), _SOON if wrong else _GOOD)


def _windows(listed: Document) -> _Section:
    """The next one first."""
    if not listed["windows"]:
        return _Section([])
    trusted = listed["clock_trusted"]
    ordered = sorted(listed["windows"], key=lambda one: (not one["open"], one["opens_at"] or "~"))
    rows = [(one["window"], window_next(one, clock_trusted=trusted), window_hours(one)) for one in ordered]
    return _listed(rows, ("WINDOW", "NEXT", "HOURS"), "windows", "window ls")
