"""The command `meter-gateway` itself: its options, its subcommands, its exit status."""

from __future__ import annotations

import importlib
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from gateway.cli.broker_options import broker_options, gateways_of, is_pattern, settings_of
from gateway.cli.client import Client, GatewayClient, NoDaemonError, OrderQueuedError, RefusedError
from gateway.cli.groups import Group
from gateway.cli.text import colour_fits, safe, say_json
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from gateway.model import MqttSettings
    from gateway.signing import PrivateKey

C = TypeVar("C", bound=Callable[..., Any])


ASK_EVERY_S = 10.0
"""A gateway far away, by somebody who waits: there may be a radio link on the way."""


class Exit(IntEnum):
    """The exit status of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    INTERRUPTED = 130


class InterruptedWatchError(Exception):
    """Ctrl-C while the daemon works on; the message says that it does, and how to look again."""


@dataclass(slots=True)
class Desk:
    """What the options say that every command takes."""

    config: Path | None = None
    as_json: bool = False
    sign_with: tuple[Path, ...] = ()

    gateway: tuple[str, ...] = ()
    """Which gateways far away, as ids and patterns; none: that of this machine."""
    broker: dict[str, Any] = field(default_factory=dict)
    """Options that say how they are reached, by name."""
    broker_named: bool = False
    """One of them was typed, and did not come from the environment."""

    @property
    def is_fleet(self) -> bool:
        """Several gateways are meant, or what may be several."""
        return len(self.gateway) > 1 or any(map(is_pattern, self.gateway))

    def connect(self) -> GatewayClient:
        """A connection to the daemon of this configuration, or to the one gateway that was named far away; for signed
        commands where keys were named. Raises NoDaemonError, ConfigError, click.UsageError."""
        keys = self.keys()
        client = self._client()
        if keys:
            client.sign_with(keys)
        return client

    def ask_every_s(self, here_s: float) -> float:
        """How often somebody who waits may ask: `here_s` is enough where the gateway is this machine."""
        return ASK_EVERY_S if self.gateway else here_s

    def one_gateway(self) -> str:
        """The one far away that was named. Raises click.UsageError."""
        if self.is_fleet:
            raise click.UsageError("This command is for one gateway at a time: --gateway ID.")
        return self.gateway[0]

    def keys(self) -> list[PrivateKey]:
        """Those that orders are signed with."""
        if not self.sign_with:
            return []
        from gateway.cli.signing import read_key

        return [read_key(path) for path in self.sign_with]

    def broker_settings(self) -> MqttSettings:
        """Of the broker that was named. Raises ConfigError, click.UsageError."""
        return settings_of({name: value for name, value in self.broker.items() if name != "queue"})

    @property
    def where(self) -> str:
        """To be added to a command that is suggested, so that it can be typed as it stands."""
        here = [] if self.gateway or self.config is None else [f" --config {shlex.quote(str(self.config))}"]
        return "".join(
            [*here, *(f" --gateway {'all' if each == '*' else shlex.quote(each)}" for each in self.gateway)]
        )

    @property
    def queue_s(self) -> float:
        """So long orders may wait at the broker."""
        return float(self.broker.get("queue", 0.0))

    def _client(self) -> GatewayClient:
        if not self.gateway:
            if self.broker_named:
                raise click.UsageError("Name the gateway at that broker: --gateway ID.")
            from gateway.config import control_socket

            return Client(control_socket(self.config))
        from gateway.cli.broker_client import BrokerClient

        return BrokerClient(self.broker_settings(), self.one_gateway(), queue_s=self.queue_s)


_COMMANDS = {
    "run": "gateway.cli.service:run",
    "check": "gateway.cli.service:check",
    "status": "gateway.cli.status:status",
    "meters": "gateway.cli.meters:meters",
    "read": "gateway.cli.meters:read",
    "probe": "gateway.cli.service:probe",
    "counter": "gateway.cli.service:counter",
    "ports": "gateway.cli.ports:ports",
    "port": "gateway.cli.ports:port",
    "scan": "gateway.cli.scan:scan",
    "trace": "gateway.cli.trace:trace",
    "image": "gateway.cli.images:image",
    "campaign": "gateway.cli.campaigns:campaign",
    "update": "gateway.cli.campaigns:update",
    "window": "gateway.cli.windows:window",
    "events": "gateway.cli.events:events",
    "state": "gateway.cli.state:state",
    "support-bundle": "gateway.cli.support:support_bundle",
    "simulate": "gateway.cli.simulate:simulate",
    "demo": "gateway.cli.demo:demo",
}


_HERE = frozenset({"run", "check", "state", "support-bundle", "simulate", "demo"})
"""Commands that ask no gateway."""


class _LazyGroup(Group):
    """Imports a subcommand's module when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader (`| head`) has seen enough, which click takes for a failure; and Python would complain again
            # when it flushes at its end.
            sys.stdout = None
            return Exit.DONE

    def find(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    desk = ctx.ensure_object(Desk)
    if value:
        setattr(desk, param.name or "", value)


def _remember_broker(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    desk = ctx.ensure_object(Desk)
    name = param.name or ""
    if not value:
        return
    if name == "gateway":
        desk.gateway = gateways_of(value)
    elif name == "queue":
        desk.broker[name] = _seconds(value)
    else:
        desk.broker[name] = value
    desk.broker_named |= ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _seconds(text: str) -> float:
    from gateway.config import values

    kind = values.duration("1min", "7d")
    try:
        return kind.read(text)
    except ValueError:
        raise click.BadParameter(f"--queue {text!r}: expected {kind.expected}") from None


def shared_options(command: C) -> C:
    """`--config`, `--json`, `--sign-with`, and those of gateways far away, before or after the subcommand's name. The
    function below gets the Desk."""
    return local_options(broker_options(_remember_broker, everywhere=True)(command))


def local_options(command: C) -> C:
    """Of commands that need no gateway."""
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, expose_value=False, callback=_remember, help="Report as JSON."
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            expose_value=False,
            callback=_remember,
            help="Another file than /etc/meter-gateway/gateway.toml.",
        ),
        click.option(
            "--sign-with",
            type=click.Path(exists=True, path_type=Path, dir_okay=False),
            multiple=True,
            expose_value=False,
            callback=_remember,
            metavar="KEY",
            help="Sign what is ordered with this private key; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def duration_option(shortest: str, longest: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """Of an option whose value goes to the daemon as it was typed: a duration within these bounds, or wrong usage."""

    def checked(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
        from gateway.config import values

        kind = values.duration(shortest, longest)
        try:
            kind.read(text)
        except ValueError:
            raise click.BadParameter(f"{text!r}: expected {kind.expected}") from None
        return text

    return checked


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"meter-gateway {version('meter-gateway')}")
        ctx.exit()


@click.group("meter-gateway", cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@local_options
@broker_options(_remember_broker, everywhere=False)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it and exit."
)
@click.pass_context
def root(context: click.Context) -> None:
    """Put firmware into electricity meters with DLMS/COSEM Image Transfer.

    Exit status: 0 done, 1 failed, 2 usage or configuration, 3 no daemon or broker reached, 130 interrupted.
    """
    if context.invoked_subcommand in _HERE and context.ensure_object(Desk).gateway:
        raise click.UsageError(f"{context.invoked_subcommand} works on this machine, without --gateway.")


def run(argv: Sequence[str] | None) -> int:
    """Run one command line; every way it can end has its exit status here."""
    desk = Desk()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names in letters that the locale does not have are escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = root.main(
            args=argv,
            prog_name="meter-gateway",
            standalone_mode=False,
            obj=desk,
            color=None if colour_fits() else False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except GatewayError as error:
        return _failed(error, as_json=desk.as_json)
    except OrderQueuedError as queued:
        return _queued(desk, queued)
    except InterruptedWatchError as error:
        return _complain(*str(error).splitlines(), exit_status=Exit.INTERRUPTED)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", exit_status=Exit.INTERRUPTED)
    return result if isinstance(result, int) else Exit.DONE


def _failed(error: GatewayError, *, as_json: bool) -> int:
    """With --json a failure is a document as well: a daemon's reply, or `code` (null where none was reached) and
    `message`."""
    document: dict[str, Any]
    match error:
        case ConfigError():
            document = {"mistakes": error.mistakes}
            lines, status = ("the configuration has mistakes:", *error.mistakes), Exit.USAGE
        case NoDaemonError():
            document = {"code": None, "message": error.message}
            lines, status = (error.message,), Exit.NO_DAEMON
        case RefusedError():
            document = dict(error.reply)
            said = (f"{error.reason}: {error.message}", error.detail, error.advice)
            lines, status = tuple(filter(None, said)), Exit.FAILED
        case _:
            document = {"code": error.code, "message": error.message, "advice": error.advice}
            lines, status = (f"{error.code}: {error.message}", error.advice), Exit.FAILED
    if as_json:
        say_json(document)
    return _complain(*lines, exit_status=status)


def _queued(desk: Desk, queued: OrderQueuedError) -> int:
    if desk.as_json:
        say_json(queued.document)
    return _complain(str(queued), exit_status=Exit.DONE)


def _complain(*lines: str, exit_status: Exit) -> int:
    first, *others = lines
    click.echo(f"meter-gateway: {safe(first)}", err=True)
    for line in others:
        click.echo(f"  {safe(line)}", err=True)
    return exit_status
