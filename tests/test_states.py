"""The states of jobs and campaigns: the tables agree with each other, and docs/windows.md draws exactly them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import pytest

from gateway.model import TERMINAL_CAMPAIGN, TERMINAL_JOB, CampaignState, JobState
from gateway.states import BEGUN, CAMPAIGN_GOES_TO, CAN_BE_CANCELLED, ENDED, JOB_GOES_TO

PAGE = Path(__file__).parent.parent / "docs" / "windows.md"


def diagram(
    first: StrEnum, goes_to: Mapping[StrEnum, frozenset[StrEnum]], box: str, members: Sequence[StrEnum]
) -> str:
    """A Mermaid state diagram of a table. An arrow that all of `members` have is drawn once, from or to their box;
    of those among themselves only the ones to the next."""
    inside = [
        f"        {one} --> {then}" for one, then in itertools.pairwise(members) if then in goes_to[one]
    ]
    lines = [
        f"    [*] --> {first}",
        f"    state {box} {{",
        *(inside or [f"        {one}" for one in members]),
        "    }",
    ]
    for state, then in goes_to.items():
        if state in members:
            continue
        rest = sorted(then)
        if then >= set(members):
            lines.append(f"    {state} --> {box}")
            rest = sorted(then - set(members))
        lines += [f"    {state} --> {one}" for one in rest]
    shared = frozenset.intersection(*(goes_to[one] for one in members))
    lines += [f"    {box} --> {one}" for one in sorted(shared - set(members))]
    for one in members:
        lines += [f"    {one} --> {then}" for then in sorted(goes_to[one] - shared - set(members))]
    return "\n".join(["stateDiagram-v2", *lines])


DIAGRAMS = {
    "a job": diagram(JobState.QUEUED, JOB_GOES_TO, "begun", BEGUN),
    "a campaign": diagram(CampaignState.ACCEPTED, CAMPAIGN_GOES_TO, "ended", ENDED),
}


@pytest.mark.parametrize("drawn", DIAGRAMS.values(), ids=DIAGRAMS)
def test_the_documentation_draws_what_the_code_does(drawn):
    assert f"```mermaid\n{drawn}\n```" in PAGE.read_text(), f"docs/windows.md should have:\n{drawn}"


def test_every_state_is_in_its_table():
    assert set(JOB_GOES_TO) == set(JobState)
    assert set(CAMPAIGN_GOES_TO) == set(CampaignState)


def test_what_has_ended_goes_nowhere_but_by_a_retry():
    assert {state for state, then in JOB_GOES_TO.items() if not then - {JobState.QUEUED}} == TERMINAL_JOB
    assert {state for state, then in CAMPAIGN_GOES_TO.items() if not then} == TERMINAL_CAMPAIGN


def test_each_of_those_that_have_begun_may_follow_each():
    for state in BEGUN:
        assert JOB_GOES_TO[state] >= set(BEGUN) - {state}


def test_nothing_is_cancelled_once_its_activation_was_ordered():
    activated = {JobState.ACTIVATING, JobState.CONFIRMING, JobState.UNCERTAIN}
    assert set(JobState) - TERMINAL_JOB - activated == CAN_BE_CANCELLED
