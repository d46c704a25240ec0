"""TOML -> the model, every mistake at once.

`load` reads `/etc/meter-gateway/gateway.toml` (or another file), then `conf.d/*.toml` beside it, and `keys.toml`.
What is wrong is reported together: one line for each mistake with file, key path, what was found, what is
expected. What the published contract names and this version cannot do is refused by name, never ignored.

The files of this room: `files` (which, merged how), `values` (kinds of values), `table` (reading and noting
mistakes), `sections` (what each section means, with `meters`, `mqtt`, `trust`, `profiles` and `windows`), `declared`
(every key there is, for the manual), `reload` (what of a new one counts while the gateway runs).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.config.files import DEFAULT_FILE, DEFAULT_SOCKET, read_keys, read_settings
from gateway.config.table import Mistakes, Table
from gateway.config.values import SOCKET_PATH, read_duration_s, usual_class
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config.meters import with_stored
    from gateway.config.mqtt import read_broker
    from gateway.config.reload import ReloadPlan, plan_reload
    from gateway.config.sections import VERBS
    from gateway.config.windows import KNOWN_YEARS, read_window
    from gateway.model import Config

__all__ = [
    "DEFAULT_FILE", "KNOWN_YEARS", "VERBS", "ReloadPlan", "control_socket", "load", "plan_reload", "read_broker",
    "read_duration_s", "read_window", "usual_class", "with_stored",
]  # fmt: skip

_NEEDS_THE_MODEL = {
    "read_broker": "mqtt", "ReloadPlan": "reload", "plan_reload": "reload", "VERBS": "sections",
    "KNOWN_YEARS": "windows", "read_window": "windows", "with_stored": "meters",
}  # fmt: skip
"""Imported when they are asked for. The command line asks for `control_socket` alone, and the model would take most of
the time in which `status` has answered."""


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_THE_MODEL:
        raise AttributeError(name)
    return getattr(import_module(f"gateway.config.{_NEEDS_THE_MODEL[name]}"), name)


def load(path: Path | None = None) -> Config:
    """The checked configuration of `path`, default `/etc/meter-gateway/gateway.toml`.

    Raises ConfigError with every mistake.
    """
    from gateway.config.sections import build

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
    mistakes = Mistakes()
    tree = read_settings(path or DEFAULT_FILE, mistakes)
    if path is None and mistakes.lines:
        return DEFAULT_SOCKET
    socket = Table(tree, "", mistakes).table("gateway").read("control_socket", SOCKET_PATH, DEFAULT_SOCKET)
    if mistakes.lines:
        raise ConfigError(tuple(mistakes.lines))
    return socket
