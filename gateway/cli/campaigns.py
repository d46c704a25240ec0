"""Orders to the daemon: `campaign ...`, `image add` and `update`."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.client import Client, Document
from gateway.cli.root import Desk, shared_options
from gateway.cli.text import counts, safe, say_json, table
from gateway.cli.watch import job_sentence, watch_campaign
from gateway.model import Delivery

C = TypeVar("C", bound=Callable[..., Any])

_ID_LIMIT = 64


def _order_options(command: C) -> C:
    for option in (
        click.option(
            "--priority", type=click.IntRange(0, 9), help="The line serves higher ones first; default: 5."
        ),
        click.option(
            "--delivery",
            type=click.Choice([*Delivery]),
            help="How blocks go to the meters; default: unicast.",
        ),
        click.option("--take-over", is_flag=True, help="Go on even where somebody else began a transfer."),
        click.option("--firmware-object", help="Where the version is read, e.g. 1-1:0.2.0.255."),
        click.option("--expect-version", help="What the meter must report afterwards."),
    ):
        command = option(command)
    return command


# -- image ----------------------------------------------------------------------------------------------------


@click.group()
def image() -> None:
    """Images that the gateway keeps."""


@image.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@shared_options
@click.pass_obj
def image_add(desk: Desk, file: Path) -> None:
    """Hand FILE over to the gateway, and print its SHA-256."""
    with desk.connect() as client:
        data = _add(client, file)
    if desk.as_json:
        say_json(data)
    else:
        click.echo(f"{data['sha256']}  {data['size']} bytes")


def _add(client: Client, file: Path) -> Document:
    """The daemon reads the file itself, from our descriptor: it needs no right to the path."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        opened.seek(0)
        data: Document = client.ask("image.add", {"sha256": digest}, file=opened.fileno())["data"]
    return data


# -- update ---------------------------------------------------------------------------------------------------


@click.command()
@click.argument("meter")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--identifier",
    help="What the meter is told the image is called, text or hex:...; default: FILE's name without its suffix.",
)
@_order_options
@shared_options
@click.pass_obj
def update(desk: Desk, /, meter: str, file: Path, identifier: str | None, **order: Any) -> int:
    """Put the firmware in FILE into METER, and watch until the meter itself reports it."""
    with desk.connect() as client:
        stored = _add(client, file)
        campaign_id = f"{meter[: _ID_LIMIT - 9]}-{uuid.uuid4().hex[:8]}"
        args = {
            "campaign_id": campaign_id,
            "image": {"sha256": stored["sha256"], "size": stored["size"]},
            "identifier": identifier or file.stem,
            "targets": [meter],
            **_given(order),
        }
        client.ask("campaign.submit", args)
    return watch_campaign(desk, campaign_id)


def _given(order: dict[str, Any]) -> dict[str, Any]:
    """Options that were named; a flag, where it is set."""
    return {key: value for key, value in order.items() if value is not None and value is not False}


# -- campaign -------------------------------------------------------------------------------------------------


@click.group()
def campaign() -> None:
    """Orders: one image into some meters."""


