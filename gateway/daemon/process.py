"""The whole process: what it is made of, how it starts, lives and ends."""

from __future__ import annotations

import logging
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from gateway import config as configuration
from gateway.board import CONDUCTOR, CONTROL, PAGE, SUPPLIER, UPLINK, Board, port_actor
from gateway.clock import SystemClock
from gateway.conductor import Conductor
from gateway.control import Controller, ControlServer
from gateway.daemon import logs, notify
from gateway.daemon import reload as reloads
from gateway.daemon.actors import Actor, ActorThread
from gateway.daemon.lines import Lines
from gateway.daemon.machine import this_machine
from gateway.daemon.rounds import Rounds
from gateway.daemon.sources import image_sources
from gateway.errors import ConfigError, GatewayError, StoreError
from gateway.link.conversation import EXCHANGE_LIMIT_S
from gateway.link.port import open_port
from gateway.link.tap import tapped
from gateway.model import (
    AlarmKind,
    Config,
    Errand,
    Meter,
    MeterKeys,
    MqttSettings,
    PortKind,
    PortSettings,
)
from gateway.page import StatusPage
from gateway.schedule import SCHEDULE, Bells
from gateway.store import Store
from gateway.store.commands import GATEWAY_ERRANDS, METER_CHANGES
from gateway.store.store import OUTBOX_LIMIT_BYTES
from gateway.supplier import Supplier
from gateway.supply.images import ImageStore
from gateway.supply.trust import what_it_means
from gateway.uplink.paho_broker import PahoBroker
from gateway.uplink.uplink import Uplink
from gateway.wire.hdlc import LARGEST_WINDOW
from gateway.wire.mode_e import SIGN_ON_BAUD
from gateway.wire.tuning import LONGEST_WAIT_S
from gateway.words import printable
from gateway.worker import Worker

SIGNATURES_EVERY_S = 60.0
LIFE_EVERY_S = 5.0
CLOCK_STEP_S = 2.0
"""Time of day that is off by more against monotonic time was set, not slewed."""
STOP_WITHIN_S = 4.5
"""What an operator waits for; what has not ended by then is left, since all that matters is durable."""
_FAREWELL_S = 1.5
"""The part of it in which the uplink publishes what the others said last, and that the gateway is offline."""
_PATIENCE_S = 120.0
_RESOLVER_PATIENCE_S = 600.0
"""Of whoever may look for a name: where no name server answers, that takes minutes (resolv.conf(5): 2 attempts
of 5 s, at each of 3 servers, for each of 6 search domains), and nothing can cut that short."""
_LONGEST_FRAME_BITS = 2048 * 11
_FRAMES_IN_AN_EXCHANGE = LARGEST_WINDOW + 3
"""Between two writes: a whole window, and what the limit of an exchange leaves to the longest answers."""
_LEAVING_LOOK_S = 0.05
"""How often it is looked whether the lines that a reload changes have been left."""

log = logging.getLogger(__name__)


