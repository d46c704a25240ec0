"""Who else hears what goes to a group by broadcast: meters of the line that are not of it.

One that was initiated, by whomever, would store the group's blocks. So before a group sends, the status of every other
meter that is known on the port is read, and while a group is at work no other image is begun on this port. A meter that
holds the same image in the same blocks may hear them: that does no harm, but it is on record (invariant 3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.clock import Clock
from gateway.errors import MeterError, PortError
from gateway.model import Meter
from gateway.transfer import Item
from gateway.transfer import broadcast as rules
from gateway.wire import image_transfer
from gateway.worker import objects
from gateway.worker.contact import Contact
from gateway.worker.group import Group, RunKey, same_blocks
from gateway.worker.sessions import Sessions
from gateway.worker.transfer_run import TransferRun


class Bystanders:
    """Of one port; `runs` are the worker's."""

    def __init__(
        self,
        *,
        clock: Clock,
        contact: Contact,
        sessions: Sessions,
        runs: Mapping[RunKey, TransferRun],
    ) -> None:
        self._clock = clock
        self._contact = contact
        self._sessions = sessions
        self._runs = runs

    def companions(self, group: Group, of_groups: Collection[RunKey]) -> list[TransferRun]:
        """The members, and runs that this process initiated, or found initiated, for the same image in the same blocks:
        their meters may hear the group, and do no wrong with it. `of_groups`: runs that were in a group or could be."""
        return [
            run
            for key, run in self._runs.items()
            if (key in of_groups or run.view.sent is not None)
            and run.view.record is not None
            and same_blocks(group, run, run.view.record.block_size)
        ]

    def danger_of(self, meter: Meter) -> str:
        """Read its status: why blocks for others may do harm in this meter; empty: they will be discarded. Raises
        PortError."""
        attribute = objects.attribute_of(Item.STATUS, meter.profile, "")
        session = None
        try:
            self._contact.check(meter)
            session = self._sessions.of(meter.id) or self._sessions.associate(meter)
            status = image_transfer.status(session.get(attribute))
        except MeterError as error:
            judged = self._contact.judge(meter, session, error)
            self._sessions.lose(meter.id, judged)
            for run in self._runs.values():
                if run.meter.id == meter.id:
                    run.view.doubt()
            if isinstance(judged, PortError):
                raise judged from None
            return f"cannot be read: {judged.message}"
        self._sessions.used(meter.id, self._clock.monotonic())
        if all(run.meter.id != meter.id for run in self._runs.values()):
            self._sessions.leave(meter.id)
        return "is initiated and would store its blocks" if rules.unsafe(status) else ""
