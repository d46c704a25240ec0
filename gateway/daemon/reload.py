"""What became of a reload: for whoever waits for its reply, for the log and for STATUS."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.errors import ConfigError
from gateway.model import Errand, Reply, ReplyStatus
from gateway.store.commands import failed
from gateway.store.commands import meter_changed as meter_changed_reply
from gateway.words import printable


@dataclass(frozen=True, slots=True)
class Reload:
    """One that is under way, and what is said when it has come to its end."""

    errand: Errand | None
    """Of whoever waits for the reply."""
    reply: Reply
    lines: tuple[str, ...]
    """For the log."""
    note: str = ""
    """For STATUS; empty where all of the configuration is in force."""


def applied(changes: tuple[str, ...], needs_restart: tuple[str, ...], errand: Errand | None) -> Reload:
    """`changes` are in force, `needs_restart` keep their old value."""
    data = {"applied": list(changes), "needs_restart": list(needs_restart)}
    sentence = f"configuration applied: {', '.join(changes) or 'nothing differs'}"
    note = f"restart needed for {', '.join(needs_restart)}" if needs_restart else ""
    lines = ("; ".join(filter(None, (sentence, note))),)
    return Reload(errand, Reply(None, ReplyStatus.DONE, data=data), lines, note)


def meter_changed(ports: tuple[str, ...], errand: Errand, note: str) -> Reload:
    """A meter was put or deleted; `note` stays what STATUS says of the configuration."""
    line = f"{errand.verb} {errand.meter_id}: {', '.join(ports) or 'no line differs'}"
    return Reload(errand, meter_changed_reply(errand.meter_id), (line,), note)


def refused(error: ConfigError, errand: Errand | None) -> Reload:
    """Nothing is changed."""
    last = "the configuration has mistakes; the gateway goes on with the one it runs with"
    lines = (*(f"configuration: {mistake}" for mistake in error.mistakes), last)
    reply = failed(None, error)
    reply = replace(reply, data={**reply.data, "mistakes": list(error.mistakes)})
    return Reload(errand, reply, lines, f"the new configuration has mistakes: {first_mistake(error)}")


def first_mistake(error: ConfigError) -> str:
    """One line that says how many more there are."""
    first, *others = error.mistakes
    return printable(first) + (f" (and {len(others)} more mistakes)" if others else "")
