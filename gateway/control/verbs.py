"""What each verb does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.control.envelope import COMMAND_LIMIT_BYTES
from gateway.control.events import page_of_events
from gateway.control.lines import scan_args, seconds
from gateway.control.meters import Roster, read_args, without_meter
from gateway.control.orders import read_order
from gateway.control.provenance import Judge
from gateway.control.shelf import Shelf
from gateway.control.signed import needs_signature
from gateway.control.timing import read_window_args
from gateway.control.tracing import Traces
from gateway.errors import NotFoundError, SchemaError
from gateway.model import (
    Command,
    Config,
    Errand,
    Framing,
    JobState,
    Meter,
    PortSettings,
    Reply,
    ReplyStatus,
    Window,
)
from gateway.plan.windows import current_or_following
from gateway.signing import key_label
from gateway.store import Store
from gateway.store.commands import GATEWAY_ERRANDS
from gateway.store.documents import (
    Document,
    campaign_document,
    hold_document,
    job_document,
    parked_document,
    time_text,
    tuning_document,
    window_document,
)
from gateway.store.parking import refusal
from gateway.supply.images import ImageStore
from gateway.supply.trust import what_it_means

LISTED_CAMPAIGNS = 100
"""`campaign.list` without a limit."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What is known of a verb before its arguments are looked at."""

    name: str
    act: Callable[[Verbs, Command, int | None], Reply]
    """Does it; the number is a file descriptor, where one came along."""
    changes: bool = False
    """Changes something: wants a trusted clock over MQTT, and is remembered when asked over the socket."""
    local: bool = False
    """Only over the control socket."""


