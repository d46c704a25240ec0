"""Single action schedule, class 22: octets that meters and tools were seen to send, and everything that is none."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import WireError
from gateway.wire import apdu, axdr
from gateway.wire.action_schedule import (
    Execution,
    Script,
    execution_data,
    executions,
    once,
    script,
    script_data,
)

wall = datetime.fromisoformat
ANY = 0xFF


def test_the_answer_of_a_meter_that_reads_its_registers_on_the_first_of_every_month():
    """A GET response that is published with a head-end's decoder (class 22, end of billing period)."""
    answer = apdu.decode(bytes.fromhex("C4018100010102020904000000000905FFFFFF01FF"))
    (found,) = executions(answer.result)
    assert found == Execution(0xFFFF, ANY, 1, ANY, 0, 0, 0, 0)
    assert found.wall is None, "it comes again"
    assert not found.never


def test_the_times_that_a_vendors_tool_writes_for_every_half_day_and_for_never():
    twice = bytes.fromhex("010202020904000000FF0905FFFFFFFFFF020209040C0000FF0905FFFFFFFFFF")
    assert [each.hour for each in executions(axdr.decode(twice))] == [0, 12]
    assert axdr.encode(execution_data(())) == bytes.fromhex("0100"), "its word for disabled"


def test_a_time_goes_to_the_meter_as_time_and_date_with_its_weekday():
    octets = axdr.encode(execution_data((once(wall("2026-11-23T02:30:15")),)))
    assert octets == bytes.fromhex("0101 0202 0904 021E0F00 0905 07EA0B1701")


@given(st.datetimes(wall("1990-01-01"), wall("2099-12-31")))
def test_a_time_comes_back_as_it_went(moment):
    moment = moment.replace(microsecond=0)
    (found,) = executions(axdr.decode(axdr.encode(execution_data((once(moment),)))))
    assert found.wall == moment


@given(st.sampled_from(["second", "hundredths", "weekday"]))
def test_meters_that_leave_out_what_adds_nothing_mean_the_same_moment(field):
    written = once(wall("2026-11-23T02:30:00"))
    assert written._replace(**{field: ANY}).wall == written.wall


def test_nothing_specified_is_never():
    never = Execution(0xFFFF, *[ANY] * 7)
    assert never.never
    assert never.wall is None


@given(st.binary(min_size=6, max_size=6), st.integers(0, 0xFFFF))
def test_a_script_comes_back_as_it_went(table, selector):
    wanted = Script(table, selector)
    assert script(axdr.decode(axdr.encode(script_data(wanted)))) == wanted


NO_TIMES = {
    "a number": axdr.u16(1),
    "an element that is no structure": axdr.array(axdr.u16(1)),
    "a time without a date": axdr.array(axdr.structure(axdr.octet_string(bytes(4)))),
    "a date of four octets": axdr.array(
        axdr.structure(axdr.octet_string(bytes(4)), axdr.octet_string(bytes(4)))
    ),
}


@pytest.mark.parametrize("data", NO_TIMES.values(), ids=NO_TIMES)
def test_what_is_no_schedule_is_an_error_of_the_wire(data):
    with pytest.raises(WireError):
        executions(data)
    with pytest.raises(WireError):
        script(data)
