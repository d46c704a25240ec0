"""`image serve`: an image for gateways that fetch it as blocks over their broker (`url: "mqtt:"`)."""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import click

from gateway.cli.broker_options import NoBrokerError, is_pattern
from gateway.cli.client import Document
from gateway.cli.root import Desk, InterruptedWatchError, shared_options
from gateway.cli.text import cursor_moves, remark, safe, say_json
from gateway.clock import SystemClock
from gateway.errors import SizeError

if TYPE_CHECKING:
    from gateway.supply.offer import Standing
    from gateway.uplink.serving import BlockServer

_TRIES = 3
"""To reach the broker at first; once it was reached it is waited for as long as it takes."""
_LOOK_EVERY_S = 0.2
_LINE_EVERY_PERCENT = 10


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    """Octets in a second; 0 where no limit is given."""
    from gateway.config import values

    kind = values.size("1KiB", "1GiB")
    try:
        return float(kind.read(text)) if text else 0.0
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected {kind.expected}") from None


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--rate", metavar="SIZE", callback=_rate, help="The most in a second, for all together, such as 200KiB."
)
@shared_options
@click.pass_obj
def serve(desk: Desk, /, file: Path, rate: float) -> None:
    """Send FILE as blocks over a broker to gateways whose orders say `url` mqtt:.

    With --gateway ID, also repeated, it ends when all of them have it; with --gateway all it answers whoever asks. It
    answers what gateways ask for, and needs no daemon here. It may be ended and begun again at any time."""
    server = _server(desk, file, _gateways(desk), rate)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _open_view(desk) as view:
            _reach(server, desk.broker_settings().url)
            view.begin(file, server.sha256, server.size)
            _serve(server, view)
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer serving; gateways that lack something keep what they have and ask again"
        ) from None
    finally:
        server.close()


@contextlib.contextmanager
def served(desk: Desk, file: Path, gateways: Sequence[str]) -> Iterator[Document]:
    """FILE as an order names it, and served as blocks to these gateways for as long as this lasts, by a thread of its
    own. Raises NoBrokerError, SizeError."""
    server = _server(desk, file, gateways, 0.0)
    over = threading.Event()

    def serve_on() -> None:
        while not over.is_set():
            server.step()

    serving = threading.Thread(target=serve_on, daemon=True)
    try:
        _reach(server, desk.broker_settings().url)
        serving.start()
        yield {"sha256": server.sha256, "size": server.size, "url": "mqtt:"}
    except InterruptedWatchError as interrupted:
        raise InterruptedWatchError(
            f"{interrupted}\nThe file is no longer served: for gateways that do not have all of it yet,"
            f" meter-gateway image serve {file}{desk.where}"
        ) from None
    finally:
        over.set()
        if serving.ident is not None:
            serving.join()
        server.close()


def _server(desk: Desk, file: Path, gateways: Sequence[str], rate_bytes_per_s: float) -> BlockServer:
    """Opens nothing yet."""
    from gateway.uplink.paho_broker import PahoBroker
    from gateway.uplink.serving import BlockServer

    settings = desk.broker_settings()
    image = file.read_bytes()
    if not image:
        raise SizeError(f"{file} is empty")
    broker = PahoBroker(settings, f"mgw-serve-{secrets.token_hex(4)}", keeps_session=False)
    return BlockServer(
        broker,
        image,
        root=settings.root,
        gateways=gateways,
        clock=SystemClock(),
        rate_bytes_per_s=rate_bytes_per_s,
    )


def _gateways(desk: Desk) -> tuple[str, ...]:
    """By id; none: whoever asks."""
    if not desk.gateway:
        raise click.UsageError("Say whom it is for: --gateway ID, or --gateway all.")
    if desk.gateway == ("*",):
        return ()
    if patterns := list(filter(is_pattern, desk.gateway)):
        raise click.UsageError(f"--gateway {patterns[0]}: expected ids, or all")
    return desk.gateway