class Verbs:
    """The verbs, and all that they work on."""

    def __init__(
        self,
        config: Config,
        *,
        store: Store,
        images: ImageStore,
        board: Board,
        clock: Clock,
        version: str,
        clock_trusted: Callable[[], bool],
        reload: Callable[[], None],
    ) -> None:
        self.config = config
        self.traces = Traces(store, board, clock)
        self._placing = threading.Lock()
        """Held from a look at the configuration until the work for a port is in the Store."""
        self._store = store
        self._images = images
        self._shelf = Shelf(store, images)
        self._roster = Roster(store)
        self._board = board
        self._clock = clock
        self._version = version
        self._clock_trusted = clock_trusted
        self._reload = reload
        self._info: tuple[Config | None, Document] = (None, {})

    def use(self, config: Config) -> None:
        """From the next command on; waits for one that is giving a port work by the old one."""
        with self._placing:
            for name in self._store.changing_meters():
                config = without_meter(config, name)
            self.config = config

    def info(self) -> Document:
        """What this gateway is: for `info.get` and the retained topic. Worked out once for each configuration, since
        the uplink looks often whether it has changed."""
        config = self.config
        if self._info[0] is not config:
            self._info = config, self._info_of(config)
        return self._info[1]

    def _info_of(self, config: Config) -> Document:
        return {
            "v": 1,
            "gateway": config.gateway.id,
            "version": self._version,
            "verbs": [verb.name for verb in VERBS.values()],
            "mqtt_verbs": [name for name in VERBS if over_mqtt(name, config)],
            "ports": [port.name for port in config.ports],
            "meters": len(config.meters),
            "firmware": {
                "trust": config.firmware.trust,
                "threshold": config.firmware.threshold,
                "keys": [key_label(key.name, key.spki) for key in config.firmware.trusted_keys],
                "root": bool(config.firmware.trusted_root),
                "note": what_it_means(config.firmware, {meter.profile for meter in config.meters}),
            },
            "signed_verbs": [
                name for name in VERBS if over_mqtt(name, config) and needs_signature(name, config.commands)
            ],
            "limits": {
                "command_bytes": COMMAND_LIMIT_BYTES,
                "outbox_bytes": config.mqtt.outbox_limit_bytes if config.mqtt else None,
                "firmware_bytes": config.firmware.quota_bytes,
            },
        }

    def stop_untrusted(self) -> None:
        """Open campaigns with an image that would not be believed now."""
        with self._placing:
            self._judge().stop_untrusted()

    def ping(self, command: Command, _descriptor: int | None) -> Reply:
        return _done(command, {"ts": time_text(self._clock.now())})

    def info_get(self, command: Command, _descriptor: int | None) -> Reply:
        """What it is, and in `now` how it is: clock, connection to the broker, what waits for it, alarms, and when
        the first certificate ends."""
        latest = self._board.values
        now = {
            "clock": latest("clock").get(("clock",)),
            "uplink": latest("uplink").get(("uplink",)),
            "alarms": {key[-1]: value for key, value in latest("alarm").items()},
            "outbox_bytes": self._store.outbox_bytes(),
            "certificates": latest("certificates").get(("certificates",)),
        }
        return _done(command, {**self.info(), "now": now})

    def port_list(self, command: Command, _descriptor: int | None) -> Reply:
        config, figures = self.config, self._board.values("port")
        meters = Counter(meter.port for meter in config.meters)
        alarms, scans = self._board.values("alarm").values(), self._board.values("scan")
        ports = [
            {
                **_port(port),
                "meters": meters[port.name],
                "alarms": [alarm["kind"] for alarm in alarms if alarm.get("port") == port.name],
                "held": hold_document(hold) if (hold := self._store.hold(port.name)) else None,
                "scan": scans.get(("scan", port.name)),
                **figures.get(("port", port.name), {}),
            }
            for port in config.ports
        ]
        return _done(command, {"ports": ports})

    def port_hold(self, command: Command, _descriptor: int | None) -> Reply:
        """An errand: the worker ends its exchange first, and leaves its meters."""
        for_s = seconds(command.args, "for", "1s", "24h")
        with self._placing:
            port = self._port_named(command)
            errand = Errand(command.cmd_id, command.verb, port.name, "", {"for_s": for_s})
            return self._store.add_errand(command, errand)

    def port_release(self, command: Command, _descriptor: int | None) -> Reply:
        return self._store.release_port(command, self._port_named(command).name)

    def port_scan(self, command: Command, _descriptor: int | None) -> Reply:
        args = scan_args(command.args)
        with self._placing:
            port = self._port_named(command)
            if port.framing is not Framing.HDLC or port.mode_e:
                raise SchemaError(
                    f"args.port: {port.name} has no HDLC addresses that could be asked one by one;"
                    " `probe` asks a meter that is configured there"
                )
            return self._store.add_errand(command, Errand(command.cmd_id, command.verb, port.name, "", args))

    def port_trace(self, command: Command, _descriptor: int | None) -> Reply:
        """Begin to watch a line, go on, or end it."""
        args = command.args
        if "watch" in args:
            told = self.traces.go_on(args["watch"], command.uid)
            if args.get("end", False):
                self.traces.end(args["watch"])
            return _done(command, told)
        port = self._port_named(command)
        decipher = bool(args.get("decipher", False))
        return _done(command, self.traces.begin(self.config, port, command, decipher=decipher))

    def meter_list(self, command: Command, _descriptor: int | None) -> Reply:
        config = self.config
        jobs = {job.meter_id: job for port in config.ports for job in self._store.open_jobs(port.name)}
        parked = self._store.all_parked()
        tunings, versions = self._store.tunings(), self._store.versions()
        latest = self._board.values("meter")
        meters = []
        for meter in config.meters:
            job = jobs.get(meter.id)
            now = {
                "campaign_id": job and job.campaign_id,
                "state": job and job.state,
                "version": versions.get(meter.id, ""),
                "parked": parked_document(parked[meter.id]) if meter.id in parked else None,
                "tuning": tuning_document(tunings[meter.id]) if meter.id in tunings else None,
            }
            origin = "state" if meter.id in config.stored else "configuration"
            meters.append({
                **_meter(meter), "origin": origin, **now, **latest.get(("meter", meter.id), {})
            })  # fmt: skip
        left_out = [{"meter": name, "why": list(why)} for name, why in config.left_out.items()]
        return _done(command, {"meters": meters, "left_out": left_out})

    def meter_probe(self, command: Command, _descriptor: int | None) -> Reply:
        return self._go_and_see(command, command.args)

    def meter_read(self, command: Command, _descriptor: int | None) -> Reply:
        return self._go_and_see(command, read_args(command.args))

    def meter_put(self, command: Command, _descriptor: int | None) -> Reply:
        return self._change_meter(command, self._roster.put)

    def meter_delete(self, command: Command, _descriptor: int | None) -> Reply:
        return self._change_meter(command, self._roster.delete)

    def counter_adopt(self, command: Command, _descriptor: int | None) -> Reply:
        meter = self._meter_named(command)
        return self._store.adopt_counter(command, meter.id, int(command.args["counter"]), port=meter.port)

    def image_add(self, command: Command, descriptor: int | None) -> Reply:
        """A manifest that comes along is kept for the campaigns that name the image; it is judged here already."""
        if descriptor is None:
            raise SchemaError("image.add: expected a file descriptor along with the command")
        return self._shelf.add(command, descriptor, self._judge())

    def image_fetch(self, command: Command, _descriptor: int | None) -> Reply:
        return self._shelf.fetch(command, self.config, self._judge())

    def image_list(self, command: Command, _descriptor: int | None) -> Reply:
        return self._shelf.list(command)

    def image_delete(self, command: Command, _descriptor: int | None) -> Reply:
        return self._shelf.delete(command)

    def campaign_submit(self, command: Command, _descriptor: int | None) -> Reply:
        with self._placing:
            order = read_order(
                command.args, self.config, self._images, self._judge(), windows=self._store.windows()
            )
            return self._store.submit_campaign(
                command, order.campaign, order.jobs, manifest=order.manifest, floors=order.floors
            )

    def campaign_cancel(self, command: Command, _descriptor: int | None) -> Reply:
        return self._store.cancel_campaign(command, command.args["campaign_id"])

    def campaign_pause(self, command: Command, _descriptor: int | None) -> Reply:
        return self._store.pause_campaign(command, command.args["campaign_id"])

    def campaign_resume(self, command: Command, _descriptor: int | None) -> Reply:
        return self._store.resume_campaign(command, command.args["campaign_id"])

    def campaign_approve(self, command: Command, _descriptor: int | None) -> Reply:
        return self._store.approve_campaign(command, command.args["campaign_id"])

    def campaign_retry(self, command: Command, _descriptor: int | None) -> Reply:
        """A retry is judged like a new order: what was revoked or overtaken meanwhile is not tried again."""
        campaign_id = command.args["campaign_id"]
        with self._placing:
            campaign = self._store.campaign(campaign_id)
            if campaign is not None and self._store.stored_reply(command.cmd_id, command.body_sha256) is None:
                profiles = {meter.id: meter.profile.name for meter in self.config.meters}
                failed = {
                    profiles[job.meter_id]
                    for job in self._store.jobs(campaign_id)
                    if job.state is JobState.FAILED and job.meter_id in profiles
                }
                self._judge().check_again(campaign, failed)
            return self._store.retry_campaign(command, campaign_id)

    def campaign_get(self, command: Command, _descriptor: int | None) -> Reply:
        name = command.args["campaign_id"]
        campaign = self._store.campaign(name)
        if campaign is None:
            raise NotFoundError(f"no campaign {name}")
        now = self._clock.now()
        progress = self._board.values("progress")
        jobs = [
            job_document(job, ts=now) | _progress(progress.get(("progress", name, job.meter_id), {}))
            for job in self._store.jobs(name)
        ]
        snapshot = campaign_document(campaign, self._store.job_counts(name), ts=now)
        if snapshot["fetch"]:
            snapshot["fetch"] |= self._board.values("fetch").get(("fetch", name), {})
        return _done(command, {"campaign": snapshot, "jobs": jobs})

    def campaign_list(self, command: Command, _descriptor: int | None) -> Reply:
        now = self._clock.now()
        campaigns = [
            campaign_document(campaign, self._store.job_counts(campaign.id), ts=now)
            for campaign in self._store.campaigns(int(command.args.get("limit", LISTED_CAMPAIGNS)))
        ]
        return _done(command, {"campaigns": campaigns})

    def window_list(self, command: Command, _descriptor: int | None) -> Reply:
        """Each with the opening that is or comes next; without a trusted clock nobody knows."""
        now, trusted = self._clock.now(), self._clock_trusted()
        windows = [
            {**window_document(window), **_opening(window, now, clock_trusted=trusted)}
            for _, window in sorted(self._store.windows().items())
        ]
        return _done(command, {"windows": windows, "clock_trusted": trusted})

    def window_set(self, command: Command, _descriptor: int | None) -> Reply:
        window = read_window_args(command.args, timezone=self.config.gateway.timezone)
        return self._store.set_window(command, window)

    def event_list(self, command: Command, _descriptor: int | None) -> Reply:
        return _done(command, page_of_events(self._store, command.args))

    def agent_reload(self, command: Command, _descriptor: int | None) -> Reply:
        """An errand for whoever owns the configuration: lines are left in order first, which takes a while."""
        reply = self._store.add_errand(
            command, Errand(command.cmd_id, command.verb, GATEWAY_ERRANDS, "", command.args)
        )
        self._reload()
        return reply

    def _change_meter(self, command: Command, change: Callable[[Command, Config], Reply]) -> Reply:
        """An errand for whoever owns the configuration and its lines. Until the line is served so, the meter counts as
        gone: nobody is promised work by its old description."""
        with self._placing:
            reply = change(command, self.config)
            if reply.status is ReplyStatus.ACCEPTED:
                self.config = without_meter(self.config, command.args["meter"])
        self._reload()
        return reply

    def _go_and_see(self, command: Command, args: Mapping[str, Any]) -> Reply:
        """A parked meter is tried for whoever stands beside the gateway, and for nobody far away."""
        with self._placing:
            meter = self._meter_named(command)
            parked = self._store.parked(meter.id)
            if parked and command.reply_topic:
                raise refusal(parked)
            errand = Errand(command.cmd_id, command.verb, meter.port, meter.id, args)
            return self._store.add_errand(command, errand)

    def _judge(self) -> Judge:
        return Judge(self.config.firmware, self._store, self._clock.now(), self._clock_trusted())

    def _port_named(self, command: Command) -> PortSettings:
        name = command.args["port"]
        port = next((port for port in self.config.ports if port.name == name), None)
        if port is None:
            raise NotFoundError(f"no port {name}")
        return port

    def _meter_named(self, command: Command) -> Meter:
        name = command.args["meter"]
        meter = next((meter for meter in self.config.meters if meter.id == name), None)
        if meter is None:
            raise NotFoundError(f"no meter {name}")
        return meter


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("ping", Verbs.ping),
        Verb("info.get", Verbs.info_get),
        Verb("port.list", Verbs.port_list),
        Verb("port.scan", Verbs.port_scan),
        Verb("port.hold", Verbs.port_hold, changes=True),
        Verb("port.release", Verbs.port_release, changes=True),
        Verb("port.trace", Verbs.port_trace, local=True),
        Verb("meter.list", Verbs.meter_list),
        Verb("meter.put", Verbs.meter_put, changes=True),
        Verb("meter.delete", Verbs.meter_delete, changes=True),
        Verb("meter.read", Verbs.meter_read),
        Verb("meter.probe", Verbs.meter_probe),
        Verb("counter.adopt", Verbs.counter_adopt, changes=True, local=True),
        Verb("image.add", Verbs.image_add, changes=True, local=True),
        Verb("image.fetch", Verbs.image_fetch, changes=True),
        Verb("image.list", Verbs.image_list),
        Verb("image.delete", Verbs.image_delete, changes=True),
        Verb("campaign.submit", Verbs.campaign_submit, changes=True),
        Verb("campaign.get", Verbs.campaign_get),
        Verb("campaign.list", Verbs.campaign_list),
        Verb("campaign.cancel", Verbs.campaign_cancel, changes=True),
        Verb("campaign.pause", Verbs.campaign_pause, changes=True),
        Verb("campaign.resume", Verbs.campaign_resume, changes=True),
        Verb("campaign.approve", Verbs.campaign_approve, changes=True),
        Verb("campaign.retry", Verbs.campaign_retry, changes=True),
        Verb("window.list", Verbs.window_list),
        Verb("window.set", Verbs.window_set, changes=True),
        Verb("event.list", Verbs.event_list),
        Verb("agent.reload", Verbs.agent_reload, changes=True),
    )
}


