"""The options that lead to gateways far away, in the words of `[mqtt]`: which broker, and which gateways there.

`--gateway` is what makes a command go there; the rest can stand in the environment, once and for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.client import NoDaemonError

if TYPE_CHECKING:
    from gateway.model import MqttSettings

C = TypeVar("C", bound=Callable[..., Any])

EVERYBODY = "all"
_GATEWAY = re.compile(r"[A-Za-z0-9*?\[][A-Za-z0-9._*?\[\]!-]{0,63}")
_ENVIRONMENT = "METER_GATEWAY"


class NoBrokerError(NoDaemonError):
    """The broker was not reached, or does not take us in."""


def broker_options(
    remember: Callable[[click.Context, click.Parameter, Any], None], *, everywhere: bool
) -> Callable[[C], C]:
    """`--broker`, `--gateway` and what goes with them. `everywhere`: of every command, where only these two show in its
    help and the environment does not count, for it was asked at the root."""

    def option(name: str, words: str, *, shown: bool = False, **how: Any) -> Callable[[C], C]:
        variable = f"{_ENVIRONMENT}_{name.removeprefix('--').replace('-', '_').upper()}"
        return click.option(
            name,
            expose_value=False,
            callback=remember,
            help=words,
            hidden=everywhere and not shown,
            envvar=None if everywhere or name in _NEVER_FROM_ENVIRONMENT else variable,
            show_envvar=True,
            **how,
        )

    file: dict[str, Any] = {
        "type": click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True, path_type=Path),
        "metavar": "FILE",
    }
    options = (
        option("--broker", "Of gateways far away: mqtts://host:port, or mqtt://host:port.", shown=True, metavar="URL"),
        option(
            "--gateway",
            "Which gateway there; may be repeated. A pattern such as 'gw-1*', or all: every one that matches.",
            shown=True,
            multiple=True,
            metavar="ID|PATTERN|all",
        ),
        option("--root", "What topics begin with; default: mgw/v1.", metavar="TOPIC"),
        option("--username", "The user that the broker knows.", metavar="NAME"),
        option("--password-file", "The file of the user's password.", **file),
        option("--ca-file", "Whom we believe; default: whom this machine trusts.", **file),
        option("--cert-file", "Our certificate, where the broker wants one.", **file),
        option("--key-file", "The private key of our certificate.", **file),
        option("--allow-plaintext", "Let mqtt:// lead to another machine.", is_flag=True),
        option(
            "--queue",
            "So long an order waits at the broker for a gateway that is offline, from 1min to 7d; default: it is not"
            " sent.",
            metavar="DURATION",
        ),
    )  # fmt: skip

    def decorate(command: C) -> C:
        for add in reversed(options):
            command = add(command)
        return command

    return decorate


_NEVER_FROM_ENVIRONMENT = frozenset({"--gateway", "--queue"})
"""Where an order goes, and for how long it holds, is said each time."""


def gateways_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Ids and patterns that `--gateway` said, each once; ("*",) for all of them. Raises click.UsageError."""
    if wrong := [name for name in names if not _GATEWAY.fullmatch(name)]:
        raise click.UsageError(f"--gateway {wrong[0]!r} is no gateway id, and no pattern of ids")
    if EVERYBODY in names and len(names) > 1:
        raise click.UsageError("--gateway: either all, or gateways by name")
    return ("*",) if EVERYBODY in names else tuple(dict.fromkeys(names))


def is_pattern(name: str) -> bool:
    """It may be several gateways, or none."""
    return any(letter in name for letter in "*?[")


def settings_of(options: dict[str, Any]) -> MqttSettings:
    """The settings that these options say. Raises click.UsageError, and ConfigError with every mistake."""
    from gateway.config import read_broker

    if "broker" not in options:
        raise click.UsageError(
            "--gateway is found at a broker: name it by --broker URL, or METER_GATEWAY_BROKER"
        )
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return read_broker(url=texts.pop("broker"), **texts)