@campaign.command("submit")
@click.option("--id", "campaign_id", required=True, help="A name for it, never used before.")
@click.option("--sha256", required=True, help="The digest of the image.")
@click.option("--url", help="Where the image is fetched; default: it is stored here already.")
@click.option("--size", type=int, help="Its size in bytes, where known.")
@click.option("--identifier", required=True, help="What the meters are told it is called, text or hex:...")
@click.option("--meter", "meters", multiple=True, help="A meter to update; may be repeated.")
@click.option("--port", help="Instead of meters: all meters on this port.")
@click.option("--profile", help="Instead of meters: all meters with this profile.")
@click.option("--all", "everyone", is_flag=True, help="Instead of meters: all meters.")
@click.option("--watch", "watching", is_flag=True, help="Stay and watch it to its end.")
@_order_options
@shared_options
@click.pass_obj
def submit(
    desk: Desk,
    /,
    *,
    campaign_id: str,
    sha256: str,
    url: str | None,
    size: int | None,
    identifier: str,
    meters: tuple[str, ...],
    port: str | None,
    profile: str | None,
    everyone: bool,
    watching: bool,
    **order: Any,
) -> int:
    """Order an update of some meters."""
    chosen: list[Any] = [list(meters), {"port": port}, {"profile": profile}, "all"]
    given = [
        target for target, is_given in zip(chosen, (meters, port, profile, everyone), strict=True) if is_given
    ]
    if len(given) != 1:
        raise click.UsageError("Name the meters in one way: --meter (repeated), --port, --profile or --all.")
    args = {
        "campaign_id": campaign_id,
        "image": {"sha256": sha256, **_given({"url": url, "size": size})},
        "identifier": identifier,
        "targets": given[0],
        **_given(order),
    }
    with desk.connect() as client:
        reply = client.ask("campaign.submit", args)
    if watching:
        return watch_campaign(desk, campaign_id)
    _report(
        desk,
        reply,
        f"campaign {campaign_id}: {reply['status']}; see: meter-gateway campaign watch {campaign_id}",
    )
    return 0


@campaign.command("ls")
@shared_options
@click.pass_obj
def ls(desk: Desk) -> None:
    """All campaigns, one line each."""
    with desk.connect() as client:
        reply = client.ask("campaign.list")
    rows = [
        (one["campaign_id"], one["state"], counts(one["counts"]), one["created_at"], one["code"] or "")
        for one in reply["data"]["campaigns"]
    ]
    _report(
        desk, reply, table(rows, head=("CAMPAIGN", "STATE", "METERS", "CREATED", "CODE")) or "no campaigns"
    )


@campaign.command("show")
@click.argument("campaign_id")
@shared_options
@click.pass_obj
def show(desk: Desk, campaign_id: str) -> None:
    """One campaign and each of its meters."""
    with desk.connect() as client:
        reply = client.ask("campaign.get", {"campaign_id": campaign_id})
    _report(desk, reply, _campaign_text(reply["data"]["campaign"], reply["data"]["jobs"]))


def _campaign_text(one: Document, jobs: list[Document]) -> str:
    facts = [
        ("campaign", one["campaign_id"]),
        ("state", one["state"]),
        ("meters", counts(one["counts"])),
        ("image", f"{one['image']['sha256']} ({one['image']['size'] or '?'} bytes)"),
        ("from", one["image"]["url"] or "stored here"),
        ("identifier", one["identifier"]),
        ("expected", one["expect_version"] or "a version that differs"),
        ("delivery", one["delivery"]),
        ("created", one["created_at"]),
        ("finished", one["finished_at"] or "-"),
    ]
    if one["code"]:
        facts += [("code", f"{one['code']}: {one['message']}"), ("advice", one["advice"])]
    lines = [table(facts), "", table([_job_row(job) for job in jobs])]
    for job in jobs:
        if job["advice"]:
            lines += ["", f"{job['meter']}: {job['advice']}"]
            lines += [f"  {safe(job['detail'])}"] if job["detail"] else []
    return "\n".join(lines)


def _job_row(job: Document) -> tuple[str, ...]:
    return job["meter"], job["port"], job_sentence(job), job["delivery"]


@campaign.command("watch")
@click.argument("campaign_id")
@shared_options
@click.pass_obj
def watch(desk: Desk, campaign_id: str) -> int:
    """Show a campaign until it has ended; Ctrl-C only stops the watching."""
    return watch_campaign(desk, campaign_id)


@campaign.command("cancel")
@click.argument("campaign_id")
@shared_options
@click.pass_obj
def cancel(desk: Desk, campaign_id: str) -> None:
    """Stop a campaign; a meter that is activating already goes on to its end."""
    with desk.connect() as client:
        reply = client.ask("campaign.cancel", {"campaign_id": campaign_id})
    _report(desk, reply, reply["message"] or f"campaign {campaign_id}: {reply['status']}")


def _report(desk: Desk, reply: Document, text: str) -> None:
    if desk.as_json:
        say_json(reply["data"])
    else:
        click.echo(text)
