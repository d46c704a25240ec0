"""The Store: everything that must survive a power cut."""

from __future__ import annotations

from pathlib import Path

from gateway.board import Board
from gateway.clock import Clock
from gateway.store.binding import Binding

OUTBOX_LIMIT_BYTES = 64 * 2**20
"""`outbox_limit` of the configuration, where it says nothing."""


class Store(Binding):
    """The state of one gateway, shared by all threads. One public method is one transaction: it happened
    wholly or not at all, and is durable when the method returns.

    Methods raise StoreError where the disk cannot be used. Layers, each in a file of its own: Database (opening,
    the one `_commit`), Counters, Telling (events and outbox), Commands (replies and errands), Jobs, Campaigns, Parking
    (meters that are left alone, counters that jump), Tunings (what meters take), Alarms,
    Holds (lines that are lent), Conducting (what waits for its time or for an operator),
    <<<<<<< HEAD
    Meters (that come and go by command), Binding (which machine it belongs to).
    =======
    Pruning (what ended long ago), Binding (which machine it belongs to).
    >>>>>>> 56693eb (wip3 retention)
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        gateway_id: str,
        root: str,
        clock: Clock,
        board: Board | None = None,
        outbox_limit_bytes: int = OUTBOX_LIMIT_BYTES,
    ) -> None:
        """Opens or makes the files in `state_dir`. `gateway_id` "" means that there is no broker: nothing goes to
        the outbox. `board`: whose bells ring after a commit. Raises StoreError."""
        try:
            super().__init__(
                state_dir,
                gateway_id=gateway_id,
                root=root,
                clock=clock,
                board=board,
                outbox_limit_bytes=outbox_limit_bytes,
            )
        except BaseException:
            self.close()
            raise