class Daemon:
    """One gateway. The constructor opens state and socket and starts no thread; `run` does, and stays.

    Raises StoreError where the state directory cannot be used, GatewayError where the socket cannot be.
    """

    def __init__(self, config: Config, config_file: Path | None = None) -> None:
        self._config = config
        self._config_file = config_file
        self._clock = SystemClock()
        self._board = Board()
        # Signals and failures wake the main thread through a pipe: a handler may not take the lock of an Event.
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._hung_up = False
        """SIGHUP came: look at the configuration."""
        self._reload: reloads.Reload | None = None
        self._config_note = ""
        """What STATUS says of the configuration; nothing where all of it is in force."""
        self._told_of_trust = ""
        self._store_trouble = ""
        self._failed = False
        self._bells = Bells(self._tick_failed)
        self._store = Store(
            config.gateway.state_dir,
            gateway_id=config.gateway.id if config.mqtt else "",
            root=config.mqtt.root if config.mqtt else "",
            clock=self._clock,
            board=self._board,
            outbox_limit_bytes=config.mqtt.outbox_limit_bytes if config.mqtt else OUTBOX_LIMIT_BYTES,
        )
        self._store.look_at_machine(this_machine())
        self._store.use_windows(config.windows)
        self._config = config = configuration.with_stored(config, self._store.stored_meters())
        self._images = ImageStore(
            config.gateway.state_dir / "images",
            config.firmware.quota_bytes,
            needed=self._store.needed_images,
        )
        self._rounds = Rounds(config, self._store, self._images, self._clock, self._board)
        self._controller = Controller(
            config=config,
            store=self._store,
            images=self._images,
            board=self._board,
            clock=self._clock,
            version=version("meter-gateway"),
            clock_state=self._rounds.clock_state,
            reload=self._wake_up,
        )
        sources = image_sources(config, self._clock)
        self._supplier = Supplier(
            self._store, self._images, config.firmware, self._clock, self._board, sources=sources
        )
        self._page = StatusPage(
            config.page, ask=self._controller.look, store=self._store, board=self._board, clock=self._clock
        )
        self._others = [
            # A server that drips may hold a fetch for long; nothing but other fetches waits for it.
            self._thread(SUPPLIER, self._supplier, patience_s=float("inf")),
            self._control_thread(),
            self._conductor_thread(),
            self._thread(PAGE, self._page, self._page.close),
        ]
        self._lines = Lines(self._port_thread)
        self._uplink = self._uplink_thread(config.mqtt) if config.mqtt else None

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, or until an actor meets a bug. Gives the exit status: 0 or 1."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._rounds.begin()
        self._store.fail_running_errands()
        self._end_orphans()
        self._controller.stop_untrusted()
        self._store.name_keys(self._config.keys, self._config.gateway.system_title)
        self._store.unpark_changed(
            {meter.id: MeterKeys() for meter in self._config.meters} | dict(self._config.keys)
        )
        self._rounds.ring(self._bells)
        self._bells.every("signatures", SIGNATURES_EVERY_S, self._look_at_signatures)
        self._bells.every("life", LIFE_EVERY_S, lambda: self._beat(SCHEDULE))
        self._beat(SCHEDULE)
        self._bells.start()
        for thread in self._threads():
            thread.start()
        self._lines.begin(self._config)
        self._tell_of_left_out()
        notify.tell(f"READY=1\nSTATUS={self._sentence()}")
        log.info("ready: %s", self._sentence())
        self._tell_of_trust()
        self._live()
        notify.tell("STOPPING=1")
        self._stop()
        log.info("ended")
        return 1 if self._failed else 0

    # -- what it is made of -----------------------------------------------------------------------------------

    def _threads(self) -> list[ActorThread]:
        return [*self._others, *self._lines.threads, *([self._uplink] if self._uplink else [])]

    def _thread(
        self,
        name: str,
        actor: Actor,
        close: Callable[[], None] = lambda: None,
        *,
        patience_s: float = _PATIENCE_S,
        hears_bell: bool = False,
    ) -> ActorThread:
        return ActorThread(
            name,
            actor,
            board=self._board,
            clock=self._clock,
            patience_s=patience_s,
            ended=self._actor_failed,
            close=close,
            hears_bell=hears_bell,
        )

    def _port_thread(self, settings: PortSettings, meters: tuple[Meter, ...]) -> ActorThread:
        worker = Worker(
            settings,
            meters={meter.id: meter for meter in meters},
            keys=self._config.keys,
            system_title=self._config.gateway.system_title,
            store=self._store,
            images=self._images,
            board=self._board,
            clock=self._clock,
            open_port=tapped(open_port, self._board, self._clock),
            random_octets=os.urandom,
            clock_trusted=self._rounds.clock_is_trusted,
        )
        actor = port_actor(settings.name)
        return self._thread(
            actor, worker, worker.close, patience_s=port_patience_s(settings), hears_bell=True
        )

    def _conductor_thread(self) -> ActorThread:
        conductor = Conductor(
            self._store, self._clock, self._board, clock_trusted=self._rounds.clock_is_trusted
        )
        return self._thread(CONDUCTOR, conductor)

    def _control_thread(self) -> ActorThread:
        path = self._config.gateway.control_socket
        server = ControlServer(path, self._controller, self._store, self._board, self._clock)
        return self._thread(CONTROL, server, server.close)

    def _uplink_thread(self, settings: MqttSettings) -> ActorThread:
        gateway_id = self._config.gateway.id
        uplink = Uplink(
            settings,
            gateway_id=gateway_id,
            broker=PahoBroker(settings, f"mgw-{gateway_id}"),
            store=self._store,
            board=self._board,
            clock=self._clock,
            handle=self._controller.handle,
            info=self._controller.info,
            clock_state=self._rounds.clock_state,
        )
        return self._thread(UPLINK, uplink, uplink.close, patience_s=_RESOLVER_PATIENCE_S)

    # -- life -------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Until somebody wants it to end: signs of life for systemd, as long as everybody shows them."""
        watchdog_s = notify.watchdog_s()
        pause_s = min(LIFE_EVERY_S, watchdog_s / 3) if watchdog_s else LIFE_EVERY_S
        told = ""
        set_off_s = self._set_off_s()
        while not self._stopping:
            wait_s = _LEAVING_LOOK_S if self._reload and not self._store_trouble else pause_s
            if select.select((self._woken,), (), (), wait_s)[0]:
                os.read(self._woken, 4096)
            self._look_at_configuration()
            if abs(self._set_off_s() - set_off_s) > CLOCK_STEP_S:
                set_off_s = self._set_off_s()
                log.info("the clock was set")
                self._bells.clock_was_set()
                self._rounds.ring_who_keeps_hours()
            silent = self._silent()
            if not silent:
                notify.tell("WATCHDOG=1")
            sentence = f"no sign of life of {', '.join(silent)}" if silent else self._sentence()
            if sentence != told:
                told = sentence
                notify.tell(f"STATUS={sentence}")
                if silent:
                    log.error("%s; systemd is told nothing more and restarts the service", sentence)

    def _set_off_s(self) -> float:
        """Time of day less monotonic time: it changes when somebody sets the clock."""
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _silent(self) -> list[str]:
        """Who has shown no sign of life for longer than the longest of their steps."""
        now_s, lives = self._clock.monotonic(), self._board.lives()
        patience_s = {thread.name: thread.patience_s for thread in self._threads()} | {SCHEDULE: _PATIENCE_S}
        return [name for name, limit_s in patience_s.items() if now_s - lives.get(name, now_s) > limit_s]

    def _sentence(self) -> str:
        """What systemctl status shows."""
        note = f"; {self._config_note}" if self._config_note else ""
        config = self._config
        if not config.ports:
            file = self._config_file or configuration.DEFAULT_FILE
            return f"nothing to do: {file} names no ports and no meters{note}"
        words = [f"{len(config.ports)} ports", f"{len(config.meters)} meters"]
        words.append(f"{len(self._board.values('progress'))} transfers under way")
        if config.mqtt:
            online = self._board.values("uplink").get(("uplink",), {}).get("online", False)
            words.append("broker connected" if online else "broker not connected")
        return ", ".join([*words, f"clock {self._rounds.clock_state()}"]) + note

    def _tell_of_trust(self) -> None:
        """At every start, and when it was changed."""
        profiles = {meter.profile for meter in self._config.meters}
        sentence = what_it_means(self._config.firmware, profiles)
        if sentence and sentence != self._told_of_trust:
            log.warning("%s", sentence)
        self._told_of_trust = sentence

    def _tell_of_left_out(self) -> None:
        """Stored meters that do not fit the configuration wait until they do."""
        left_out = self._config.left_out
        if left_out:
            first = next(iter(left_out.values()))[0]
            self._store.raise_alarm(AlarmKind.METERS, f"{len(left_out)} stored meters are left out: {first}")
        else:
            self._store.end_alarm(AlarmKind.METERS)

    def _beat(self, actor: str) -> None:
        self._board.beat(actor, self._clock.monotonic())

    def _look_at_signatures(self) -> None:
        """Again, where nobody could."""
        if self._store.unproven:
            self._controller.stop_untrusted()

    # -- a new configuration ----------------------------------------------------------------------------------

    def _look_at_configuration(self) -> None:
        """Begin a reload that is wanted, by SIGHUP or by an errand, or end one whose lines have been left."""
        try:
            if self._reload is None:
                errand = self._store.take_errand(GATEWAY_ERRANDS)
                if errand or self._hung_up:
                    self._begin_reload(errand)
            if self._reload is not None and self._lines.left:
                self._end_reload(self._reload)
        except StoreError as error:  # the disk is full: this is looked at again
            if error.message != self._store_trouble:
                log.error("reload: %s: %s. %s", error.code, error.message, error.advice)  # noqa: TRY400
            self._store_trouble = error.message
        else:
            self._store_trouble = ""

    def _begin_reload(self, errand: Errand | None) -> None:
        """Everything is checked before anything is applied; with a mistake the running configuration stays."""
        notify.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if errand and errand.verb in METER_CHANGES:
            self._reload = reloads.meter_changed(self._use(self._config), errand, self._config_note)
            return
        self._hung_up = False
        try:
            plan = configuration.plan_reload(self._config, configuration.load(self._config_file))
        except ConfigError as error:
            self._reload = reloads.refused(error, errand)
            return
        ports = self._use(plan.config)
        self._reload = reloads.applied((*plan.applied, *ports), plan.needs_restart, errand)

    def _use(self, config: Config) -> tuple[str, ...]:
        """Everybody works by `config` and the stored meters from now on, but for the lines that differ, which begin to
        be left: how they do, in words."""
        config = self._config = configuration.with_stored(config, self._store.stored_meters())
        self._controller.use(config)
        self._supplier.use(config.firmware)
        self._store.use_windows(config.windows)
        self._page.use(config.page)
        self._images.quota_bytes = config.firmware.quota_bytes
        self._rounds.use(config)
        return self._lines.leave(config)

    def _end_reload(self, reload: reloads.Reload) -> None:
        """The lines that changed have been left: end what nobody will work on, begin the new ones, and tell. Where the
        disk refuses that, it is done again from the beginning."""
        self._end_orphans()
        self._rounds.look_at_certificates()
        self._controller.stop_untrusted()
        self._lines.begin(self._config)
        self._tell_of_left_out()
        if reload.errand:
            self._store.finish_errand(reload.errand, reload.reply)
        self._reload = None
        self._wake_up()  # another may wait
        self._config_note = reload.note
        self._tell_of_trust()
        for line in reload.lines:
            log.log(logging.WARNING if reload.note else logging.INFO, "%s", line)
        notify.tell(f"READY=1\nSTATUS={self._sentence()}")

    def _end_orphans(self) -> None:
        self._store.end_alarms_elsewhere([port.name for port in self._config.ports])
        self._store.end_orphans({(meter.id, meter.port) for meter in self._config.meters})

    # -- end --------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._stopping = True

    def _tick_failed(self, name: str, error: BaseException) -> None:
        """From the scheduler's thread. What this project raises on purpose concerns this tick alone."""
        if isinstance(error, GatewayError):
            log.error("%s: %s: %s. %s", name, error.code, error.message, error.advice)
        else:
            log.critical("%s: a bug ends the process", name, exc_info=error)
            self._actor_failed(name, error)

    def _actor_failed(self, _name: str, _error: BaseException) -> None:
        """From the actor's thread: a bug; the process ends so that systemd starts it afresh (invariant 12)."""
        self._failed = self._stopping = True
        self._wake_up()

    def _wake_up(self) -> None:
        """From any thread: let the main one look what there is."""
        with suppress(BlockingIOError):  # so much waits that it will look
            os.write(self._wake, b"!")

    def _stop(self) -> None:
        """At the end of each one's step: the lines first, then the uplink, which tells what they said last."""
        deadline_s = time.monotonic() + STOP_WITHIN_S
        self._supplier.stop()
        late = _end([*self._others, *self._lines.threads], deadline_s - _FAREWELL_S)
        late += _end([self._uplink] if self._uplink else [], deadline_s)
        self._bells.stop()
        if late:
            log.warning("left in the middle of a step: %s", ", ".join(late))
        else:
            self._store.close()


