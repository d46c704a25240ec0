"""A whole gateway, its meters, its broker and its power supply in one thread on virtual time.

Every actor (worker, supplier, uplink) is the real one with its own local time; the one whose turn comes first is
stepped. The same seed gives the same run. `power_fails_at` numbers commits: at each of them the gateway dies before or
after it, everything in memory is gone, and it starts again on what the disk has. At those of `disk_full_at` the disk
has no room; whatever error of the project's own tree leaves a step is in `escaped`, and its actor pauses, as in
`gateway.daemon.actors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from support.sim_broker import IDLE_POLL_S, SimBroker

from gateway.board import CONDUCTOR, SUPPLIER, UPLINK, Board, port_actor
from gateway.conductor import Conductor
from gateway.control.commands import Controller, Origin, OriginKind
from gateway.errors import GatewayError, StoreError
from gateway.model import (
    Campaign,
    CommandSettings,
    Config,
    FirmwareSettings,
    Framing,
    GatewaySettings,
    Image,
    Job,
    Machine,
    Meter,
    MeterKeys,
    MqttSettings,
    PortKind,
    PortSettings,
    Profile,
    Reply,
    StepReport,
    Trust,
    Window,
)
from gateway.simulator import (
    NONE,
    Faults,
    Head,
    MeterSpec,
    Noise,
    OpticalLine,
    VirtualClock,
    VirtualLine,
    VirtualMeter,
)
from gateway.simulator.clock import EPOCH
from gateway.states import CAMPAIGN_GOES_TO, JOB_GOES_TO
from gateway.store import Store
from gateway.store.documents import GATEWAY, time_text
from gateway.supplier import Supplier
from gateway.supply.images import ImageStore
from gateway.supply.source import Wanted
from gateway.uplink.uplink import Uplink
from gateway.worker import Worker

BASE = "mgw/v1/gw-sim"
SYSTEM_TITLE = b"MGW\x00\x00\x00\x00\x01"
STEP_LIMIT = 2_000_000
TCP_BAUD = 1_000_000
AFTER_ERROR_S = 10.0
"""As in `gateway.daemon.actors`."""
NEVER_S = float("inf")
BY_DIGEST = FirmwareSettings(trust=Trust.DIGEST)


class PowerCut(BaseException):
    """Everything in memory is gone."""


class _LocalClock(VirtualClock):
    """An actor's own time; the time of day is that of the gateway, which may be wrong."""

    def __init__(self, start: datetime, off_s: Callable[[], float]) -> None:
        super().__init__(start)
        self._off_s = off_s

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._off_s())


class Watcher(Protocol):
    """Who looks on, and complains by an exception."""

    def committed(self, campaigns: Sequence[Campaign], jobs: Sequence[Job]) -> None:
        """These are durable from now on."""

    def stepped(self) -> None:
        """An actor has done a step, or the power has failed in it."""


class _ActingClock:
    """The clock of whichever actor is being stepped, for what actors share."""

    def __init__(self) -> None:
        self.acting: VirtualClock | None = None

    def _clock(self) -> VirtualClock:
        assert self.acting is not None
        return self.acting

    def now(self) -> datetime:
        return self._clock().now()

    def monotonic(self) -> float:
        return self._clock().monotonic()

    def wait(self, bell: threading.Event, timeout_s: float) -> bool:
        return self._clock().wait(bell, timeout_s)

    def sleep(self, delay_s: float) -> None:
        self._clock().sleep(delay_s)