def _reach(server: BlockServer, url: str) -> None:
    """Wait until gateways are heard. Raises NoBrokerError."""
    while not server.online:
        server.step()
        if server.failed_tries >= _TRIES:
            raise NoBrokerError(f"the broker at {url} was not reached: {server.trouble}")


def _serve(server: BlockServer, view: _View) -> None:
    """Until everybody has it."""
    look_at_s = 0.0
    while not server.everybody_has_it:
        for news in server.step():
            view.tell(news)
        if time.monotonic() >= look_at_s:
            look_at_s = time.monotonic() + _LOOK_EVERY_S
            view.show(server.offer.standings)
    view.show(server.offer.standings)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# -- the three ways to show it --------------------------------------------------------------------------------


class _View(Protocol):
    def begin(self, file: Path, sha256: str, size: int) -> None: ...

    def tell(self, text: str) -> None: ...

    def show(self, standings: Mapping[str, Standing]) -> None: ...


@contextlib.contextmanager
def _open_view(desk: Desk) -> Iterator[_View]:
    if desk.as_json:
        yield _JsonLines()
    elif cursor_moves():
        with _bars() as view:
            yield view
    else:
        yield _Lines()


class _Changes:
    """Whose standing is worth a line: the first that is known of a gateway, every tenth, and the end."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, bool]] = {}

    def among(self, standings: Mapping[str, Standing]) -> Iterator[tuple[str, Standing]]:
        for gateway, standing in standings.items():
            state = (_percent(standing) // _LINE_EVERY_PERCENT, standing.done)
            if self._told.get(gateway) != state:
                self._told[gateway] = state
                yield gateway, standing


class _Lines:
    def __init__(self) -> None:
        self._changes = _Changes()

    def begin(self, file: Path, sha256: str, size: int) -> None:
        click.echo(_offer(file, sha256, size))

    def tell(self, text: str) -> None:
        remark(text)

    def show(self, standings: Mapping[str, Standing]) -> None:
        for gateway, standing in self._changes.among(standings):
            click.echo(f"{safe(gateway)}: {_sentence(standing)}")


class _JsonLines:
    def __init__(self) -> None:
        self._changes = _Changes()

    def begin(self, file: Path, sha256: str, size: int) -> None:
        say_json({"serving": str(file), "sha256": sha256, "size": size})

    def tell(self, text: str) -> None:
        say_json({"remark": text})

    def show(self, standings: Mapping[str, Standing]) -> None:
        for gateway, standing in self._changes.among(standings):
            say_json(
                {
                    "gateway": gateway,
                    "blocks_done": standing.blocks_done,
                    "blocks_total": standing.blocks_total,
                    "blocks_sent": standing.blocks_sent,
                    "done": standing.done,
                }
            )


@contextlib.contextmanager
def _bars() -> Iterator[_View]:
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[sentence]}"))
    with Progress(*columns) as progress:
        tasks: dict[str, TaskID] = {}

        class Bars:
            def begin(self, file: Path, sha256: str, size: int) -> None:
                progress.console.print(escape(_offer(file, sha256, size)), highlight=False)

            def tell(self, text: str) -> None:
                progress.console.print(escape(safe(text)), highlight=False)

            def show(self, standings: Mapping[str, Standing]) -> None:
                for gateway, standing in standings.items():
                    if gateway not in tasks:
                        tasks[gateway] = progress.add_task(escape(safe(gateway)), total=None, sentence="")
                    progress.update(
                        tasks[gateway],
                        completed=standing.blocks_done,
                        total=standing.blocks_total,
                        sentence=_sentence(standing),
                    )

        yield Bars()


def _offer(file: Path, sha256: str, size: int) -> str:
    """What an order needs to know of it."""
    return f"serving {safe(file)}: SHA-256 {sha256}, {size} bytes"


def _sentence(standing: Standing) -> str:
    if standing.done:
        return "has the image"
    return f"{_percent(standing)} %, {standing.blocks_done} of {standing.blocks_total} blocks"


def _percent(standing: Standing) -> int:
    return 100 * standing.blocks_done // standing.blocks_total if standing.blocks_total else 0
