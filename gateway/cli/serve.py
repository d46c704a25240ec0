"""`image serve`: an image for gateways that fetch it as blocks over their broker (`url: "mqtt:"`)."""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import click

from gateway.cli.broker_options import NoBrokerError, broker_of, broker_options
from gateway.cli.root import Desk, InterruptedWatchError, shared_options
from gateway.cli.text import safe, say_json
from gateway.clock import SystemClock
from gateway.errors import SizeError

if TYPE_CHECKING:
    from gateway.supply.offer import Standing
    from gateway.uplink.serving import BlockServer

_EVERYBODY = "all"
_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TRIES = 3
"""To reach the broker at first; once it was reached it is waited for as long as it takes."""
_LOOK_EVERY_S = 0.2
_LINE_EVERY_PERCENT = 10


def _gateways(_context: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [name for name in names if not _GATEWAY.fullmatch(name)]:
        raise click.BadParameter(f"{wrong[0]!r} is no gateway id")
    if _EVERYBODY in names and len(names) > 1:
        raise click.BadParameter("either all, or gateways by name")
    return () if _EVERYBODY in names else tuple(dict.fromkeys(names))


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
@broker_options
@click.option(
    "--gateway",
    "gateways",
    required=True,
    multiple=True,
    callback=_gateways,
    metavar="ID|all",
    help="Whom it is for; may be repeated. With ids it ends when all of them have it.",
)
@click.option(
    "--rate", metavar="SIZE", callback=_rate, help="The most in a second, for all together, such as 200KiB."
)
@shared_options
@click.pass_obj
def serve(desk: Desk, /, file: Path, gateways: tuple[str, ...], rate: float, **broker: Any) -> None:
    """Send FILE as blocks over a broker to gateways whose orders say `url` mqtt:.

    It answers what gateways ask for, and needs no daemon here. It may be ended and begun again at any time."""
    from gateway.uplink.paho_broker import PahoBroker
    from gateway.uplink.serving import BlockServer

    settings = broker_of(**broker)
    image = file.read_bytes()
    if not image:
        raise SizeError(f"{file} is empty")
    connection = PahoBroker(settings, f"mgw-serve-{secrets.token_hex(4)}", keeps_session=False)
    server = BlockServer(
        connection, image, root=settings.root, gateways=gateways, clock=SystemClock(), rate_bytes_per_s=rate
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _open_view(desk) as view:
            _reach(server, settings.url)
            view.begin(file, server.sha256, len(image))
            _serve(server, view)
    except KeyboardInterrupt:
        raise InterruptedWatchError(
            "no longer serving; gateways that lack something keep what they have and ask again"
        ) from None
    finally:
        server.close()


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
    elif sys.stdout.isatty():
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
        _remark(text)

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


def _remark(text: str) -> None:
    click.echo(f"meter-gateway: {safe(text)}", err=True)


def _sentence(standing: Standing) -> str:
    if standing.done:
        return "has the image"
    return f"{_percent(standing)} %, {standing.blocks_done} of {standing.blocks_total} blocks"


def _percent(standing: Standing) -> int:
    return 100 * standing.blocks_done // standing.blocks_total if standing.blocks_total else 0