class _FragileStore(Store):
    """The real Store, on a disk whose power can fail at any commit."""

    power: Power
    watcher: Watcher | None = None

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._campaigns_written: list[Campaign] = []
        self._jobs_written: list[Job] = []
        super().__init__(*args, **settings)

    def _commit(self, database: sqlite3.Connection) -> None:
        # The first commit opens the database, before anybody could have set `power`.
        power = getattr(self, "power", None)
        if power is None:
            super()._commit(database)
            return
        power.commit(lambda: self._really_commit(database))

    def _really_commit(self, database: sqlite3.Connection) -> None:
        super()._commit(database)
        if self.watcher is not None and (self._campaigns_written or self._jobs_written):
            self.watcher.committed(self._campaigns_written, self._jobs_written)
        self._forget_written()

    def _forget(self) -> None:
        super()._forget()
        self._forget_written()

    def _forget_written(self) -> None:
        self._campaigns_written, self._jobs_written = [], []

    def _tell_campaign(self, database: sqlite3.Connection, campaign: Campaign, *, who: str) -> None:
        self._campaigns_written.append(campaign)
        super()._tell_campaign(database, campaign, who=who)

    def _insert_job(self, database: sqlite3.Connection, number: int, job: Job) -> None:
        self._jobs_written.append(job)
        super()._insert_job(database, number, job)

    def _write_job(self, database: sqlite3.Connection, stored: Job, job: Job, *, who: str = GATEWAY) -> Job:
        if job.state is not stored.state:
            assert job.state in JOB_GOES_TO[stored.state], (
                f"{stored.state} -> {job.state}, see gateway/states.py"
            )
        written = super()._write_job(database, stored, job, who=who)
        self._jobs_written.append(written)
        return written

    def _write_campaign(
        self, database: sqlite3.Connection, campaign: Campaign, *, who: str = GATEWAY
    ) -> Campaign:
        stored = self.campaign_state(campaign.id)
        if campaign.state is not stored:
            assert campaign.state in CAMPAIGN_GOES_TO[stored], f"{stored} -> {campaign.state}"
        written = super()._write_campaign(database, campaign, who=who)
        if written not in self._campaigns_written:  # it was told as well
            self._campaigns_written.append(written)
        return written


@dataclass
class Power:
    """Fails at the given numbers of commits, alternately before and after the commit."""

    fails_at: frozenset[int] = frozenset()
    disk_full_at: frozenset[int] = frozenset()
    commits: int = 0
    cuts: int = 0

    def commit(self, really: Callable[[], None]) -> None:
        self.commits += 1
        if self.commits in self.disk_full_at:
            raise sqlite3.OperationalError("database or disk is full")
        if self.commits not in self.fails_at:
            really()
            return
        self.cuts += 1
        if self.cuts % 2:
            really()
        raise PowerCut


@dataclass
class SimMeter:
    """A virtual meter with the configuration that knows it."""

    spec: MeterSpec
    faults: Faults = NONE
    profile: Profile = field(default_factory=lambda: Profile(reconnect_after_s=20, activate_timeout_s=300))
    id: str = "MTR1"
    port: str = "bus1"
    expect_name: bool | str = True
    """The logical device name that is configured: the meter's own, none, or this one."""
    keys: MeterKeys | None = None
    """The keys that are configured, where they are not the meter's own."""
    dedicated_key: bool = False
    device_address: str = ""
    twins: tuple[MeterSpec, ...] = ()
    """Meters on the same line that nobody knows of."""


class _Actor:
    def __init__(
        self, name: str, clock: VirtualClock, step: Callable[[], StepReport], bell: threading.Event
    ) -> None:
        self.name = name
        self.clock = clock
        self.step = step
        self.bell = bell
        self.wake_at: float | None = clock.monotonic()

    def due_s(self, now_s: float) -> float:
        own_s = self.clock.monotonic()
        due_s = NEVER_S if self.wake_at is None else self.wake_at
        if due_s > now_s and self.bell.is_set():
            due_s = now_s
        if due_s > own_s:
            return due_s
        return own_s


