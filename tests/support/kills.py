"""The real daemon, killed with -9 again and again while it works, with a real broker, meters on a pty and an image to
fetch; and what must be so all the same.

Meters, broker and head-end live on and remember. Moments come from a seed: while it starts, after it has become ready,
or just after a meter was told to erase, to verify or to activate.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.http_server import ImageServer
from support.patience import eventually
from support.running import NEW, RunningGateway

from gateway.simulator import VirtualMeter, What

IMAGE = bytes(number * 7 % 251 for number in range(12 * 1024))
SHA256 = hashlib.sha256(IMAGE).hexdigest()
_BAUD = 57600
_SHORTEST_S, _LONGEST_S = 0.005, 2.5
"""From when it is ready to the kill."""
_AFTER_A_DEED_S = 0.08
_DEEDS = (What.INITIATE, What.VERIFY, What.ACTIVATE)
_LOOK_EVERY_S = 0.002
_ENDS = {"succeeded", "partial", "failed", "cancelled", "expired"}
_JOB_ENDS = {"updated", "skipped", "failed", "cancelled"}


@dataclass
class Toll:
    """What became of it all."""

    kills: int = 0
    while_starting: int = 0
    campaigns: int = 0
    updated: int = 0
    undecided: int = 0
    """Jobs that failed since nobody can tell whether a decided activation had left."""
    told_again: int = 0
    """Events that came more than once, with the same number and the same words."""
    blocks_again: int = 0
    states: Counter[str] = field(default_factory=Counter)
    """What was told last of jobs that were begun, at the moments of kills."""

    def __add__(self, other: Toll) -> Toll:
        return Toll(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass
class _Chapter:
    """One gateway with its own meters and topics, until it has told the ends of all its campaigns."""

    gateway: RunningGateway
    head_end: HeadEnd
    base: str
    chance: random.Random
    toll: Toll = field(default_factory=Toll)
    orders: dict[str, str] = field(default_factory=dict)
    """cmd_id by campaign."""
    start_s: float = 0.0
    """How long it took to start, the last time."""

    def submit(self, campaign_id: str, url: str, *targets: str) -> None:
        now = datetime.now(UTC)
        command = {
            "v": 1,
            "cmd_id": str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            "issued": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "expires": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
            "args": {
                "campaign_id": campaign_id,
                "image": {"sha256": SHA256, "url": url, "size": len(IMAGE)},
                "identifier": "FW-2.0.0",
                "expect_version": NEW,
                "targets": targets,
            },
        }
        self.orders[campaign_id] = str(command["cmd_id"])
        self.head_end.publish(f"{self.base}/cmd/campaign.submit", json.dumps(command).encode())

    def live(self) -> None:
        """Begin once more, and go on until the moment to be killed."""
        if self.chance.random() < 0.2:
            self.gateway.launch()
            time.sleep(self.chance.uniform(0, self.start_s))
            self.toll.while_starting += 1
        else:
            self.begin()
            self.lurk()

    def lurk(self) -> None:
        """Until the moment to be killed."""
        if self.chance.random() < 0.4:
            self._await_deed(_LONGEST_S)
            time.sleep(self.chance.uniform(0, _AFTER_A_DEED_S))
        else:
            time.sleep(_SHORTEST_S * (_LONGEST_S / _SHORTEST_S) ** self.chance.random())

    def kill(self) -> None:
        process = self.gateway.process
        assert process is not None
        assert process.poll() is None, "it ended by itself"
        self.gateway.stop(signal.SIGKILL)
        self.toll.kills += 1
        states = {self._last(f"campaign/{order}/job/{meter}").get("state") for order, meter in self._jobs()}
        self.toll.states.update(state for state in states if state and state not in {"queued", *_JOB_ENDS})

    def _jobs(self) -> Iterator[tuple[str, str]]:
        for order in self.orders:
            for meter in self._last(f"campaign/{order}").get("meters", ()):
                yield order, meter

    def begin(self) -> None:
        """Start it, and wait until it is ready."""
        begin_s = time.monotonic()
        self.gateway.start()
        self.start_s = time.monotonic() - begin_s

    def _await_deed(self, within_s: float) -> None:
        """Until a meter was told something that may not be said twice, or nothing of that kind comes."""
        before, deadline_s = self._deeds(), time.monotonic() + within_s
        while self._deeds() == before and time.monotonic() < deadline_s:
            time.sleep(_LOOK_EVERY_S)

    def _deeds(self) -> list[int]:
        return [meter.history.count(what) for meter in self.gateway.meters for what in _DEEDS]

    def told(self) -> bool:
        """Whether the head-end knows how everything ended."""
        return all(
            self._last(f"campaign/{campaign_id}").get("state") in _ENDS
            and {reply["status"] for reply in self._replies(cmd_id)} & {"done", "failed"}
            for campaign_id, cmd_id in self.orders.items()
        )

    def _heard(self, topic: str) -> list[dict[str, Any]]:
        return [heard.document for heard in self.head_end.heard(f"{self.base}/{topic}")]

    def _last(self, topic: str) -> dict[str, Any]:
        return (self._heard(topic) or [{}])[-1]

    def _replies(self, cmd_id: str) -> list[dict[str, Any]]:
        return [reply for reply in self._heard("rsp") if reply["cmd_id"] == cmd_id]

    # -- what must be so ----------------------------------------------------------------------------------------

    def check(self) -> None:
        events = self._check_events()
        for campaign_id, cmd_id in self.orders.items():
            statuses = list(dict.fromkeys(reply["status"] for reply in self._replies(cmd_id)))
            assert statuses[0] == "accepted", statuses
            assert len(statuses) == 2, f"answered with {statuses}"
            self._check_snapshots(f"campaign/{campaign_id}", _ENDS)
            ends = [
                event for event in events if event["campaign_id"] == campaign_id and event["meter"] is None
            ]
            assert sum(event["state"] in _ENDS for event in ends) == 1, f"the end of {campaign_id}: {ends}"
        for job in self._jobs():
            self._check_job(*job, events)
        self.toll.campaigns += len(self.orders)
        state = self.gateway.directory / "state"
        assert not list(state.glob("*broken*")), "something was taken for broken"
        assert "Traceback" not in self.gateway.said(), self.gateway.said()

    def _check_events(self) -> list[dict[str, Any]]:
        """Every event once, in the order of their numbers: no gap, one epoch, none with two meanings."""
        heard = self._heard("event")
        events = {(event["epoch"], event["seq"]): event for event in heard}
        assert all(events[event["epoch"], event["seq"]] == event for event in heard), "one number, two events"
        assert [seq for _, seq in sorted(events)] == list(range(1, len(events) + 1)), "a gap in the audit"
        self.toll.told_again += len(heard) - len(events)
        return [events[key] for key in sorted(events)]

    def _check_snapshots(self, topic: str, ends: set[str]) -> None:
        """Their numbers never go back, and after an end comes no other state."""
        snapshots = self._heard(topic)
        revs = [snapshot["rev"] for snapshot in snapshots]
        assert revs == sorted(revs), f"{topic} went back: {revs}"
        assert len({snapshot["state"] for snapshot in snapshots if snapshot["state"] in ends}) == 1, topic

    def _check_job(self, campaign_id: str, meter_id: str, events: list[dict[str, Any]]) -> None:
        topic = f"campaign/{campaign_id}/job/{meter_id}"
        self._check_snapshots(topic, _JOB_ENDS)
        ends = [
            event
            for event in events
            if (event["campaign_id"], event["meter"]) == (campaign_id, meter_id)
            and event["state"] in _JOB_ENDS
        ]
        assert len(ends) == 1, f"the end of {meter_id} was told as {ends}"
        job, meter = self._last(topic), self._meter(meter_id)
        history = meter.history
        assert history.activations <= 1, f"{meter_id} was activated twice"
        assert history.initiates <= 2, f"{meter_id} was erased more often than max_initiates"
        assert history.count(What.SECURITY) == 0, f"{meter_id} was told something by a counter that was used"
        again = history.blocks.total() - len(history.blocks)
        assert again <= self.toll.kills, f"{again} blocks came again after {self.toll.kills} kills"
        self.toll.blocks_again += again
        if history.activations:
            assert (job["state"], job["version_after"], meter.version) == ("updated", NEW, NEW), job
            assert meter.image.image_sha256 == SHA256
            self.toll.updated += 1
        else:
            assert (job["state"], job["code"]) == ("failed", "T_ACTIVATE"), job
            self.toll.undecided += 1

    def _meter(self, meter_id: str) -> VirtualMeter:
        return self.gateway.meters[int(meter_id.removeprefix("MTR")) - 1]


def tell_chapter(directory: Path, broker: Mosquitto, *, seed: int, kills: int) -> Toll:
    """Two campaigns of three meters, in which the daemon is killed so many times, or as often as there is time before
    all have ended. AssertionError where a promise is broken; the seed stands with it."""
    chance = random.Random(seed)
    name = f"gw-{seed:06d}"
    base = f"mgw/v1/{name}"
    with (
        ImageServer(IMAGE) as server,
        HeadEnd(broker.port, f"{base}/#", client_id=f"head-end-{seed}") as head_end,
        _running(directory, name, broker) as gateway,
    ):
        chapter = _Chapter(gateway, head_end, base, chance)
        try:
            _tell(chapter, server.url, kills)
        except AssertionError as error:
            error.add_note(f"seed {seed}, after {chapter.toll.kills} kills\n{gateway.said()[-5000:]}")
            raise
    return chapter.toll


def _tell(chapter: _Chapter, url: str, kills: int) -> None:
    chapter.begin()
    chapter.head_end.wait_for(f"{chapter.base}/state")  # before it, nobody hears an order
    chapter.submit("c1", url, "MTR0001", "MTR0002")
    chapter.lurk()
    chapter.kill()
    chapter.submit("c2", url, "MTR0003")
    while chapter.toll.kills < kills and not chapter.told():
        chapter.live()
        chapter.kill()
    chapter.begin()
    eventually(chapter.told, lambda: "the ends of all campaigns were never told")
    assert chapter.gateway.stop() == 0
    chapter.check()


@contextmanager
def _running(directory: Path, name: str, broker: Mosquitto) -> Iterator[RunningGateway]:
    directory.mkdir()
    sections = {"gateway": {"id": name}, "mqtt": {"url": broker.url}}
    gateway = RunningGateway(directory, meters=3, sections=sections, baud=_BAUD)
    # Who cannot know whether an activation left waits for so long that it came; not for a minute each time.
    gateway.config.write_text(
        gateway.config.read_text().replace('activate_timeout = "1min"', 'activate_timeout = "10s"')
    )
    try:
        yield gateway
    finally:
        gateway.close()
