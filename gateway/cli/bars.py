"""A bar on a terminal for what the daemon does while a command waits for it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from gateway.cli.client import GatewayClient, NoDaemonError, RefusedError
from gateway.cli.root import Desk
from gateway.cli.text import cursor_moves

Look = Callable[[GatewayClient], tuple[int, int | None, str] | None]
"""How much is done, of how much if that is known, and in words; None: nothing is known now."""

_LOOK_EVERY_S = 0.5


@contextlib.contextmanager
def bar(desk: Desk, description: str, look: Look) -> Iterator[None]:
    """From looks over a connection of its own, since the one that waits is busy. Nothing but on a terminal."""
    if desk.as_json or not cursor_moves(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[sentence]}"))
    over = threading.Event()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(description, total=None, sentence="")

        def look_again() -> None:
            pause_s = desk.ask_every_s(_LOOK_EVERY_S)
            while not over.wait(pause_s):  # a daemon that was busy, or away, is asked again
                with contextlib.suppress(NoDaemonError, RefusedError), desk.connect() as client:
                    while not over.is_set():
                        if now := look(client):
                            done, total, sentence = now
                            shown.update(task, completed=done, total=total, sentence=sentence)
                        over.wait(pause_s)

        looking = threading.Thread(target=look_again, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
