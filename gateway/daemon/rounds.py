"""What the process looks at now and then, beside the work: its clock, its disk, its certificates, what is old."""

from __future__ import annotations

import logging
from contextlib import suppress

from gateway.board import CONDUCTOR, Board, port_actor
from gateway.clock import Clock
from gateway.daemon.certificates import first_end, trouble_with_certificates
from gateway.daemon.clocksync import UNSYNCED, clock_state
from gateway.durable import room
from gateway.errors import StoreError
from gateway.model import AlarmKind, Config
from gateway.schedule import Bells
from gateway.store import Store
from gateway.store.documents import time_text
from gateway.supply.images import ImageStore

CLOCK_EVERY_S = 30.0
DISK_EVERY_S = 30.0
PURGE_EVERY_S = 3600.0
CERTIFICATES_EVERY_S = 86_400.0
_PRUNED_AT_ONCE = 200
"""Transactions of an hour in which old campaigns are forgotten: half a minute on a slow card, which the scheduler's
other bells wait for."""

log = logging.getLogger(__name__)


class Rounds:
    """Looks, and says what it saw by alarms and on the Board. `begin` before anything else is asked."""

    def __init__(self, config: Config, store: Store, images: ImageStore, clock: Clock, board: Board) -> None:
        self._config = config
        self._store = store
        self._images = images
        self._clock = clock
        self._board = board
        self._clock_state = UNSYNCED

    def begin(self) -> None:
        """The first look at what work rests on."""
        self._look_at_clock()
        self._look_at_disk()

    def ring(self, bells: Bells) -> None:
        """Look from now on, in the scheduler's thread."""
        bells.every("clock", CLOCK_EVERY_S, self._look_at_clock)
        bells.every("disk", DISK_EVERY_S, self._look_at_disk)
        bells.every("certificates", CERTIFICATES_EVERY_S, self.look_at_certificates)
        bells.every("purge", PURGE_EVERY_S, self._purge)

    def use(self, config: Config) -> None:
        """From the next look on."""
        self._config = config

    def clock_state(self) -> str:
        """As `clocksync` has it."""
        return self._clock_state

    def clock_is_trusted(self) -> bool:
        return self._clock_state != UNSYNCED

    def look_at_certificates(self) -> None:
        """Only by a clock that is right; until there is one the alarm stays as it is."""
        if not self.clock_is_trusted():
            return
        now = self._clock.now()
        self._board.post(("certificates",), {"first_end": time_text(first_end(self._config, now))})
        if trouble := trouble_with_certificates(self._config, now):
            self._store.raise_alarm(AlarmKind.CERTIFICATE, trouble)
        else:
            self._store.end_alarm(AlarmKind.CERTIFICATE)

    def ring_who_keeps_hours(self) -> None:
        """The time of day, or whether it can be trusted, is not what it was."""
        self._board.ring(CONDUCTOR)
        for port in self._config.ports:
            self._board.ring(port_actor(port.name))

    # -- below ------------------------------------------------------------------------------------------------

    def _look_at_clock(self) -> None:
        before = self._clock_state
        self._clock_state = clock_state(self._config.gateway.require_synced_clock, self._clock.now())
        self._board.post(("clock",), {"state": self._clock_state, "timezone": self._config.gateway.timezone})
        if self._clock_state == UNSYNCED:
            self._store.raise_alarm(AlarmKind.CLOCK, "nobody keeps the gateway's clock right")
        else:
            self._store.end_alarm(AlarmKind.CLOCK)
        if self._clock_state != before:
            log.info(
                "the clock is %s, it shows %s",
                self._clock_state,
                self._clock.now().isoformat(timespec="seconds"),
            )
            self.ring_who_keeps_hours()
            self.look_at_certificates()

    def _look_at_disk(self) -> None:
        """Where so little room is left for the state, its log and images that somebody should make some."""
        directory = self._config.gateway.state_dir
        if room(directory) < 0:
            found = f"{directory} is nearly full: no more images are taken"
            self._store.raise_alarm(AlarmKind.DISK, found)
        else:
            self._store.end_alarm(AlarmKind.DISK)
            with suppress(StoreError):  # a disk too small for that
                self._store.keep_room()

    def _purge(self) -> None:
        """Only by a clock that is right: one that is ahead would forget what is still needed."""
        if self.clock_is_trusted():
            self._store.purge_expired()
            self._images.forget_old_parts(self._clock.now())
            images = {holding.sha256 for holding in self._images.holdings()}
            for _ in range(_PRUNED_AT_ONCE):
                if not self._store.prune(self._config.gateway.retention_s, images):
                    break
