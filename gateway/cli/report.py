"""`campaign report`: what became of every meter of a campaign, as a page of text, as CSV and as JSON.

All of it is from one `campaign.get`, so that it can be had during the campaign and long after it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import click

from gateway.cli.client import Document
from gateway.cli.completion import CAMPAIGNS
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import counts, differences, duration, folded, safe, say_json, table
from gateway.model import TERMINAL_CAMPAIGN, JobState
from gateway.words import expected_end, state_of, waits_for

_OF_A_METER = (
    "meter", "port", "state", "code", "message", "detail", "advice", "version_before", "version_after", "started_at",
    "activated_at", "finished_at", "blocks_total", "blocks_sent", "blocks_resent", "blocks_broadcast", "bytes_sent",
    "transfer_s", "bytes_per_s", "delivery",
)  # fmt: skip
"""The columns of the CSV, after the campaign's id, and the fields of each meter in JSON."""
_HEALTH = "health"
"""One column more in the CSV: what differs; in JSON all that was read."""
_FOUND = (
    "reachable", "version", "status", "enabled", "block_size", "largest_block", "blocks_left", "estimate_s",
)  # fmt: skip
"""Of a dry run: more columns, `found_` before them, and in JSON the fields of `findings`."""

_HEAD = ("METER", "STATE", "VERSION", "BEGAN", "ACTIVATED", "ENDED", "BLOCKS", "AGAIN", "BYTES/S", "DELIVERY")
_FOUND_HEAD = (
    "METER", "STATE", "REACHED", "VERSION", "STATUS", "ENABLED", "BLOCK", "LARGEST", "BLOCKS", "TAKES",
)  # fmt: skip

_SUMMED = ("blocks_sent", "blocks_resent", "blocks_broadcast", "bytes_sent", "transfer_s")
_ENDED = {state.value for state in TERMINAL_CAMPAIGN}


@click.command()
@click.argument("campaign_id", shell_complete=CAMPAIGNS)
@click.option("--csv", "as_csv", is_flag=True, help="A line for each meter, for a spreadsheet.")
@click.option("--text", "as_text", is_flag=True, help="A page to read; the default.")
@shared_options
@click.pass_obj
def report(desk: Desk, /, campaign_id: str, as_csv: bool, as_text: bool) -> int | None:
    """What became of each meter: outcome, versions, times, blocks, throughput; and the campaign's totals."""
    if as_csv + as_text + desk.as_json > 1:
        raise click.UsageError("Say one of --json, --csv and --text.")
    if desk.is_fleet:
        from gateway.cli.fleet_watch import report_of_all

        return report_of_all(desk, campaign_id, as_csv=as_csv)
    with desk.connect() as client:
        data = client.look("campaign.get", {"campaign_id": campaign_id})
    document = report_document(data["campaign"], data["jobs"])
    if desk.as_json:
        say_json(document)
    else:
        click.echo(csv_text([document]) if as_csv else _page(document), nl=not as_csv)
    return None


def report_document(campaign: Document, jobs: list[Document]) -> Document:
    """The campaign as it is told, `totals` over its meters, and `meters`: each with the fields of the CSV.

    `bytes_per_s`: octets of blocks, those sent again included, by the time in which the line was at work on them; null
    where none went."""
    sums: Document = {name: sum(job[name] for job in jobs) for name in _SUMMED}
    begun = [job["started_at"] for job in jobs if job["started_at"]]
    totals = {"meters": len(jobs), **sums, **_rate(sums), "started_at": min(begun, default=None)}
    told = [{**job, **_rate(job)} for job in jobs]
    return {
        "campaign": campaign,
        "ended": campaign["state"] in _ENDED,
        "totals": totals,
        "meters": [{name: job[name] for name in (*_OF_A_METER, _HEALTH, "findings")} for job in told],
    }


def _rate(sums: Document) -> Document:
    seconds = sums["transfer_s"]
    return {"bytes_per_s": round(sums["bytes_sent"] / seconds, 1) if seconds else None}


# -- CSV ------------------------------------------------------------------------------------------------------


