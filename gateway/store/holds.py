"""Lines that are lent to another tool for a time; durable, so that a restart does not take one out of its hands."""

from __future__ import annotations

from gateway.board import port_actor
from gateway.model import Command, Hold, Reply, ReplyStatus
from gateway.store.alarms import Alarms
from gateway.store.documents import GATEWAY, time_text
from gateway.store.rows import HOLD, insert


class Holds(Alarms):
    """At most one for each port."""

    def hold(self, port: str) -> Hold | None:
        """To whom the line is lent, and until when; also one whose time is over, until somebody ends it."""
        row = self._row("SELECT * FROM holds WHERE port = ?", port)
        return HOLD.read(row) if row else None

    def begin_hold(self, hold: Hold) -> None:
        """Lend the line, or lend it for another time."""
        with self._transaction() as database:
            insert(database, "holds", HOLD.values(hold), verb="REPLACE")
            message = f"lent until {time_text(hold.until)}"
            self._event(database, "hold", who=hold.who, port=hold.port, message=message)

    def end_hold(self, port: str, why: str) -> None:
        """The line is ours again."""
        self._end_hold(port, why, GATEWAY, None)

    def release_port(self, command: Command, port: str) -> Reply:
        """Whoever lent the line is done with it; its worker hears of it. Done as well where it is not lent."""
        hold = self.hold(port)
        reply = Reply(
            command.cmd_id,
            ReplyStatus.DONE,
            data={"port": port, "until": time_text(hold.until) if hold else None},
        )
        self._end_hold(port, "given back", command.who, (command, reply))
        return reply

    def _end_hold(self, port: str, why: str, who: str, answer: tuple[Command, Reply] | None) -> None:
        with self._transaction() as database:
            if database.execute("DELETE FROM holds WHERE port = ?", (port,)).rowcount:
                self._event(database, "hold", who=who, port=port, message=why)
                self._to_ring.add(port_actor(port))
            if answer is not None:
                self._accept(database, *answer)
