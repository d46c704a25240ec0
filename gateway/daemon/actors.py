"""Threads that loop over `step()`: the only place where the house starts any for its work.

An actor does one thing in a step and says when it wants the next. Errors of the project's own tree that leave a
step (a full disk) are logged, and the actor tries again; anything else is a bug, and ends the process
(invariant 12).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from gateway.board import Board
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import StepReport

BEAT_S = 5.0
"""An idle actor shows life this often."""
_AFTER_ERROR_S = 10.0
_TELL_AGAIN_S = 3600.0
"""An error that comes and goes for weeks is told once an hour."""
_TOLD_LIMIT = 8
"""How many different ones are told in that time."""

log = logging.getLogger(__name__)


class Actor(Protocol):
    def step(self) -> StepReport: ...


class ActorThread:
    """One actor and its thread. `ended` is told when the thread ends by itself, which is a bug's doing."""

    def __init__(
        self,
        name: str,
        actor: Actor,
        *,
        board: Board,
        clock: Clock,
        patience_s: float,
        ended: Callable[[str, BaseException], None],
        close: Callable[[], None] = lambda: None,
        hears_bell: bool = False,
    ) -> None:
        """A step may take `patience_s` before it counts as hung. `close` ends the actor, in its own thread.
        `hears_bell`: the actor looks at its bell itself, and clears it."""
        self.name = name
        self.patience_s = patience_s
        self._actor = actor
        self._close = close
        self._board = board
        self._clock = clock
        self._ended = ended
        self._bell = board.bell(name)
        self._hears_bell = hears_bell
        self._stopping = threading.Event()
        self._last_sentence = ""
        self._told: dict[str, float] = {}
        """When each error was told, by its message."""
        # A daemon thread: one that hangs in a system call must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._board.beat(self.name, self._clock.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end after the step that is under way."""
        self._stopping.set()
        self._bell.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`."""
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step_and_rest()
            self._close()
        except GatewayError as error:
            log.warning("%s: not closed in order: %s", self.name, error.message)
        except BaseException as error:
            log.critical("%s: a bug ends the process", self.name, exc_info=True)
            self._ended(self.name, error)

    def _step_and_rest(self) -> None:
        self._beat()
        if not self._hears_bell:
            self._bell.clear()
        try:
            report = self._actor.step()
        except GatewayError as error:
            if self._is_news(error.message):
                sentence = f"{error.code}: {error.message}. {error.advice}"
                fields = {"CODE": error.code}
                log.error("%s: %s", self.name, sentence, extra={"fields": fields})  # noqa: TRY400 (what, not where)
            self._rest(self._clock.monotonic() + _AFTER_ERROR_S, self._stopping)
            return
        if report.sentence != self._last_sentence:
            self._last_sentence = report.sentence
            log.debug("%s: %s", self.name, report.sentence)
        self._rest(report.wake_at, self._bell)

    def _is_news(self, message: str) -> bool:
        now = self._clock.monotonic()
        self._told = {told: at for told, at in self._told.items() if now - at < _TELL_AGAIN_S}
        if message in self._told or len(self._told) >= _TOLD_LIMIT:
            return False
        self._told[message] = now
        return True

    def _rest(self, wake_at: float | None, until: threading.Event) -> None:
        """Wait for the event or the moment (None: for the event alone), with a sign of life now and then."""
        while not self._stopping.is_set():
            left_s = BEAT_S if wake_at is None else wake_at - self._clock.monotonic()
            if left_s <= 0 or self._clock.wait(until, min(left_s, BEAT_S)):
                return
            self._beat()

    def _beat(self) -> None:
        self._board.beat(self.name, self._clock.monotonic())
