"""The options of commands that talk to a broker themselves, in the words of `[mqtt]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.client import NoDaemonError
from gateway.model import MqttSettings

C = TypeVar("C", bound=Callable[..., Any])


class NoBrokerError(NoDaemonError):
    """The broker was not reached, or does not take us in."""


def _file_option(name: str, words: str) -> Callable[[C], C]:
    kind = click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True, path_type=Path)
    return click.option(name, type=kind, metavar="FILE", help=words)


def broker_options(command: C) -> C:
    """`--broker` and what goes with it; `broker_of` makes settings of them."""
    options = (
        click.option(
            "--broker", required=True, metavar="URL", help="mqtts://host:port, or mqtt://host:port."
        ),
        click.option(
            "--root", default=MqttSettings("").root, show_default=True, help="What topics begin with."
        ),
        click.option("--username", metavar="NAME", help="The user that the broker knows."),
        _file_option("--password-file", "The file of the user's password."),
        _file_option("--ca-file", "Whom we believe; default: whom this machine trusts."),
        _file_option("--cert-file", "Our certificate, where the broker wants one."),
        _file_option("--key-file", "The private key of our certificate."),
        click.option("--allow-plaintext", is_flag=True, help="Let mqtt:// lead to another machine."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def broker_of(*, broker: str, **options: Any) -> MqttSettings:
    """The settings that these options say. Raises ConfigError with every mistake."""
    from gateway.config import read_broker

    texts = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return read_broker(url=broker, **texts)
