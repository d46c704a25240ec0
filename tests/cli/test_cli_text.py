"""Tables and pictures, as pure as they can be had: what fits, what gives way, what is escaped."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli import live, text
from gateway.cli.live import Marks, picture
from gateway.cli.text import cut, padded, safe, table, width, wrapped
from gateway.errors import Code
from gateway.model import Campaign, CampaignState, Job, JobState, PausedWhy
from gateway.store.documents import campaign_document, job_document
from gateway.words import DECIDED_BY

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
ASCII = Marks("#", ".", colours=False)
ROWS = [
    ("MTR0001", "変圧器 A", "e\u0301te\u0301", "short"),
    (
        "MTR0002",
        "cabinet\x1b[2J\x07",
        "x",
        "a long message about what the meter said and what to do about it now",
    ),
]


@pytest.fixture
def terminal(monkeypatch):
    """stdout is a terminal of so many columns."""

    def of(columns: int, lines: int = 24) -> None:
        monkeypatch.setattr(text, "terminal_size", lambda: os.terminal_size((columns, lines)))

    return of


def test_a_table_elsewhere_is_as_wide_as_it_needs_to_be():
    lines = table(ROWS, head=("METER", "WHERE", "NAME", "")).split("\n")
    assert len(lines) == 3
    assert lines[2].endswith("what to do about it now")
    assert [line.index("short") if "short" in line else 0 for line in lines[1:2]] != [0]


def test_columns_stand_beneath_each_other_by_cells_not_by_characters():
    head, first, second = table(ROWS, head=("METER", "WHERE", "NAME", "")).split("\n")
    assert width(first[: first.index("short")]) == width(second[: second.index("a long")])
    assert width(head[: head.index("NAME")]) == width(first[: first.index("e\u0301")])


def test_control_characters_are_shown_and_not_obeyed():
    shown = table(ROWS)
    assert "\x1b" not in shown
    assert "\\x1b[2J\\x07" in shown


@pytest.mark.parametrize("columns", [100, 80, 60, 40, 20])
@pytest.mark.parametrize("one_line", [False, True])
def test_a_table_on_a_terminal_is_never_wider(terminal, columns, one_line):
    terminal(columns)
    for head in ((), ("METER", "WHERE", "NAME", "WHAT")):
        lines = table(ROWS, head=head, indent="  ", one_line=one_line).split("\n")
        assert max(map(width, lines)) <= columns


def test_a_cell_that_gives_way_is_wrapped_at_words_and_nothing_of_it_is_lost(terminal):
    terminal(70)
    lines = table(ROWS, head=("METER", "WHERE", "NAME", "WHAT")).split("\n")
    assert len(lines) > 3
    words = " ".join(lines).split()
    assert [word for word in words if word in ROWS[1][3].split()] == ROWS[1][3].split()


def test_where_no_column_has_room_each_row_is_a_paragraph(terminal):
    terminal(40)
    rows = [tuple(f"value-{row}-{column}-long" for column in range(8)) for row in range(2)]
    lines = table(rows, head=[f"NAME{column}" for column in range(8)]).split("\n")
    assert lines[0] == "value-0-0-long"
    assert lines[1] == "  NAME1 value-0-1-long"
    assert len(lines) == 16
    assert max(map(width, lines)) <= 40


ANY_TEXT = st.text(alphabet=st.sampled_from("ab c変e\u0301é-"), max_size=60)


@given(ANY_TEXT, st.integers(2, 30))
def test_wrapping_keeps_every_letter_and_every_limit(words, columns):
    lines = wrapped(words, columns)
    assert max(map(width, lines)) <= columns
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")


@given(ANY_TEXT, st.integers(2, 30))
def test_what_is_cut_fits_and_what_is_padded_fills(words, columns):
    short = cut(words, columns)
    assert width(short) <= columns
    assert words == short or words.startswith(short[:-1])
    assert width(padded(short, columns)) == columns


def test_every_pause_that_an_operator_ends_says_by_which_command():
    assert set(DECIDED_BY) == {PausedWhy.OPERATOR, PausedWhy.APPROVAL, PausedWhy.FAILURES}


# -- pictures -------------------------------------------------------------------------------------------------


def documents(states: list[JobState], **changes: object):
    """A campaign of as many meters, as the daemon tells it."""
    meters = tuple(f"MTR{number:04d}" for number in range(1, len(states) + 1))
    campaign = Campaign("fw-2026-11", "0" * 64, b"FW", meters, NOW, state=CampaignState.RUNNING, **changes)
    jobs = [
        job_document(
            Job(
                campaign.id, meter, "rs485-1", place, state=state, blocks_done=40, blocks_total=100,
                code=Code.T_SILENT if state is JobState.FAILED else None,
                message="no answer" if state is JobState.FAILED else "",
            ),
            ts=NOW,
        ) | {"rate_bps": 812.0, "eta_s": 3599}
        for place, (meter, state) in enumerate(zip(meters, states, strict=True))
    ]  # fmt: skip
    return campaign_document(campaign, Counter(states), ts=NOW), jobs


def many(number: int = 200) -> list[JobState]:
    states = [JobState.QUEUED] * number
    states[150:153] = [JobState.TRANSFERRING, JobState.VERIFYING, JobState.FAILED]
    states[:100] = [JobState.UPDATED] * 100
    return states


def test_of_200_meters_those_at_work_come_first_then_failed_then_a_count_of_the_rest():
    lines = picture(*documents(many()), os.terminal_size((80, 24)), ASCII)
    assert len(lines) <= 23
    rows = [line.split() for line in lines if line.startswith("MTR")]
    assert [row[0] for row in rows[:3]] == ["MTR0151", "MTR0152", "MTR0153"]
    assert rows[2][1:] == ["failed", "T_SILENT:", "no", "answer"]
    assert lines[-1].startswith(f"and {200 - len(rows)} more: ")
    told = sum(int(part.split()[0]) for part in lines[-1].partition(": ")[2].split(", "))
    assert told == 200 - len(rows)


def test_a_transfer_is_shown_with_all_there_is_room_for():
    at_work = [JobState.TRANSFERRING]
    (row,) = (
        line for line in picture(*documents(at_work), os.terminal_size((80, 24)), ASCII) if "MTR" in line
    )
    assert row.split() == f"MTR0001 transferring {'#' * 10}{'.' * 15} 40 % 812 B/s 59 min 59 s".split()
    (row,) = (
        line for line in picture(*documents(at_work), os.terminal_size((40, 24)), ASCII) if "MTR" in line
    )
    assert row.endswith("40 %")
    assert "###" in row


@given(
    states=st.lists(st.sampled_from(JobState), min_size=1, max_size=60),
    columns=st.integers(20, 200),
    lines=st.integers(6, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_picture_fits_any_terminal(states, columns, lines):
    drawn = picture(*documents(states), os.terminal_size((columns, lines)), ASCII)
    assert len(drawn) <= lines - 1
    assert max(map(width, drawn)) < columns


def test_what_meters_say_moves_no_cursor():
    campaign, jobs = documents([JobState.FAILED])
    jobs[0]["message"] = "\x1b[2J\nboo"
    for line in [
        *picture(campaign, jobs, os.terminal_size((80, 24)), ASCII),
        *map(safe, live.summary(campaign, jobs)),
    ]:
        assert line.isprintable()


def test_a_fetch_has_the_bar_until_the_image_is_here():
    campaign, jobs = documents([JobState.QUEUED])
    fetch = {
        "bytes_done": 50,
        "bytes_total": 200,
        "bytes_per_s": 10,
        "eta_s": 15,
        "tries": 0,
        "next_try_at": None,
    }
    campaign |= {"state": "fetching", "fetch": fetch}
    lines = picture(campaign, jobs, os.terminal_size((80, 24)), ASCII)
    assert lines[0].startswith("fw-2026-11: fetching 25 %, 0.0 of 0.2 KiB")
    assert lines[1] == "######" + "." * 20 + "  25 %  of the image"


def test_the_summary_of_many_names_those_that_failed_only():
    states = many()
    campaign, jobs = documents(states)
    campaign |= {"state": "partial", "finished_at": campaign["created_at"]}
    for job, state in zip(jobs, states, strict=True):
        job["state"] = JobState.UPDATED if state is not JobState.FAILED else state
    lines = live.summary(campaign, jobs)
    assert lines[0] == "MTR0153: failed, T_SILENT: no answer"
    assert len(lines) == 2
    assert lines[1].startswith("campaign fw-2026-11: partial, ")


def test_order_of_a_picture_is_the_campaigns_own_where_all_meters_have_room():
    states = [JobState.QUEUED, JobState.TRANSFERRING, JobState.FAILED, JobState.UPDATED]
    random.Random(1).shuffle(states)
    lines = picture(*documents(states), os.terminal_size((80, 24)), ASCII)
    assert [line.split()[0] for line in lines if line.startswith("MTR")] == [
        f"MTR000{n}" for n in range(1, 5)
    ]
