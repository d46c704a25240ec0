"""The JSON shapes that users see: replies, snapshots and events, as the contract has them.

Pure. `gateway/control/schemas/` holds the JSON Schema of each. Every field is always there; what is not known
is null, or "" for text. Times are ISO 8601 in UTC, with milliseconds and "Z".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from typing import Any

from gateway.errors import ADVICE, Code
from gateway.identifiers import identifier_text
from gateway.model import (
    WAITS_FOR_IMAGE,
    Alarm,
    AlarmKind,
    Campaign,
    CampaignState,
    Hold,
    Job,
    JobState,
    Parked,
    Reply,
    ReplyStatus,
    Tuning,
    Window,
)
from gateway.urls import shown

Document = dict[str, Any]

VERSION = 1
"""Of every document, as its field `v`."""

GATEWAY = "gateway"
"""Who, in an event of the gateway itself."""


def time_text(moment: datetime | None) -> str | None:
    """`2026-11-22T07:49:00.000Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encoded(document: Mapping[str, Any]) -> bytes:
    """The octets of a document on the broker and the socket: one line of UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def reply_document(reply: Reply) -> Document:
    return {
        "v": VERSION,
        "cmd_id": reply.cmd_id,
        "status": reply.status.value,
        "code": reply.code,
        "message": reply.message,
        "retryable": reply.retryable,
        "data": dict(reply.data),
    }


def reply_from(document: Mapping[str, Any]) -> Reply:
    """The reply that `reply_document` made this of."""
    return Reply(
        cmd_id=document["cmd_id"],
        status=ReplyStatus(document["status"]),
        code=Code(document["code"]) if document["code"] else None,
        message=document["message"],
        retryable=document["retryable"],
        data=document["data"],
    )


def fetch_progress(done: int, total: int | None, per_s: float = 0.0) -> Document:
    """How far an image is: so many octets are here; 0 octets a second: nobody knows."""
    return {
        "bytes_done": done,
        "bytes_total": total,
        "bytes_per_s": round(per_s) if per_s else None,
        "eta_s": round((total - done) / per_s) if total is not None and per_s else None,
    }


def campaign_document(campaign: Campaign, counts: Mapping[JobState, int], *, ts: datetime) -> Document:
    """The snapshot of a campaign; `counts` says how many of its jobs are in which state."""
    return {
        "v": VERSION,
        "campaign_id": campaign.id,
        "state": campaign.state.value,
        **_outcome(campaign.code, campaign.message),
        "image": {
            "sha256": campaign.sha256,
            "size": campaign.image_size,
            "url": shown(campaign.url),
            "manifest": campaign.manifest or None,
            "signed_by": list(campaign.signed_by),
        },
        "fetch": _fetch(campaign, ts) if campaign.state in WAITS_FOR_IMAGE else None,
        "identifier": identifier_text(campaign.identifier),
        "expect_version": campaign.expect_version,
        "delivery": campaign.delivery.value,
        "dry_run": campaign.dry_run,
        "meters": list(campaign.meters),
        "priority": campaign.priority,
        "window": campaign.window or None,
        "activation": {
            "when": campaign.activate_when.value,
            "window": campaign.activate_window or None,
            "at": time_text(campaign.activate_at),
            "approved": campaign.approved,
        },
        "canary": campaign.canary,
        "canary_soak_s": campaign.canary_soak_s,
        "wave": campaign.wave,
        "max_failures": campaign.max_failures,
        "not_after": time_text(campaign.not_after),
        "released": campaign.released,
        "paused": campaign.paused,
        "opens_at": time_text(campaign.opens_at),
        "eta": time_text(campaign.eta),
        "late": is_late(campaign),
        "counts": {state.value: count for state, count in counts.items() if count},
        "created_at": time_text(campaign.created_at),
        "finished_at": time_text(campaign.finished_at),
        "rev": campaign.rev,
        "ts": time_text(ts),
    }


def _fetch(campaign: Campaign, ts: datetime) -> Document:
    """How far the image was at the end of the last attempt, and when the next one is."""
    next_at = campaign.fetch_next_try_at
    return {
        **fetch_progress(campaign.fetch_done, campaign.image_size),
        "tries": campaign.fetch_tries,
        "next_try_at": time_text(next_at if next_at and next_at > ts else None),
    }


def is_late(campaign: Campaign) -> bool:
    """Whether it is expected to end after its time."""
    eta, latest = campaign.eta, campaign.not_after
    return eta is not None and latest is not None and eta > latest


def job_document(job: Job, *, ts: datetime) -> Document:
    """The snapshot of one meter's part of a campaign."""
    return {
        "v": VERSION,
        "campaign_id": job.campaign_id,
        "meter": job.meter_id,
        "port": job.port,
        "state": job.state.value,
        **_outcome(job.code, job.message),
        "detail": job.detail,
        "tries": job.tries,
        "blocks_done": job.blocks_done,
        "blocks_total": job.blocks_total,
        "blocks_sent": job.blocks_sent,
        "blocks_resent": job.blocks_resent,
        "blocks_broadcast": job.blocks_broadcast,
        "bytes_sent": job.bytes_sent,
        "transfer_s": round(job.transfer_s, 3),
        "delivery": job.delivery,
        "findings": job.findings and asdict(job.findings),
        "health": [asdict(check) for check in job.health],
        "version_before": job.version_before,
        "version_after": job.version_after,
        "started_at": time_text(job.started_at),
        "next_try_at": time_text(job.next_try_at),
        "activated_at": time_text(job.activated_at),
        "finished_at": time_text(job.finished_at),
        "rev": job.rev,
        "ts": time_text(ts),
    }


def window_document(window: Window) -> Document:
    """A window as `window.list` shows it and the state keeps it; durations in seconds."""
    return {
        "window": window.name,
        "days": sorted(window.days),
        "start": f"{window.start:%H:%M}",
        "duration_s": window.duration_s,
        "timezone": window.timezone,
        "cutoff_s": window.cutoff_s,
        "drain_s": window.drain_s,
        "except": sorted(day.isoformat() for day in window.exceptions),
        "valid_from": window.valid_from and window.valid_from.isoformat(),
        "valid_until": window.valid_until and window.valid_until.isoformat(),
    }


def window_from(document: Mapping[str, Any]) -> Window:
    """The window that `window_document` made this of."""
    first, last = document["valid_from"], document["valid_until"]
    return Window(
        name=document["window"],
        days=frozenset(document["days"]),
        start=time.fromisoformat(document["start"]),
        duration_s=document["duration_s"],
        timezone=document["timezone"],
        cutoff_s=document["cutoff_s"],
        drain_s=document["drain_s"],
        exceptions=frozenset(map(date.fromisoformat, document["except"])),
        valid_from=date.fromisoformat(first) if first else None,
        valid_until=date.fromisoformat(last) if last else None,
    )


def parked_document(parked: Parked) -> Document:
    """Since when a meter is left alone, why, and what to do."""
    return {"since": time_text(parked.parked_at), **_outcome(parked.code, parked.message)}


def tuning_document(tuning: Tuning) -> Document:
    """What was learned of a meter, since when, and why."""
    return {
        "max_info": tuning.max_info,
        "window": tuning.window,
        "snrm_parameters": tuning.snrm_parameters,
        "wait_s": tuning.wait_s,
        "since": time_text(tuning.since),
        "why": tuning.why,
    }


def hold_document(hold: Hold) -> Document:
    """Until when a line is lent, and who asked for it."""
    return {"until": time_text(hold.until), "who": hold.who}


ALARM_ADVICE: dict[AlarmKind, str] = {
    AlarmKind.CLOCK: "Restore time synchronisation: orders over MQTT that change something are refused meanwhile.",
    AlarmKind.DISK: "Make room: delete what is not needed on that disk, or enlarge it.",
    AlarmKind.PORT_LOST: "Check the adapter and its cable, or address and network, and that nobody else has the line: "
    "see `ports`. The gateway goes on by itself when it has the line.",
    AlarmKind.PORT_SHARED: "Let one master alone talk on a line: stop the other, or lend it the line (`port hold`).",
    AlarmKind.CERTIFICATE: "Put a renewed one in the place of the old file, then `systemctl reload meter-gateway`: "
    "it counts from the next connection on.",
    AlarmKind.OUTBOX: "Bring the connection to the broker back: see `status`.",
    AlarmKind.STORE: "Keep or delete the file that was set aside; the alarm ends at the next start without it.",
    AlarmKind.METERS: "Correct the configuration or keys.toml, put the meter anew, or delete it: see `meters`.",
    AlarmKind.MACHINE: ADVICE[Code.E_MACHINE],
    AlarmKind.PAGE: "Give [page] listen an address that this machine has and a port that nobody else listens on, then "
    "reload. Meters are not concerned.",
}


def alarm_document(alarm: Alarm) -> Document:
    """What stands retained on `alarm/{code}` while it lasts."""
    return {
        "v": VERSION,
        "code": alarm.code,
        "kind": alarm.kind.value,
        "port": alarm.port or None,
        "message": alarm.message,
        "advice": ALARM_ADVICE[alarm.kind],
        "since": time_text(alarm.since),
    }


def event_document(
    kind: str,
    *,
    epoch: str,
    seq: int,
    ts: datetime,
    who: str,
    campaign_id: str | None = None,
    meter_id: str | None = None,
    port: str | None = None,
    state: CampaignState | JobState | None = None,
    code: Code | None = None,
    message: str = "",
) -> Document:
    """One line of the audit: what changed, to what, and who asked for it."""
    return {
        "v": VERSION,
        "epoch": epoch,
        "seq": seq,
        "ts": time_text(ts),
        "kind": kind,
        "campaign_id": campaign_id,
        "meter": meter_id,
        "port": port,
        "state": state,
        "code": code,
        "message": message,
        "who": who,
    }


def event_line(event: Document) -> str:
    """An event in one line, for somebody who follows it at the cabinet, in the log or on a terminal; control characters
    from outside are escaped (invariant 13)."""
    match event:
        case {"meter": str(meter), "port": str(port), "campaign_id": str(campaign_id)}:
            who = f"{meter} on {port}, campaign {campaign_id}"
        case {"campaign_id": str(campaign_id)}:
            who = f"campaign {campaign_id}"
        case {"kind": "hold", "port": str(port)}:
            who = f"hold {port}"
        case {"kind": kind, "meter": str(meter), "port": str(port)}:
            who = f"{kind} {meter} on {port}"
        case _:
            who = " ".join(filter(None, (event["kind"], event["meter"])))
    what = " ".join(filter(None, (event["state"], event["code"])))
    message = event["message"]
    by = "" if event["who"] == GATEWAY else f" (by {event['who']})"
    text = f"{who}: {': '.join(filter(None, (what, message)))}{by}"
    if event["state"] == JobState.FAILED and event["code"]:
        text += f". {ADVICE[Code(event['code'])]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _outcome(code: Code | None, message: str) -> Document:
    return {"code": code, "message": message, "advice": ADVICE[code] if code else ""}
