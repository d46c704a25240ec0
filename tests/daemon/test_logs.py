"""What ends up in the log, and that nobody can write there in the gateway's name."""

from __future__ import annotations

import logging

import pytest

from gateway.daemon.logs import LineFormatter


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
