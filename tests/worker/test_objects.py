"""What meters say, as text that can be compared."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.wire import axdr
from gateway.wire.axdr import Data, Tag
from gateway.worker.objects import LONGEST_TEXT, as_shown

EXAMPLES = {
    "TRUE": (axdr.boolean(True), "True"),
    "a number": (axdr.u32(4711), "4711"),
    "text": (axdr.octet_string(b"connected"), "connected"),
    "octets": (axdr.octet_string(b"\x00\x07"), "0007"),
    "bits": (axdr.bit_string(b"\xa0", 3), "101"),
    "nothing": (axdr.null(), "nothing"),
    "scaler and unit": (axdr.structure(Data(Tag.INTEGER, -3), axdr.enum(30)), "[-3, 30]"),
}


def test_values_are_shown_as_a_person_would_write_them():
    for data, text in EXAMPLES.values():
        assert as_shown(data) == text


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_long_values_that_differ_anywhere_are_shown_otherwise(one, other):
    assume(one != other)
    first, second = (as_shown(axdr.octet_string(b"\xff" + octets)) for octets in (one, other))
    assert first != second
    assert max(len(first), len(second)) <= LONGEST_TEXT + 40


@given(st.floats(allow_nan=False))
def test_a_float_is_shown_so_that_it_could_be_read_back(value):
    assert math.isclose(float(as_shown(Data(Tag.FLOAT64, value))), value)
