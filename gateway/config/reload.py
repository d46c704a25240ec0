"""What of a new configuration counts while the gateway runs, and what waits for its next start.

Identity, paths, the broker and keys are what threads, sockets and files were opened with, and credentials are handed
over at the start alone (systemd.exec(5)): they keep their old value. All else is the new one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.config.meters import needed_keys
from gateway.errors import ConfigError
from gateway.model import Config, MeterKeys

_AT_START = ("id", "system_title", "state_dir", "control_socket")
"""Of [gateway]."""


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """`config` is what to go on with; `applied` names the sections that differ from before, but ports and meters;
    `needs_restart` names what was changed and keeps its old value."""

    config: Config
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


def plan_reload(running: Config, loaded: Config) -> ReloadPlan:
    """How to get from the one to the other. Raises ConfigError for a meter whose keys came after the start."""
    _refuse_missing_keys(running, loaded)
    kept = {name: getattr(running.gateway, name) for name in _AT_START}
    gateway = replace(loaded.gateway, **kept)
    needs_restart = [f"gateway.{name}" for name in _AT_START if getattr(loaded.gateway, name) != kept[name]]
    if loaded.mqtt != running.mqtt:
        needs_restart.append("mqtt")
    keyed = {meter.id for meter in loaded.meters}.union(loaded.keys)
    if any(loaded.keys.get(name) != running.keys.get(name) for name in keyed):
        needs_restart.append("keys.toml")
    config = replace(loaded, gateway=gateway, mqtt=running.mqtt, keys=running.keys)
    sections = ("gateway", "commands", "firmware", "windows", "page")
    applied = [name for name in sections if getattr(config, name) != getattr(running, name)]
    return ReloadPlan(config, tuple(applied), tuple(needs_restart))


def _refuse_missing_keys(running: Config, loaded: Config) -> None:
    mistakes = []
    for meter in loaded.meters:
        keys = running.keys.get(meter.id, MeterKeys())
        missing = [name for name in needed_keys(meter) if not getattr(keys, name)]
        if missing:
            mistakes.append(
                f"meters: {meter.id} needs {', '.join(missing)}, not there when the gateway was started: restart it"
            )
    if mistakes:
        raise ConfigError(tuple(mistakes))
