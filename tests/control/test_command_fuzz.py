"""Any octets on any command topic are answered by the rules, and nothing else comes of them (`make endurance` has the
long form: a hundred thousand, over a real broker, against the daemon)."""

from __future__ import annotations

import dataclasses
import json
import logging
from itertools import islice

import pytest
from support.command_fuzz import messages
from support.desk import BASE, CONFIG, MQTT, Desk, told

from gateway.control.audit import LINES_AN_HOUR
from gateway.model import CommandSettings

_MESSAGES = 1500


def test_each_message_is_answered_once_with_its_id_and_its_correlation(
    tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    config = dataclasses.replace(CONFIG, commands=CommandSettings(mqtt_verbs=("*",)))
    desk = Desk(tmp_path, config)
    answered, position = set(), 0
    for thrown in islice(messages("short", desk.clock.now()), _MESSAGES):
        origin = dataclasses.replace(MQTT, retained=thrown.retain, correlation=thrown.correlation)
        desk.controller.handle(thrown.payload, origin, thrown.level)
        rows = desk.store.outbox_batch(position, 1000)
        position = rows[-1].id
        [reply] = [row for row in rows if row.topic == f"{BASE}/rsp"]
        document = told(reply.topic, reply.payload)
        assert reply.correlation == thrown.correlation
        assert document["cmd_id"] == thrown.cmd_id, thrown
        assert document["status"] in ("accepted", "done", "rejected", "failed")
        assert document["status"] != "failed" or document["code"]
        answered.add((document["status"], document["code"]))
        for row in rows:
            told(row.topic, row.payload)
    desk.close()
    assert {("done", None), ("rejected", "E_SCHEMA"), ("rejected", "E_VERB"), ("accepted", None)} <= {
        (status, code or None) for status, code in answered
    }
    assert len([record for record in caplog.records if "rejected" in record.message]) <= LINES_AN_HOUR
    assert not any(json.dumps("\x1b") in record.message for record in caplog.records)
