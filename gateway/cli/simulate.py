"""`meter-gateway simulate`: virtual meters on virtual lines, for who has no hardware, or wants it to misbehave."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.root import Desk, local_options
from gateway.cli.text import safe, say_json, table

if TYPE_CHECKING:
    from gateway.cli.virtual import Site

T = TypeVar("T")


def _list_of(
    kind: Callable[[str], T], expected: str
) -> Callable[[click.Context, click.Parameter, str], list[T]]:
    """An option whose value is a list; each meter takes the next of it, and they begin again."""

    def read(_ctx: click.Context, _param: click.Parameter, text: str) -> list[T]:
        try:
            return [kind(part.strip()) for part in text.split(",")]
        except ValueError:
            raise click.BadParameter(f"{text!r}: expected {expected}, or several with commas") from None

    return read


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.0 <= seconds <= 86400.0:
        raise ValueError(text)
    return seconds


def _version(text: str) -> str:
    if not text.isascii() or not text.isprintable() or not 0 < len(text) <= 32:
        raise ValueError(text)
    return text


def _security(text: str) -> str:
    if text not in ("gmac", "lls", "none"):
        raise ValueError(text)
    return text


class _Help(click.Command):
    """Its help ends with the faults, which are looked up only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from gateway.cli.simulated_faults import in_words

        super().format_epilog(ctx, formatter)
        usual, self.epilog = self.epilog, in_words()
        super().format_epilog(ctx, formatter)
        self.epilog = usual


# fmt: off
_OPTIONS = (
    click.option("--port", "links", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
        help="A line with HDLC; a link to its pty is made there. [default: DIRECTORY/line]"),
    click.option("--tcp", "tcp_ports", multiple=True, type=click.IntRange(0, 65535),
        help="Meters behind the TCP wrapper at this port of 127.0.0.1; 0: any free one."),
    click.option("--optical", "heads", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
        help="As --port, one meter behind an optical head; it signs on by mode E."),
    click.option("--meters", "count", type=click.IntRange(1, 60), default=1, show_default=True,
        help="How many at each --port and --tcp."),
    click.option("--baud", type=int, default=9600, show_default=True, help="0: as fast as it goes."),
    click.option("--verify", "verify_s", default="3", show_default=True, callback=_list_of(_seconds, "seconds"),
        help="Seconds of verification. Here and below a list (3,60) gives each meter its own, in turn."),
    click.option("--reboot", "reboot_s", default="20", show_default=True, callback=_list_of(_seconds, "seconds"),
        help="Seconds without a word after activation."),
    click.option("--runs", default="1.0.0", show_default=True, callback=_list_of(_version, "a version"),
        help="The version that it reports."),
    click.option("--becomes", default="2.0.0", show_default=True, callback=_list_of(_version, "a version"),
        help="The version that it reports after an image."),
    click.option("--security", default="gmac", show_default=True, callback=_list_of(_security, "gmac, lls or none"),
        help="gmac: HLS and everything encrypted; lls: a password; none."),
    click.option("--broadcast", is_flag=True,
        help="Those of a --port take blocks that go to all of them at once, and have keys in common for it."),
    click.option("--same-address", is_flag=True,
        help="All meters of a --port have one address; the gateway is told of the first."),
    click.option("--fault", "faults", multiple=True, metavar="[METER:]NAME=VALUE",
        help="What goes wrong, with all meters or the one of that number; listed below."),
    click.option("--seed", type=int, default=0, show_default=True, help="With another one chance strikes elsewhere."),
    click.option("--directory", type=click.Path(file_okay=False, path_type=Path), default=Path("simulated"),
        show_default=True, help="Where the configuration of a gateway for them is written, with its state and socket."),
)
# fmt: on


def _options(command: T) -> T:
    for option in reversed(_OPTIONS):
        command = option(command)  # type: ignore[type-var]
    return command


@click.command(cls=_Help)
@_options
@local_options
@click.pass_obj
def simulate(
    desk: Desk,
    /,
    *,
    links: Sequence[Path],
    tcp_ports: Sequence[int],
    heads: Sequence[Path],
    count: int,
    baud: int,
    broadcast: bool,
    same_address: bool,
    faults: Sequence[str],
    seed: int,
    directory: Path,
    **of_meters: Any,
) -> None:
    """Serve virtual meters until Ctrl-C or SIGTERM; no daemon is needed.

    They speak DLMS and take any image. In DIRECTORY stand gateway.toml and keys.toml of a gateway for them:
    meter-gateway run --config DIRECTORY/gateway.toml. Another gateway takes simulated.toml into its conf.d. --port,
    --tcp, --optical and --fault may be given several times.
    """
    from gateway.cli import simulated_lines as lines

    home = directory.absolute()
    try:
        places = lines.places(
            links or ([] if tcp_ports or heads else [home / "line"]), tcp_ports, heads, baud=baud
        )
        many = [1 if place.head else count for place in places]
        on_line, of_each = lines.read_faults(faults, sum(many))
        specs = lines.specs(places, many, broadcast=broadcast, same_address=same_address, **of_meters)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        with _writing_in(home):
            home.mkdir(parents=True, exist_ok=True)
        sites: list[Site] = []
        for place, here in zip(places, specs, strict=True):
            mine, of_each = of_each[: len(here)], of_each[len(here) :]
            try:
                line = stack.enter_context(lines.line(place, here, mine, on_line, seed))
            except OSError as error:
                raise click.ClickException(f"cannot serve {safe(place.text)}: {error.strerror}") from None
            sites.append(lines.site(place, line.address, here[:1] if same_address else here, len(sites)))
        with _writing_in(home):
            config = lines.write(home, sites)
        _tell(desk, home, sites, config)
        while True:
            signal.pause()


@contextlib.contextmanager
def _writing_in(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"cannot write in {safe(home)}: {error.strerror}") from None


def _tell(desk: Desk, home: Path, sites: Sequence[Site], config: Path) -> None:
    from gateway.cli import virtual

    found = [(site.port, spec) for site in sites for spec in site.specs]
    if desk.as_json:
        meters = [
            {"id": virtual.meter_id(i), "port": port["name"], "logical_device_name": spec.logical_device_name}
            for i, (port, spec) in enumerate(found)
        ]
        say_json({"ports": [dict(site.port) for site in sites], "meters": meters, "config": str(config)})
        return
    rows = [
        (
            virtual.meter_id(i), port["name"], spec.address, spec.logical_device_name, spec.version,
            spec.authentication, f"{spec.verify_s:g} s", f"{spec.reboot_s:g} s",
        )
        for i, (port, spec) in enumerate(found)
    ]  # fmt: skip
    head = ("METER", "PORT", "ADDRESS", "NAME", "RUNS", "SECURITY", "VERIFIES", "REBOOTS")
    click.echo(table(rows, head=head))
    click.echo()
    for site in sites:
        click.echo(virtual.settings("[[ports]]", site.port))
    click.echo(f"a gateway for them: meter-gateway run --config {safe(config)}")
    click.echo(f"or another gateway, with {safe(home / 'simulated.toml')} in its conf.d")
    click.echo(f"and in its keys.toml what stands in {safe(home / 'keys.toml')}")
    click.echo("Ctrl-C ends the simulation.")