def _end(threads: list[ActorThread], deadline_s: float) -> list[str]:
    """Stop them all at once; the names of those that did not end in time."""
    for thread in threads:
        thread.stop()
    return [thread.name for thread in threads if not thread.join(deadline_s - time.monotonic())]


def port_patience_s(port: PortSettings) -> float:
    """How long the worker of this port may write nothing: an exchange of a whole window, with a meter that keeps its
    link alive and never answers. With mode E it may have agreed to 300 baud only; frames over TCP take no time worth
    counting, but somebody has to be found who knows where a name leads to."""
    baud = SIGN_ON_BAUD if port.mode_e else port.baud
    frame_s = 0.0 if port.kind is PortKind.TCP else _LONGEST_FRAME_BITS / baud
    wait_s = max(port.response_timeout_s, LONGEST_WAIT_S)
    exchange_s = EXCHANGE_LIMIT_S + _FRAMES_IN_AN_EXCHANGE * frame_s + wait_s
    network = port.kind is PortKind.TCP or not port.device.startswith("/")
    return max(_RESOLVER_PATIENCE_S if network else _PATIENCE_S, exchange_s)


def run(config_file: Path | None, *, verbose: bool = False) -> int:
    """`meter-gateway run`: the daemon until it is told to end. Raises ConfigError and GatewayError; systemd is told."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no keys in a core dump (invariant 13)
    try:
        config = configuration.load(config_file)
        logs.set_up(verbose=verbose)
        return Daemon(config, config_file).run()
    except ConfigError as error:
        notify.tell(f"STATUS=the configuration has mistakes: {reloads.first_mistake(error)}")
        raise
    except GatewayError as error:
        notify.tell(f"STATUS={error.code}: {printable(error.message)}")
        raise
