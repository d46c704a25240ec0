"""The threads of the ports, and how they follow a new configuration.

A port whose settings and meters are the same keeps its thread, and with it the association and the transfer under way.
Any other is left at the end of its step, in order, and only when all of them are does what takes their place begin: a
device or a meter may have moved from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.daemon.actors import ActorThread
from gateway.model import Config, Meter, PortSettings

_Service = tuple[PortSettings, tuple[Meter, ...]]
"""What a port's thread was made for."""


@dataclass(frozen=True, slots=True)
class _Line:
    service: _Service
    thread: ActorThread


class Lines:
    """The lines of the running configuration. The main thread alone uses this."""

    def __init__(self, make: Callable[[PortSettings, tuple[Meter, ...]], ActorThread]) -> None:
        """`make` gives the thread of a port, not started."""
        self._make = make
        self._lines: dict[str, _Line] = {}
        self._leaving: list[ActorThread] = []

    @property
    def threads(self) -> list[ActorThread]:
        """Those that should show life, also on their way out."""
        return [line.thread for line in self._lines.values()] + self._leaving

    def leave(self, config: Config) -> tuple[str, ...]:
        """Begin to leave what `config` does not have just so; how the ports differ, in words."""
        wanted = _services(config)
        differences = [f"port {name} added" for name in wanted.keys() - self._lines.keys()]
        for name, line in list(self._lines.items()):
            if wanted.get(name) != line.service:
                differences.append(f"port {name} {'changed' if name in wanted else 'removed'}")
                line.thread.stop()
                self._leaving.append(self._lines.pop(name).thread)
        return tuple(sorted(differences))

    @property
    def left(self) -> bool:
        """Whether every thread that was to leave has ended."""
        self._leaving = [thread for thread in self._leaving if not thread.join(0)]
        return not self._leaving

    def begin(self, config: Config) -> None:
        """Start what `config` has and is not there."""
        for name, service in _services(config).items():
            if name not in self._lines:
                line = self._lines[name] = _Line(service, self._make(*service))
                line.thread.start()


def _services(config: Config) -> dict[str, _Service]:
    return {
        port.name: (port, tuple(meter for meter in config.meters if meter.port == port.name))
        for port in config.ports
    }
