"""What was learned of how meters take frames: a hint that saves failures, and nothing that anybody relies on."""

from __future__ import annotations

from gateway.model import Tuning
from gateway.store.parking import Parking
from gateway.store.rows import TUNING, insert


class Tunings(Parking):
    """One row for each meter that takes less, or more time, than its profile and its line say."""

    def tuning(self, meter_id: str) -> Tuning | None:
        row = self._row("SELECT * FROM tunings WHERE meter_id = ?", meter_id)
        return TUNING.read(row) if row else None

    def tunings(self) -> dict[str, Tuning]:
        """Every one by the id of its meter."""
        return {row["meter_id"]: TUNING.read(row) for row in self._rows("SELECT * FROM tunings")}

    def save_tuning(self, tuning: Tuning, *, port: str) -> None:
        """In place of what was known of this meter. `port`: for the event."""
        with self._transaction() as database:
            insert(database, "tunings", TUNING.values(tuning), verb="REPLACE")
            self._event(database, "tuning", meter_id=tuning.meter_id, port=port, message=tuning.why)
