"""What ends up in the log, and that nobody can write there in the gateway's name."""

from __future__ import annotations

import logging

import pytest

from gateway.daemon.logs import JournalHandler, LineFormatter


def line(message: str, *args: object, journal: bool = True, level: int = logging.INFO, exc_info=None) -> str:
    record = logging.LogRecord("gateway", level, __file__, 1, message, args, exc_info)
    return LineFormatter(journal=journal).format(record)


@pytest.mark.parametrize("evil", ["\n<0>forged", "\x1b[2J", "\r", "\x00", "\u202e", "\x85", "\u2028"])
def test_control_characters_from_outside_are_escaped(evil):
    said = line("the meter calls itself %s", f"ACM{evil}1")
    assert said.isprintable()
    assert "\\" in said


def test_a_percent_sign_from_outside_is_no_format():
    assert line("version %s", "100 %s %d").endswith("version 100 %s %d")


def test_the_journal_gets_the_level_and_a_person_the_time():
    assert line("hello", level=logging.ERROR) == "<3>hello"
    assert line("hello", level=logging.ERROR, journal=False).endswith(" ERROR   hello")


def test_each_line_of_a_traceback_has_the_level():
    try:
        raise ValueError("a bug")
    except ValueError as error:
        said = line("broken", level=logging.CRITICAL, exc_info=(ValueError, error, error.__traceback__))
    assert len(said.splitlines()) > 2
    assert all(one.startswith("<2>") for one in said.splitlines())


def sent(handler_send_fails=False, **record):
    """What the journal was given for a record, and what went to stderr instead."""
    entries, others = [], []

    def send(message, **fields):
        if handler_send_fails:
            raise OSError
        entries.append({"MESSAGE": message, **fields})

    class Otherwise(logging.Handler):
        def emit(self, record):
            others.append(record.getMessage())

    made = logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "args": None, **record})
    JournalHandler(send, otherwise=Otherwise()).handle(made)
    return entries, others


def test_the_journal_can_be_searched_by_meter_and_campaign():
    ((entry,), others) = sent(
        msg="MTR0001: failed", fields={"METER": "MTR0001", "CAMPAIGN": "fw", "CODE": "T_SILENT"}
    )
    assert entry["MESSAGE"] == "MTR0001: failed"
    assert (entry["METER"], entry["CAMPAIGN"], entry["CODE"]) == ("MTR0001", "fw", "T_SILENT")
    assert entry["PRIORITY"] == "6"
    assert others == []


def test_a_message_in_the_journal_is_escaped_too():
    ((entry,), _) = sent(msg="it calls itself %s", args=("A\nMETER=forged",))
    assert entry["MESSAGE"] == "it calls itself A\\nMETER=forged"


def test_what_the_journal_does_not_take_goes_to_stderr():
    assert sent(msg="hello", handler_send_fails=True) == ([], ["hello"])