def csv_text(documents: Sequence[Document], *, gateways: Sequence[str] = ()) -> str:
    """Of one report, or of the reports of several gateways, which then have a column. RFC 4180, but for lines that end
    in LF alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    more = _FOUND if any(document["campaign"]["dry_run"] for document in documents) else ()
    first = ("gateway", "campaign_id") if gateways else ("campaign_id",)
    writer.writerow((*first, *_OF_A_METER, _HEALTH, *(f"found_{name}" for name in more)))
    for number, document in enumerate(documents):
        whose = (*gateways[number : number + 1], document["campaign"]["campaign_id"])
        for meter in document["meters"]:
            own = (
                [meter[name] for name in _OF_A_METER]
                + [differences(meter[_HEALTH])]
                + [(meter["findings"] or {}).get(name) for name in more]
            )
            writer.writerow((*whose, *map(_cell, own)))
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text comes from meters and messages: a spreadsheet must not take it for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{safe(value)}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else safe(value)


# -- a page of text -------------------------------------------------------------------------------------------


def _page(document: Document) -> str:
    campaign, meters = document["campaign"], document["meters"]
    if campaign["dry_run"]:
        rows, head = [_found_row(meter) for meter in meters], _FOUND_HEAD
    else:
        rows, head = [_row(meter) for meter in meters], _HEAD
    return "\n".join([
        *folded(_headline(document)), "", table(_facts(campaign, document["totals"])), "", table(rows, head=head),
        *_explained(meters),
    ])  # fmt: skip


def _headline(document: Document) -> str:
    campaign = document["campaign"]
    line = f"Campaign {campaign['campaign_id']}: {state_of(campaign)}, {counts(campaign['counts'])}"
    return line if document["ended"] else f"{line}. It goes on: this is how it stands now."


def _facts(campaign: Document, totals: Document) -> list[tuple[str, str]]:
    image = campaign["image"]
    again = f", {totals['blocks_resent']} of them again" if totals["blocks_resent"] else ""
    at_work = (
        f" in {duration(totals['transfer_s'])}: {_per_s(totals)} bytes/s" if totals["transfer_s"] else ""
    )
    facts = [
        ("image", f"{image['sha256']} ({image['size'] or '?'} bytes)"),
        ("identifier", campaign["identifier"]),
        ("expected", campaign["expect_version"] or "a version that differs"),
        ("ordered", campaign["created_at"]),
        ("began", totals["started_at"] or "-"),
        ("ended", campaign["finished_at"] or "-"),
        ("expected end", expected_end(campaign)),
        ("sent", f"{totals['blocks_sent']} blocks{again}; {totals['bytes_sent']} bytes{at_work}"),
        ("why", waits_for(campaign) if campaign["code"] or campaign["paused"] else ""),
    ]
    return [fact for fact in facts if fact[1]]


def _found_row(meter: Document) -> tuple[str, ...]:
    found = meter["findings"] or dict.fromkeys(_FOUND)
    estimate = "-" if found["estimate_s"] is None else duration(found["estimate_s"])
    return meter["meter"], meter["state"], *(_said(found[name]) for name in _FOUND[:-1]), estimate


def _said(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _row(meter: Document) -> tuple[str, ...]:
    before, after = meter["version_before"], meter["version_after"]
    updated = meter["state"] == JobState.UPDATED
    return (
        meter["meter"], meter["state"], f"{before} -> {after}" if updated else before, _time(meter["started_at"]),
        _time(meter["activated_at"]), _time(meter["finished_at"]), str(meter["blocks_sent"]),
        str(meter["blocks_resent"]), _per_s(meter), meter["delivery"],
    )  # fmt: skip


def _per_s(of: Document) -> str:
    return "-" if of["bytes_per_s"] is None else f"{of['bytes_per_s']:.0f}"


def _time(text: str | None) -> str:
    """To the second, in UTC as everywhere in a report, which may be read far away."""
    return f"{text[:19]}Z" if text else "-"


def _explained(meters: Iterable[Document]) -> list[str]:
    """Code, reason and advice of each meter that has one, what differs after its update, and what a dry run would have
    done."""
    lines: list[str] = []
    for meter in meters:
        if not meter["code"] and (meter["findings"] or differences(meter[_HEALTH])):
            lines += ["", *folded(f"{meter['meter']}: {meter['message']}")]
        if meter["code"]:
            lines += ["", *folded(f"{meter['meter']}: {meter['code']}: {meter['message']}")]
            lines += [*folded(meter["detail"], "  "), *folded(meter["advice"], "  ")]
    return lines
