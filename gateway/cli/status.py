"""`status`: the gateway on one screen, for an engineer who stands before the cabinet; what needs hands comes first.

On a terminal it is never longer than that, lists are cut with a count; elsewhere everything is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click

from gateway.cli.client import Document, GatewayClient
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import Coloured, counts, duration, folded, say_json, table, terminal_size
from gateway.words import (
    decided_by,
    expected_end,
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
def status(desk: Desk) -> None:
    """Broker, clock, alarms, meters, campaigns, ports and windows on one screen, what needs hands first."""
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
        return
    info, meters = looks["info.get"], looks["meter.list"]["meters"]
    sections = [
        _facts(info, looks["ping"]["ts"], meters, looks["campaign.list"]["campaigns"]),
        _alarms(info["now"]["alarms"]),
        _parked(meters),
        _campaigns(open_ones, shares),
        _ports(looks["port.list"]["ports"]),
        _windows(looks["window.list"]),
    ]
    size = terminal_size()
    click.echo("\n".join(_screen([one for one in sections if one.items], size.lines - 1 if size else None)))


def _shares(client: GatewayClient, campaigns: Sequence[Document]) -> dict[str, float]:
    """How much of each campaign is done."""
    names = [one["campaign_id"] for one in campaigns[:_LOOKED_INTO]]
    return {
        name: share_done(client.ask("campaign.get", {"campaign_id": name})["data"]["jobs"]) for name in names
    }


# -- one screen -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Section:
    """A heading, and items of a line or more each; `rest` is the command that shows those that had no room."""

    items: list[list[str]]
    head: str = ""
    rest: str = ""
    left_out: int = 0

    def lines(self) -> Iterator[str]:
        if self.head:
            yield self.head
        for item in self.items:
            yield from item
        if self.left_out:
            yield f"and {self.left_out} more: meter-gateway {self.rest}"

    def leave_out_one(self) -> None:
        self.items.pop()
        self.left_out += 1


def _screen(sections: Sequence[_Section], room: int | None) -> list[str]:
    """The lines of all sections. With `room` for so many: first the longest list gives way, then the space between."""
    between = [""]
    for least, blank in ((2, [""]), (2, []), (1, [])):
        if room is None or _length(sections, between) <= room:
            break
        between = blank
        while _length(sections, between) > room:
            longest = max(sections, key=lambda one: len(one.items) if one.rest else 0)
            if not longest.rest or len(longest.items) <= least:
                break
            longest.leave_out_one()
    lines: list[str] = []
    for section in sections:
        lines += [*(between if lines else []), *section.lines()]
    return lines


def _length(sections: Sequence[_Section], between: Sequence[str]) -> int:
    return sum(len(list(one.lines())) for one in sections) + len(between) * (len(sections) - 1)


def _listed(rows: Sequence[Sequence[object]], head: Sequence[str], rest: str) -> _Section:
    """A table of which each row is one line on a terminal."""
    first, *others = table(rows, head=head, one_line=True).split("\n")
    return _Section([[line] for line in others], first, rest)


# -- what needs hands -----------------------------------------------------------------------------------------


def _facts(info: Document, time: str, meters: Sequence[Document], campaigns: Sequence[Document]) -> _Section:
    now = info["now"]
    needs = _needs_hands(now["alarms"], meters, campaigns)
    states = Counter("left alone" if one["parked"] else one["state"] or "idle" for one in meters)
    rows = [
        ("gateway", f"{info['gateway'] or '(no id)'}, version {info['version']}"),
        ("needs you", Coloured(needs, _HANDS) if needs else Coloured("no alarms, nothing to decide", _GOOD)),
        ("broker", _broker(now["uplink"], configured=info["limits"]["outbox_bytes"] is not None)),
        ("clock", _clock(now["clock"], time)),
        *([("firmware", info["firmware"]["note"])] if info["firmware"]["note"] else []),
        ("meters", f"{len(meters)}: {counts(states)}" if meters else "none"),
        ("campaigns", counts(Counter(one["state"] for one in campaigns))),
    ]
    return _Section([[line] for line in table(rows).split("\n")])


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


def _broker(uplink: Document | None, *, configured: bool) -> object:
    if not configured:
        return "none is configured"
    if uplink is None:
        return Coloured("not tried yet", _SOON)
    since = f"for {_ago(uplink['since'])}, since {moment(uplink['since'])}" if uplink["since"] else ""
    if uplink["online"]:
        return Coloured(f"connected {since}", _GOOD)
    return Coloured(f"not connected {since}: {uplink['reason'] or 'never reached'}", _HANDS)


def _ago(since: str) -> str:
    return duration((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def _clock(clock: Document | None, time: str) -> object:
    if clock is None:
        return "?"
    local = datetime.fromisoformat(time).astimezone(
        ZoneInfo(clock["timezone"]) if clock["timezone"] else None
    )
    words = f"{clock['state']}, {local.isoformat(sep=' ', timespec='seconds')} {clock['timezone']}".rstrip()
    return Coloured(words, {"synced": _GOOD, "unchecked": _SOON}.get(clock["state"], _HANDS))


def _alarms(alarms: Document) -> _Section:
    """Each with what to do about it."""
    items = []
    for name, alarm in alarms.items():
        since = f", since {moment(alarm['since'])}" if alarm.get("since") else ""
        words = folded(f"{name}: {alarm['message']}{since}")
        items.append([click.style(line, fg=_HANDS) for line in words] + folded(alarm.get("advice", ""), "  "))
    return _Section(items, "ALARMS", "status --json")


def _parked(meters: Sequence[Document]) -> _Section:
    """The meters that are left alone, and what to do about them."""
    parked = [(meter["meter"], meter["parked"]) for meter in meters if meter["parked"]]
    if not parked:
        return _Section([])
    rows = [
        (Coloured(name, _HANDS), why["since"][:19] + "Z", f"{why['code']}: {why['message']}")
        for name, why in parked
    ]
    section = _listed(rows, ("LEFT ALONE", "SINCE", ""), "meters")
    advice = dict.fromkeys(why["advice"] for _, why in parked)
    section.items[0] += [line for text in advice for line in folded(text, "  ")]
    return section


# -- what goes on ---------------------------------------------------------------------------------------------


def _campaigns(campaigns: Sequence[Document], shares: dict[str, float]) -> _Section:
    """Those that want a decision first."""
    if not campaigns:
        return _Section([])
    ordered = sorted(campaigns, key=lambda one: not decided_by(one))
    rows = [
        (one["campaign_id"], _state(one), _share(one, shares), counts(one["counts"]), _why(one))
        for one in ordered
    ]
    return _listed(rows, ("CAMPAIGN", "STATE", "DONE", "METERS", ""), "campaign ls")


def _state(one: Document) -> object:
    words = state_of(one)
    if decided_by(one):
        return Coloured(words, _HANDS)
    return Coloured(words, _SOON) if one["paused"] else words


def _share(one: Document, shares: dict[str, float]) -> str:
    return f"{shares[one['campaign_id']]:.0%}" if one["campaign_id"] in shares else ""


def _why(one: Document) -> str:
    """Why it waits, and until when; of one that is at work when it ends."""
    end = expected_end(one)
    return ", ".join(filter(None, (waits_for(one), end and f"ends about {end}")))


def _ports(ports: Sequence[Document]) -> _Section:
    """Those that cannot be used first."""
    if not ports:
        return _Section([])
    ordered = sorted(ports, key=lambda port: not (port["alarms"] or port["held"]))
    return _listed([_port(port) for port in ordered], ("PORT", "HEALTH", "METERS", "BUSY", "WHERE"), "ports")


def _port(port: Document) -> tuple[object, ...]:
    line = (
        f"{port['device']} {port['baud']} baud" if port["device"] else f"{port['address']} {port['framing']}"
    )
    figures = port.get("figures")
    busy = f"{figures['utilisation_minute']:.0%}" if figures else ""
    return port["port"], _health(port, figures), port["meters"], busy, line


def _health(port: Document, figures: Document | None) -> Coloured:
    """Why the line cannot be used now, and what went wrong on it since the gateway began, in a row."""
    wrong = [f"{figures[kind]} {kind}" for kind in _COUNTED if figures and figures[kind]]
    if port["alarms"]:
        return Coloured(", ".join([each.replace("_", " ") for each in port["alarms"]] + wrong), _HANDS)
    if port["held"]:
        return Coloured(", ".join([f"lent until {moment(port['held']['until'])}", *wrong]), _SOON)
    if figures and figures["timeouts"] and not figures["last_heard"]:
        return Coloured(", ".join(["nobody answers", *wrong]), _HANDS)
    heard = f", heard {_ago(figures['last_heard'])} ago" if figures and figures["last_heard"] else ""
    return Coloured(", ".join([f"good{heard}", *wrong]), _SOON if wrong else _GOOD)


def _windows(listed: Document) -> _Section:
    """The next one first."""
    if not listed["windows"]:
        return _Section([])
    trusted = listed["clock_trusted"]
    ordered = sorted(listed["windows"], key=lambda one: (not one["open"], one["opens_at"] or "~"))
    rows = [(one["window"], window_next(one, clock_trusted=trusted), window_hours(one)) for one in ordered]
    return _listed(rows, ("WINDOW", "NEXT", "HOURS"), "window ls")
