"""TOML -> the model, every mistake at once.

`load` reads `/etc/meter-gateway/gateway.toml` (or another file), then `conf.d/*.toml` beside it, and `keys.toml`.
What is wrong is reported together: one line for each mistake with file, key path, what was found, what is
expected. What the published contract names and this version cannot do is refused by name, never ignored.

The files of this room: `files` (which, merged how), `values` (kinds of values), `table` (reading and noting
mistakes), `sections` (what each section means, with `mqtt`, `trust`, `profiles` and `windows`), `declared` (every key
there is, for the manual), `reload` (what of a new one counts while the gateway runs).
"""

from __future__ import annotations

from pathlib import Path

from gateway.config.files import DEFAULT_FILE, read_keys, read_settings
from gateway.config.mqtt import read_broker
from gateway.config.reload import ReloadPlan, plan_reload
from gateway.config.sections import VERBS, build
from gateway.config.table import Mistakes, Table
from gateway.config.values import SOCKET_PATH, read_duration_s, usual_class
from gateway.config.windows import KNOWN_YEARS, read_window
from gateway.errors import ConfigError
from gateway.model import Config, GatewaySettings

__all__ = [
    "DEFAULT_FILE", "KNOWN_YEARS", "VERBS", "ReloadPlan", "control_socket", "load", "plan_reload", "read_broker",
    "read_duration_s", "read_window", "usual_class",
]  # fmt: skip


def load(path: Path | None = None) -> Config:
    """The checked configuration of `path`, default `/etc/meter-gateway/gateway.toml`.

    Raises ConfigError with every mistake.
    """
    file = path or DEFAULT_FILE
    mistakes = Mistakes()
    settings = Table(read_settings(file, mistakes), "", mistakes)
    keys = Table(read_keys(file, mistakes), "", mistakes, secret=True)
    config = build(settings, keys, mistakes)
    if mistakes.lines:
        raise ConfigError(tuple(mistakes.lines))
    return config


def control_socket(path: Path | None = None) -> Path:
    """Where the daemon of that configuration listens: all that the command line needs to know. Neither keys nor
    the rest are looked at, for an operator may be allowed to read neither.

    Raises ConfigError where `path` was named and cannot be read, or names an impossible socket.
    """
    default = GatewaySettings().control_socket
    mistakes = Mistakes()
    tree = read_settings(path or DEFAULT_FILE, mistakes)
    if path is None and mistakes.lines:
        return default
    socket = Table(tree, "", mistakes).table("gateway").read("control_socket", SOCKET_PATH, default)
    if mistakes.lines:
        raise ConfigError(tuple(mistakes.lines))
    return socket