class World:
    """See the module's docstring."""

    def __init__(
        self,
        directory: Path,
        meters: list[SimMeter],
        *,
        seed: int = 0,
        image_size: int = 8192,
        image: bytes = b"",
        other_image: bytes = b"",
        line_faults: Faults | Mapping[str, Faults] = NONE,
        baud: int = 9600,
        broker_loses: float = 0.0,
        power_fails_at: frozenset[int] = frozenset(),
        disk_full_at: frozenset[int] = frozenset(),
        wrapper_ports: frozenset[str] = frozenset(),
        heads: Mapping[str, Head] = MappingProxyType({}),
        start: datetime = EPOCH,
        device: str = "sim",
        configured_baud: int = 9600,
        windows: Mapping[str, Window] = MappingProxyType({}),
        firmware: FirmwareSettings = BY_DIGEST,
    ) -> None:
        """`line_faults`: of all lines, or by port. `wrapper_ports`: those that are TCP with the wrapper, one meter
        each. TCP knows no noise: of `line_faults` they have the cuts alone. `other_image`: is there to be fetched as
        well. `heads`: what stands before the one meter
        of a port that is optical, with mode E. `device`: of other lines; a path, where workers should look for
        it. `configured_baud`: what the gateway believes that `baud` is."""
        chance = random.Random(f"{seed} world")
        self.image = image or random.Random(f"{seed} image").randbytes(image_size)
        self.sha256 = hashlib.sha256(self.image).hexdigest()
        self.images_by_sha256 = {
            hashlib.sha256(octets).hexdigest(): octets for octets in (self.image, other_image)
        }
        self.windows = windows
        self._firmware = firmware
        self.clock_state = "synced"
        self.machine = Machine(board=("board 1",))
        self.power = Power(power_fails_at, disk_full_at)
        self.escaped: list[GatewayError] = []
        self._watcher: Watcher | None = None
        self.leaps_s = 0.0
        """While nobody else has anything to do, the uplink waits for as long as this in one step; 0: for a second."""
        self._until_s = NEVER_S
        self._said: deque[tuple[float, str, str]] = deque(maxlen=2000)
        self._directory = directory
        self._chance = chance
        self._sims = meters
        self._wrapper_ports = wrapper_ports
        self._device = device
        self._configured_baud = configured_baud
        self._heads = heads
        self._epoch = start
        self._shared = _ActingClock()
        self._now_s = 0.0
        self.clock_off_s = 0.0
        """How far the gateway's time of day is from the true one."""
        self._clocks = {
            name: _LocalClock(start, lambda: self.clock_off_s)
            for name in (UPLINK, SUPPLIER, CONDUCTOR, *{meter.port for meter in meters})
        }
        self.broker = SimBroker(self._clocks[UPLINK], chance, loses=broker_loses)
        self.meters: dict[str, VirtualMeter] = {
            sim.id: VirtualMeter(sim.spec, faults=sim.faults, seed=seed + number)
            for number, sim in enumerate(meters)
        }
        self.lines = {
            port: VirtualLine(
                self._on_line(port),
                self._clocks[port], seed=seed, **self._medium(port, _faults_of(port, line_faults), baud),
            )
            for port in {meter.port for meter in meters}
        }  # fmt: skip
        for port, head in heads.items():
            (meter,) = self.lines[port].meters
            self.lines[port] = OpticalLine(meter, self._clocks[port], head, seed=seed)
        self.config = self._make_config()
        self._boot()

    def _on_line(self, port: str) -> list[VirtualMeter]:
        here = [sim for sim in self._sims if sim.port == port]
        return [self.meters[sim.id] for sim in here] + [
            VirtualMeter(twin) for sim in here for twin in sim.twins
        ]

    def watch(self, watcher: Watcher) -> None:
        """From now on, whatever happens."""
        self._watcher = self.store.watcher = watcher

    # -- orders -----------------------------------------------------------------------------------------------

    def command(self, verb: str, args: Mapping[str, Any], cmd_id: str = "") -> str:
        """Send a command as a head-end does; its id."""
        self._shared.acting = self._clocks[UPLINK]
        now = self._shared.now()
        cmd_id = cmd_id or str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        document = {
            "v": 1, "cmd_id": cmd_id, "issued": time_text(now),
            "expires": time_text(now + timedelta(days=6)), "args": dict(args),
        }  # fmt: skip
        self.broker.order(f"{BASE}/cmd/{verb}", document)
        return cmd_id

    def command_at_the_gateway(self, verb: str, args: Mapping[str, Any]) -> str:
        """Send a command as an operator does, over the control socket; its id. The answer: `store.reply_of`."""
        return str(self.ask_at_the_gateway(verb, args).cmd_id)

    def ask_at_the_gateway(self, verb: str, args: Mapping[str, Any]) -> Reply:
        """The same; the first answer, which is the only one to a question."""
        self._shared.acting = self._clocks[UPLINK]
        cmd_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        now = self._shared.now()
        document = {
            "v": 1, "cmd_id": cmd_id, "verb": verb, "issued": time_text(now),
            "expires": time_text(now + timedelta(hours=1)), "args": dict(args),
        }  # fmt: skip
        origin = Origin(OriginKind.LOCAL, "uid 1000 (pid 1)")
        return self._controller.handle(json.dumps(document).encode(), origin)

    def submit(self, campaign_id: str = "c1", **changes: Any) -> str:
        args = {
            "campaign_id": campaign_id,
            "image": {"sha256": self.sha256, "url": "http://127.0.0.1/fw.bin", "size": len(self.image)},
            "identifier": "FW", "expect_version": "2.0.0", "targets": [sim.id for sim in self._sims],
        }  # fmt: skip
        return self.command("campaign.submit", args | changes)

    def replies(self, cmd_id: str) -> list[dict[str, Any]]:
        """The replies to a command, repetitions left out."""
        found: list[dict[str, Any]] = []
        for document in self.broker.documents(f"{BASE}/rsp"):
            if document["cmd_id"] == cmd_id and document not in found:
                found.append(document)
        return found

    def job(self, meter_id: str = "MTR1", campaign_id: str = "c1") -> dict[str, Any]:
        """The job as the head-end sees it."""
        return self.broker.snapshot(f"{BASE}/campaign/{campaign_id}/job/{meter_id}") or {}

    def campaign(self, campaign_id: str = "c1") -> dict[str, Any]:
        return self.broker.snapshot(f"{BASE}/campaign/{campaign_id}") or {}

    # -- time -------------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return self._now_s

    @property
    def now(self) -> datetime:
        """The time of day, about."""
        return self._epoch + timedelta(seconds=self._now_s)

    @property
    def gateway_now(self) -> datetime:
        """The time of day as the actor that is being stepped has it."""
        return self._shared.now()

    @property
    def acting_s(self) -> float:
        """The local time of the actor that is being stepped."""
        return self._shared.monotonic()

    @property
    def sentences(self) -> list[str]:
        """What the actors said of their latest steps, for who has to find out why something went wrong."""
        return [f"{at_s:10.3f} {name}: {sentence}" for at_s, name, sentence in self._said]

    def clock(self, port: str) -> VirtualClock:
        """The local time of a line."""
        return self._clocks[port]

    def run(self, until: Callable[[], bool], *, limit_s: float = 48 * 3600.0, by_s: float = NEVER_S) -> None:
        """Step whoever is earliest until `until` holds, which it does `by_s` at the latest. Fails when `limit_s` of
        virtual time has passed."""
        self._until_s = by_s
        for _ in range(STEP_LIMIT):
            if until():
                assert self.power.disk_full_at or not self.escaped, f"left a step: {self.escaped}"
                return
            due = [actor.due_s(self._now_s) for actor in self._actors]
            due_s = min(due)
            number = due.index(due_s)
            assert due_s < limit_s, f"nothing ended within {limit_s} s; last: {self.sentences[-5:]}"
            if self.leaps_s and number == 0:
                self.broker.idle_poll_s = self._idle_s(due[1:], due_s)
            self._step(self._actors[number], due_s)
            if self._watcher is not None:
                self._watcher.stepped()
        raise AssertionError(f"no end after {STEP_LIMIT} steps; last: {self.sentences[-5:]}")

    def _idle_s(self, others_due_s: list[float], now_s: float) -> float:
        return max(IDLE_POLL_S, min(self.leaps_s, min(*others_due_s, self._until_s) - now_s))

    def run_to(self, at_s: float) -> None:
        """Until so much virtual time has passed."""
        self.run(lambda: self._now_s >= at_s, limit_s=NEVER_S, by_s=at_s)

    def run_until_told(self, campaign_id: str = "c1", **limits: float) -> None:
        """Until the head-end has seen the campaign's end, and nothing is left to tell."""
        ends = {"succeeded", "partial", "failed", "cancelled", "expired"}
        self.run(
            lambda: self.campaign(campaign_id).get("state") in ends and not self.store.outbox_batch(0, 1),
            **limits,
        )

    def shut_down(self) -> None:
        """Stop the gateway in order, as systemd does, and start it again."""
        for name, worker in self._workers.items():
            self._shared.acting = self._clocks[name]
            with contextlib.suppress(PowerCut, GatewayError):
                worker.close()
        self.cut_power()

    def look_at_signatures(self) -> None:
        """As at a reload, and now and then while nobody could."""
        self._shared.acting = self._clocks[UPLINK]
        self._controller.stop_untrusted()

    def cut_power(self) -> None:
        """Everything in memory is gone; the gateway starts again a few seconds later."""
        self.store.close()
        self.broker.drop()
        self._let_pass(3.0)
        self._boot()

    def _let_pass(self, time_s: float) -> None:
        self._now_s += time_s
        for clock in self._clocks.values():
            clock.advance_to(self._now_s)

    def _step(self, actor: _Actor, due_s: float) -> None:
        actor.clock.advance_to(due_s)
        self._now_s = max(self._now_s, due_s)
        self._shared.acting = actor.clock
        actor.bell.clear() if actor.name in (SUPPLIER, UPLINK) else None
        try:
            report = actor.step()
        except PowerCut:
            self._said.append((self._now_s, "--", "power cut"))
            self.cut_power()
            return
        except GatewayError as error:
            self.escaped.append(error)
            self._said.append((actor.clock.monotonic(), actor.name, f"left the step: {error.message}"))
            # The pause hears no bell, hence by the actor's own clock.
            actor.clock.advance(AFTER_ERROR_S)
            actor.wake_at = actor.clock.monotonic()
            return
        actor.wake_at = report.wake_at
        if self.leaps_s and actor.name == SUPPLIER and self.store.next_fetch_at() is None:
            actor.wake_at = (
                None  # it would look again every few seconds, and a bell rings before it finds anything
            )
        self._said.append((actor.clock.monotonic(), actor.name, report.sentence))

    # -- the gateway ------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        while True:
            try:
                self._start()
            except PowerCut:
                self.store.close()
            except StoreError:  # no room on the disk: the process ends, and is started again
                self.store.close()
                self._let_pass(AFTER_ERROR_S)
            else:
                return

    def _start(self) -> None:
        clock, config = self._shared, self.config
        clock.acting = self._clocks[UPLINK]
        self.board = board = Board()
        self.store = _FragileStore(
            self._directory, gateway_id="gw-sim", root="mgw/v1", clock=clock, board=board
        )
        self.store.look_at_machine(self.machine)
        self.store.use_windows(self.windows)
        self.store.name_keys(self.config.keys, SYSTEM_TITLE)
        self.store.power, self.store.watcher = self.power, self._watcher
        self.store.fail_running_errands()
        self.images = images = ImageStore(self._directory / "images", 2**30)
        self.store.unpark_changed({meter.id: config.keys[meter.id] for meter in config.meters})
        self._controller = controller = Controller(
            config=config, store=self.store, images=images, board=board, clock=clock,
            version="0", clock_state=lambda: self.clock_state, reload=lambda: None,
        )  # fmt: skip
        controller.stop_untrusted()
        assert config.mqtt is not None
        uplink = Uplink(
            config.mqtt, gateway_id="gw-sim", broker=self.broker, store=self.store, board=board,
            clock=self._clocks[UPLINK],
            handle=controller.handle, info=controller.info, clock_state=lambda: "synced", random=self._chance,
        )  # fmt: skip
        supplier = Supplier(
            self.store, images, config.firmware, self._clocks[SUPPLIER], board, sources={"http": self._fetch},
            random=self._chance,
        )  # fmt: skip
        conductor = Conductor(
            self.store, self._clocks[CONDUCTOR], board, clock_trusted=self._clock_is_trusted
        )
        self._actors = [
            _Actor(UPLINK, self._clocks[UPLINK], uplink.step, board.bell(UPLINK)),
            _Actor(SUPPLIER, self._clocks[SUPPLIER], supplier.step, board.bell(SUPPLIER)),
            _Actor(CONDUCTOR, self._clocks[CONDUCTOR], conductor.step, board.bell(CONDUCTOR)),
        ]
        self._workers: dict[str, Worker] = {}
        for port in config.ports:
            worker = self._workers[port.name] = Worker(
                port, meters={meter.id: meter for meter in config.meters}, keys=config.keys,
                system_title=SYSTEM_TITLE, store=self.store, images=images, board=board,
                clock=self._clocks[port.name], open_port=lambda port: self.lines[port.name].reopen(),
                random_octets=self._chance.randbytes, clock_trusted=self._clock_is_trusted,
            )  # fmt: skip
            self._actors.append(
                _Actor(port.name, self._clocks[port.name], worker.step, board.bell(port_actor(port.name)))
            )

    def _clock_is_trusted(self) -> bool:
        return self.clock_state == "synced"

    def _fetch(self, wanted: Wanted, images: ImageStore, *, settings: object, watch: object) -> Image:
        return images.add(
            [self.images_by_sha256[wanted.sha256]], expect_sha256=wanted.sha256, expect_size=wanted.size
        )

    def _make_config(self) -> Config:
        return Config(
            gateway=GatewaySettings(id="gw-sim", system_title=SYSTEM_TITLE, state_dir=self._directory),
            mqtt=MqttSettings(url="mqtt://127.0.0.1"),
            commands=CommandSettings(),
            firmware=self._firmware,
            ports=tuple(self._port(port) for port in self.lines),
            meters=tuple(_configured(sim) for sim in self._sims),
            keys={sim.id: sim.spec.keys if sim.keys is None else sim.keys for sim in self._sims},
        )

    def _port(self, name: str) -> PortSettings:
        if name in self._wrapper_ports:
            return PortSettings(name, PortKind.TCP, address="sim:4059", framing=Framing.WRAPPER)
        if name in self._heads:
            return PortSettings(name, PortKind.OPTICAL, device="sim", mode_e=True)
        return PortSettings(name, PortKind.RS485, device=self._device, baud=self._configured_baud)

    def _medium(self, port: str, faults: Faults, baud: int) -> dict[str, Any]:
        if port not in self._wrapper_ports:
            return {"faults": faults, "baud": baud}
        quiet = replace(faults, to_meter=Noise(), to_gateway=Noise())
        return {"faults": quiet, "baud": TCP_BAUD, "framing": Framing.WRAPPER}


def _faults_of(port: str, faults: Faults | Mapping[str, Faults]) -> Faults:
    return faults if isinstance(faults, Faults) else faults.get(port, NONE)


def _configured(sim: SimMeter) -> Meter:
    spec = sim.spec
    name = spec.logical_device_name if sim.expect_name is True else sim.expect_name or ""
    return Meter(
        id=sim.id, port=sim.port, physical_address=spec.address.lower or 0, logical_address=spec.address.upper,
        address_bytes=spec.address.octets, client=spec.client, authentication=spec.authentication,
        security=spec.security, logical_device_name=name, profile=sim.profile,
        dedicated_key=sim.dedicated_key, device_address=sim.device_address,
    )  # fmt: skip


def ciphered(**changes: Any) -> MeterSpec:
    """A meter with HLS-GMAC that protects everything."""
    from gateway.model import Authentication, Security

    return MeterSpec(
        keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
        authentication=Authentication.HLS_GMAC, security=Security.BOTH, **changes,
    )  # fmt: skip
