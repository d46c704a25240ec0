"""Refusals in the log: enough to find who sends nonsense, and no more."""

from __future__ import annotations

from gateway.control.audit import LINES_AN_HOUR, RejectionLog
from gateway.errors import VerbError
from gateway.simulator.clock import VirtualClock


def test_a_flood_of_nonsense_is_counted_and_not_written_out(caplog):
    clock = VirtualClock()
    log = RejectionLog(clock)
    for _ in range(1000):
        log.rejected(verb="reboot", cmd_id=None, who="mqtt", error=VerbError("there is no verb 'reboot'"))
    assert len(caplog.records) == LINES_AN_HOUR
    clock.advance(3600)
    log.rejected(verb="reboot", cmd_id=None, who="mqtt", error=VerbError("there is no verb 'reboot'"))
    told = [record.getMessage() for record in caplog.records[LINES_AN_HOUR:]]
    assert told[0] == f"{1000 - LINES_AN_HOUR} more commands were rejected in the last hour of them"
    assert told[1].startswith("command reboot without an id by mqtt: rejected E_VERB")
    assert 24 * sum(len(record.getMessage()) + 1 for record in caplog.records) < 2**20 / 2
