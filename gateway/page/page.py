"""The actor of the status page: where it listens, and what stands at which path."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from gateway.board import PAGE, Board
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.model import AlarmKind, PageSettings, StepReport
from gateway.page import metrics, view
from gateway.page.http import Answer, Request, refusal
from gateway.page.looks import Look, Looks
from gateway.page.server import Server
from gateway.store import Store

AGAIN_S = 10.0
"""An address that cannot be had is asked for again."""
_IDLE_S = 0.5
_REST, _LONGEST_REST_S = 4, 0.25
"""After work it rests so many times as long: whoever asks without end has a fifth of a core, and meters the rest."""
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_STATIC = {
    "/page.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
"""Files of the package, named here one by one: no path leads to any other."""

log = logging.getLogger(__name__)


class StatusPage:
    """It asks verbs that only look. The constructor opens nothing; `step` does, while there is an address."""

    def __init__(
        self,
        settings: PageSettings | None,
        *,
        ask: Callable[[str, Mapping[str, Any]], Mapping[str, Any]],
        store: Store,
        board: Board,
        clock: Clock,
    ) -> None:
        """`ask` gives the data of a verb that only looks (`Controller.look`). `store`: for the alarm alone."""
        self._wanted = settings
        self._looks = Looks(ask, clock)
        self._store = store
        self._board = board
        self._clock = clock
        self._server: Server | None = None
        self._serves: PageSettings | None = None
        """What `_server` was made for."""
        self._shows: Look | None = None
        self._answers: dict[tuple[str, int], Answer] = {}
        """What was made of that look already, by path and page of meters."""

    def use(self, settings: PageSettings | None) -> None:
        """From the next step on; None: listen nowhere. From any thread."""
        self._wanted = settings
        self._board.ring(PAGE)

    def step(self, timeout_s: float = _IDLE_S) -> StepReport:
        """Serve what is there; waits for a client, at most `timeout_s`."""
        wanted = self._wanted
        if wanted != self._serves:
            self.close()
        if wanted is None:
            self._store.end_alarm(AlarmKind.PAGE)
            return StepReport("off", None)
        server = self._server or self._listen(wanted)
        if server is None:
            return StepReport("cannot listen", self._clock.monotonic() + AGAIN_S)
        worked_s = server.serve(timeout_s)
        if self._looks.forget_old():
            self._show(None)
        rest_s = min(_REST * worked_s, _LONGEST_REST_S)
        return StepReport(f"{server.connections} connections", self._clock.monotonic() + rest_s)

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is not None:
            self._server.close()
        self._server = self._serves = None

    # -- below ------------------------------------------------------------------------------------------------

    def _listen(self, settings: PageSettings) -> Server | None:
        place = (
            f"[{settings.host}]:{settings.port}"
            if ":" in settings.host
            else f"{settings.host}:{settings.port}"
        )
        try:
            self._server = Server(settings, self._answer, self._clock)
        except OSError as error:
            self._store.raise_alarm(AlarmKind.PAGE, f"cannot listen at {place}: {error.strerror or error}")
            return None
        self._serves = settings
        self._store.end_alarm(AlarmKind.PAGE)
        log.info("status page at http://%s/", place)
        return self._server

    def _answer(self, request: Request) -> Answer:
        if request.path in _STATIC:
            return Answer(_static(request.path), _STATIC[request.path])
        shown = _SHOWN.get(request.path)
        if shown is None:
            return refusal(HTTPStatus.NOT_FOUND)
        try:
            look = self._looks.now()
        except GatewayError as error:
            return Answer(f"{error.code}: {error.message}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        if look is not self._shows:
            self._show(look)
        wanted = request.path, view.meters_page(look, _number(request.query))
        if wanted not in self._answers:
            self._answers[wanted] = shown(look, wanted[1])
        return self._answers[wanted]

    def _show(self, look: Look | None) -> None:
        self._shows = look
        self._answers.clear()


_SHOWN: Mapping[str, Callable[[Look, int], Answer]] = {
    "/": lambda look, meters: Answer(view.page(look, meters), _HTML),
    "/live.json": lambda look, meters: Answer(view.live(look, meters), _JSON),
    "/metrics": lambda look, _: Answer(metrics.exposition(look), metrics.CONTENT_TYPE),
}


def _number(query: str) -> int:
    """Which page of meters is wanted; the first one for anything that is no number."""
    value = parse_qs(query, max_num_fields=None).get("meters", [""])[0]
    return int(value) if value.isascii() and value.isdigit() and len(value) < 5 else 1


@cache
def _static(path: str) -> bytes:
    return files("gateway.page").joinpath(f"static{path}").read_bytes()