def over_mqtt(verb: str, config: Config) -> bool:
    """Whether [commands] mqtt_verbs lets it in."""
    return not VERBS[verb].local and any(fnmatchcase(verb, pattern) for pattern in config.commands.mqtt_verbs)


def _done(command: Command, data: Mapping[str, Any]) -> Reply:
    return Reply(command.cmd_id, ReplyStatus.DONE, data=data)


def _opening(window: Window, now: datetime, *, clock_trusted: bool) -> Document:
    opening = current_or_following(window, now) if clock_trusted else None
    return {
        "open": opening is not None and now in opening,
        "opens_at": time_text(opening.start if opening else None),
        "closes_at": time_text(opening.end if opening else None),
    }


def _port(port: PortSettings) -> Document:
    return {
        "port": port.name,
        "kind": port.kind,
        "device": port.device,
        "address": port.address,
        "framing": port.framing,
        "baud": port.baud,
        "parity": port.parity,
    }


def _meter(meter: Meter) -> Document:
    return {
        "meter": meter.id,
        "port": meter.port,
        "physical_address": meter.physical_address,
        "logical_address": meter.logical_address,
        "client": meter.client,
        "authentication": meter.authentication,
        "security": meter.security,
        "profile": meter.profile.name,
    }


def _progress(latest: Mapping[str, Any]) -> Document:
    """What the worker saw since its last checkpoint."""
    shown = {name: latest[name] for name in ("blocks_done", "blocks_total", "eta_s") if name in latest}
    return {**shown, "rate_bps": latest["bytes_per_s"]} if "bytes_per_s" in latest else shown
