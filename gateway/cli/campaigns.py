"""Orders to the daemon: `campaign ...` and `update`."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import Document
from gateway.cli.completion import CAMPAIGNS, METERS, PORTS, PROFILES, WHOLE_DIGESTS
from gateway.cli.groups import Group
from gateway.cli.images import envelope_of, hand_over
from gateway.cli.order_options import given, group_options, order_options
from gateway.cli.report import report
from gateway.cli.root import Desk, shared_options
from gateway.cli.serve import served
from gateway.cli.signing import ManifestFile, manifest_option
from gateway.cli.text import counts, duration, folded, safe, say_json, table
from gateway.cli.watch import campaign_sentence, job_sentence, watch_campaign
from gateway.model import ActivateWhen
from gateway.words import moment, state_of, waits_for

_ID_LIMIT = 64


# -- update ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("meter", shell_complete=METERS)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--identifier",
    help="What the meter is told the image is called, text or hex:...; default: as its manifest says, else FILE's name"
    " without its suffix.",
)
@manifest_option
@order_options
@shared_options
@click.pass_obj
def update(
    desk: Desk, /, meter: str, file: Path, identifier: str | None, manifest: ManifestFile | None, **order: Any
) -> int:
    """Put the firmware in FILE into METER, and watch until the meter itself reports it."""
    if identifier is None and not (manifest and manifest.manifest.identifier):
        identifier = file.stem
    campaign_id = f"{meter[: _ID_LIMIT - 9]}-{uuid.uuid4().hex[:8]}"
    with _there(desk, file, manifest) as image:
        args = {
            "campaign_id": campaign_id,
            "image": {**image, **envelope_of(manifest)},
            "targets": [meter],
            **given({"identifier": identifier, **order}),
        }
        with desk.connect() as client:
            client.ask("campaign.submit", args)
        return watch_campaign(desk, campaign_id)


@contextlib.contextmanager
def _there(desk: Desk, file: Path, manifest: ManifestFile | None) -> Iterator[Document]:
    """FILE as an order names it: stored by the daemon, or served to a gateway far away while this lasts."""
    if desk.gateway:
        with served(desk, file, [desk.one_gateway()]) as image:
            yield image
        return
    with desk.connect() as client:
        stored = hand_over(client, file, manifest)
    yield {"sha256": stored["sha256"], "size": stored["size"]}


# -- campaign -------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def campaign() -> None:
    """Orders: one image into some meters."""


campaign.add_command(report)


@campaign.command("submit")
@click.option("--id", "campaign_id", required=True, help="A name for it, never used before.")
@click.option(
    "--sha256", shell_complete=WHOLE_DIGESTS, help="The digest of the image; default: its manifest's."
)
@manifest_option
@click.option(
    "--url",
    help="Where the image is fetched: https://..., or mqtt: (the broker); default: it is stored here already.",
)
@click.option("--size", type=int, help="Its size in bytes, where known.")
@click.option(
    "--identifier",
    help="What the meters are told it is called, text or hex:...; default: as its manifest says, or their profile.",
)
@click.option(
    "--meter", "meters", multiple=True, shell_complete=METERS, help="A meter to update; may be repeated."
)
@click.option("--port", shell_complete=PORTS, help="Instead of meters: all meters on this port.")
@click.option("--profile", shell_complete=PROFILES, help="Instead of meters: all meters with this profile.")
@click.option("--all", "everyone", is_flag=True, help="Instead of meters: all meters.")
@click.option("--watch", "watching", is_flag=True, help="Stay and watch it to its end.")
@order_options
@group_options
@shared_options
@click.pass_obj
def submit(
    desk: Desk,
    /,
    *,
    campaign_id: str,
    sha256: str | None,
    manifest: ManifestFile | None,
    url: str | None,
    size: int | None,
    identifier: str | None,
    meters: tuple[str, ...],
    port: str | None,
    profile: str | None,
    everyone: bool,
    watching: bool,
    **order: Any,
) -> int:
    """Order an update of some meters."""
    targets: list[Any] = [list(meters), {"port": port}, {"profile": profile}, "all"]
    named = [
        target
        for target, is_named in zip(targets, (meters, port, profile, everyone), strict=True)
        if is_named
    ]
    if len(named) != 1:
        raise click.UsageError("Name the meters in one way: --meter (repeated), --port, --profile or --all.")
    if sha256 is None and manifest is None:
        raise click.UsageError("Name the image by --sha256, or by its --manifest.")
    sha256 = sha256 or (manifest.manifest.sha256 if manifest else "")
    args = {
        "campaign_id": campaign_id,
        "image": {"sha256": sha256, **given({"url": url, "size": size}), **envelope_of(manifest)},
        "targets": named[0],
        **given({"identifier": identifier, **order}),
    }
    if desk.is_fleet:
        from gateway.cli import fleet

        return fleet.submit(desk, args, watching=watching)
    with desk.connect() as client:
        reply = client.ask("campaign.submit", args)
    if watching:
        return watch_campaign(desk, campaign_id)
    _report(
        desk,
        reply["data"],
        f"campaign {campaign_id}: {reply['status']}; see: meter-gateway campaign watch {campaign_id}{desk.where}",
    )
    return 0


@campaign.command("ls")
@shared_options
@click.pass_obj
def ls(desk: Desk) -> None:
    """All campaigns, one line each."""
    with desk.connect() as client:
        data = client.ask("campaign.list")["data"]
    rows = [
        (one["campaign_id"], state_of(one), counts(one["counts"]), one["created_at"], waits_for(one))
        for one in data["campaigns"]
    ]
    _report(desk, data, table(rows, head=("CAMPAIGN", "STATE", "METERS", "CREATED", "")) or "no campaigns")


@campaign.command("show")
@click.argument("campaign_id", shell_complete=CAMPAIGNS)
@shared_options
@click.pass_obj
def show(desk: Desk, campaign_id: str) -> int | None:
    """One campaign and each of its meters; of several gateways, its report."""
    if desk.is_fleet:
        from gateway.cli import fleet_watch

        return fleet_watch.report_of_all(desk, campaign_id)
    with desk.connect() as client:
        data = client.look("campaign.get", {"campaign_id": campaign_id})
    _report(desk, data, _campaign_text(data["campaign"], data["jobs"]))
    return None


def _campaign_text(one: Document, jobs: list[Document]) -> str:
    facts = [
        ("campaign", one["campaign_id"]),
        ("state", campaign_sentence(one)),
        ("meters", counts(one["counts"])),
        ("image", f"{one['image']['sha256']} ({one['image']['size'] or '?'} bytes)"),
        ("from", one["image"]["url"] or "stored here"),
        ("signed by", ", ".join(one["image"]["signed_by"])),
        ("identifier", one["identifier"]),
        ("expected", one["expect_version"] or "a version that differs"),
        ("dry run", "yes: nothing is changed in the meters" if one["dry_run"] else ""),
        ("delivery", one["delivery"]),
        ("window", one["window"] or "at any time"),
        ("activation", _activation(one["activation"])),
        ("order", _turns(one)),
        ("not after", one["not_after"]),
        ("created", one["created_at"]),
        ("finished", one["finished_at"] or "-"),
    ]
    if one["code"]:
        facts += [("code", f"{one['code']}: {one['message']}"), ("advice", one["advice"])]
    lines = [table([fact for fact in facts if fact[1]]), "", table([_job_row(job) for job in jobs])]
    for job in jobs:
        if job["advice"]:
            lines += ["", *folded(f"{job['meter']}: {job['advice']}"), *folded(job["detail"], "  ")]
    return "\n".join(lines)


def _activation(activation: Document) -> str:
    match activation["when"]:
        case ActivateWhen.WINDOW:
            return f"in window {activation['window']}"
        case ActivateWhen.AT:
            return f"from {moment(activation['at'])} on"
        case ActivateWhen.METER:
            return f"by each meter itself at {moment(activation['at'])}"
        case ActivateWhen.MANUAL:
            return "manual, " + ("approved" if activation["approved"] else "not approved yet")
        case when:
            return str(when)


def _turns(one: Document) -> str:
    """Who goes when, where not all go at once."""
    words = []
    if one["canary"]:
        soak = f" and {duration(one['canary_soak_s'])} of soak" if one["canary_soak_s"] else ""
        words.append(f"{one['canary']} first{soak}")
    if one["wave"]:
        words.append(f"{one['wave']} at a time")
    if one["max_failures"] is not None:
        words.append(f"at most {one['max_failures']} failures")
    return ", ".join(words)


def _job_row(job: Document) -> tuple[str, ...]:
    return job["meter"], job["port"], job_sentence(job), job["delivery"]


@campaign.command("watch")
@click.argument("campaign_id", shell_complete=CAMPAIGNS)
@shared_options
@click.pass_obj
def watch(desk: Desk, campaign_id: str) -> int:
    """Show a campaign until it has ended; Ctrl-C only stops the watching."""
    if desk.is_fleet:
        from gateway.cli import fleet_watch

        return fleet_watch.watch_all(desk, campaign_id)
    return watch_campaign(desk, campaign_id)


def _ordering(name: str, what: str, become: Callable[[Document], str]) -> None:
    """A subcommand that orders something of one campaign; `become` says what became of it."""

    @campaign.command(name, help=what)
    @click.argument("campaign_id", shell_complete=CAMPAIGNS)
    @shared_options
    @click.pass_obj
    def order(desk: Desk, campaign_id: str) -> int | None:
        if desk.is_fleet:
            from gateway.cli import fleet

            return fleet.decide(desk, f"campaign.{name}", campaign_id)
        with desk.connect() as client:
            reply = client.ask(f"campaign.{name}", {"campaign_id": campaign_id})
        _report(desk, reply["data"], f"campaign {safe(campaign_id)}: {become(reply['data'])}")
        return None


_ordering("pause", "Stop at a block boundary, until it is resumed.", state_of)
_ordering("resume", "Go on after a pause, and bear with the meters that have failed so far.", state_of)
_ordering(
    "approve",
    "Let the meters that verified the image run it (--activate manual).",
    lambda _: "activation is approved",
)
_ordering(
    "retry", "Try the meters that failed again, as long as the campaign goes on.",
    lambda data: f"tries again: {', '.join(data['meters'])}",
)  # fmt: skip
_ordering(
    "cancel",
    "Stop a campaign; a meter that is activating already goes on to its end.",
    lambda data: data["state"],
)


def _report(desk: Desk, data: Document, text: str) -> None:
    if desk.as_json:
        say_json(data)
    else:
        click.echo(text)
