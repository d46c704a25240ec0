"""Some of the inputs of `make endurance` in every test run: no octets get anything but a value or a WireError."""

from itertools import islice

import pytest
from support.fuzz import targets

INPUTS = 1500


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_whatever_octets_come_a_decoder_answers_with_a_value_or_a_refusal(target):
    answers = []
    for octets in islice(target.inputs("short"), INPUTS):
        try:
            answers.append(target.answers(octets))
        except Exception as error:
            error.add_note(f"{target.name} was given {octets.hex()}")
            raise
    assert any(answers), "nothing of it was understood"
    assert not target.refusals or not all(answers), "nothing of it was refused"
