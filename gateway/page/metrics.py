"""What a look shows as figures for Prometheus: its text format, version 0.0.4. Pure.

Series are bounded by what is configured of lines, windows and kinds, never by meters: a thousand meters are counts by
state, and what is known of each stays with `meter-gateway meters`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.model import AlarmKind, CampaignState, JobState
from gateway.page.looks import ENDED, Look

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "meter_gateway_"
WINDOWS_TOLD = 100
"""The first ones by name; any number of them can be set."""

Sample = tuple[Mapping[str, str], float]

_OF_PORTS = {
    "octets_out": ("sent_bytes_total", "Octets sent on the line."),
    "octets_in": ("received_bytes_total", "Octets received on the line."),
    "exchanges": ("exchanges_total", "Requests that were sent for an answer."),
    "sessions": ("associations_total", "Associations that were opened."),
    "timeouts": ("timeouts_total", "Waits for an answer that ended without one."),
    "polls": ("polls_total", "Frames that asked again after silence."),
    "damaged": ("damaged_frames_total", "Frames whose checks failed."),
    "foreign": ("foreign_frames_total", "Sound frames of others, or to others."),
    "masters": ("master_frames_total", "Frames of another master on the line."),
}
"""Figures of `port.list` that are counts; a line whose settings or meters are changed begins anew."""
_OF_PORTS_ALONE = (AlarmKind.PORT_LOST, AlarmKind.PORT_SHARED)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its samples."""

    name: str
    """Without prefix; with its unit, and `_total` for a counter."""
    help: str
    samples: Iterable[Sample]

    def lines(self) -> Iterator[str]:
        """Nothing where there is no sample."""
        samples = list(self.samples)
        if not samples:
            return
        name = f"{PREFIX}{self.name}"
        yield f"# HELP {name} {_escaped(self.help)}"
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        for labels, value in samples:
            written = ",".join(f'{key}="{_escaped(text, quotes=True)}"' for key, text in labels.items())
            yield f"{name}{{{written}}} {value!r}" if written else f"{name} {value!r}"


def exposition(look: Look) -> bytes:
    """Everything, one family after the other."""
    return "".join(f"{line}\n" for family in _families(look) for line in family.lines()).encode()


def _families(look: Look) -> Iterator[Family]:
    now = look.info["now"]
    yield Family(
        "build_info", "What runs.", [({"version": look.info["version"], "gateway": look.info["gateway"]}, 1)]
    )
    yield Family("uptime_seconds", "Since the process began.", [({}, round(look.up_s, 1))])
    yield Family(
        "clock_trusted",
        "Whether windows and commands may rely on the clock.",
        [({}, int(look.clock_trusted))],
    )
    uplink = now["uplink"]
    yield Family(
        "broker_connected",
        "Whether the MQTT broker is connected; absent where none is configured.",
        [({}, int(uplink["online"]))] if uplink else [],
    )
    yield Family("outbox_bytes", "What waits for the broker, on disk.", [({}, now["outbox_bytes"])])
    limit = look.info["limits"]["outbox_bytes"]
    yield Family("outbox_limit_bytes", "So much may wait.", [({}, limit)] if limit else [])
    ends = (now["certificates"] or {}).get("first_end")
    yield Family(
        "certificate_first_end_timestamp_seconds",
        "When the first of the certificates ends that TLS and signatures rest on; absent where there is none.",
        [({}, datetime.fromisoformat(ends).timestamp())] if ends else [],
    )
    yield Family("alarm", "1 while an alarm stands.", _alarms(look))
    yield from _campaigns(look)
    yield from _meters(look)
    yield from _ports(look)
    yield from _windows(look)


def _alarms(look: Look) -> Iterator[Sample]:
    """Each kind that there is, so that one that ends goes to 0; those of lines for each line."""
    for kind in AlarmKind:
        if kind not in _OF_PORTS_ALONE:
            yield {"kind": kind, "port": ""}, int(kind in look.alarms)
    yield {"kind": "mqtt_refused", "port": ""}, int("mqtt_refused" in look.alarms)
    for port in look.ports:
        for kind in _OF_PORTS_ALONE:
            yield {"kind": kind, "port": port["port"]}, int(kind in port["alarms"])


def _campaigns(look: Look) -> Iterator[Family]:
    campaigns = Counter(one["state"] for one in look.campaigns)
    yield Family(
        "campaigns",
        "Campaigns by state, of the newest 100.",
        [({"state": state}, campaigns[state]) for state in CampaignState],
    )
    jobs: Counter[str] = Counter()
    for one in look.campaigns:
        if one["state"] not in ENDED:
            jobs.update(one["counts"])
    yield Family(
        "jobs",
        "Meters of campaigns that go on, by state.",
        [({"state": state}, jobs[state]) for state in JobState],
    )


def _meters(look: Look) -> Iterator[Family]:
    parked = sum(meter["parked"] is not None for meter in look.meters)
    yield Family("meters", "Meters that are known.", [({}, len(look.meters))])
    yield Family(
        "meters_parked", "Meters that are left alone since they refused us, or we them.", [({}, parked)]
    )


def _ports(look: Look) -> Iterator[Family]:
    measured = [port for port in look.ports if "figures" in port]
    yield Family(
        "port_meters",
        "Meters on the line.",
        [({"port": port["port"]}, port["meters"]) for port in look.ports],
    )
    yield Family(
        "port_held",
        "1 while the line is lent.",
        [({"port": p["port"]}, int(p["held"] is not None)) for p in look.ports],
    )
    yield Family(
        "port_busy_ratio",
        "Share of the last minute in which the line was used.",
        [({"port": port["port"]}, port["figures"]["utilisation_minute"]) for port in measured],
    )
    for figure, (name, help_) in _OF_PORTS.items():
        yield Family(
            f"port_{name}", help_, [({"port": port["port"]}, port["figures"][figure]) for port in measured]
        )


def _windows(look: Look) -> Iterator[Family]:
    windows = look.windows[:WINDOWS_TOLD]
    yield Family(
        "window_open",
        "Whether a window is open.",
        [({"window": one["window"]}, int(one["open"])) for one in windows],
    )
    yield Family(
        "window_opens_timestamp_seconds",
        "When the opening that is, or comes next, begins.",
        [
            ({"window": one["window"]}, datetime.fromisoformat(one["opens_at"]).timestamp())
            for one in windows
            if one["opens_at"]
        ],
    )


def _escaped(text: str, *, quotes: bool = False) -> str:
    """Backslash and line feed; in the value of a label the quote as well."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
