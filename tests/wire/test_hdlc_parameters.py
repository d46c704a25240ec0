"""What the two ends of an HDLC link agree upon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import Vector, vectors

from gateway.errors import WireError
from gateway.wire.hdlc import Frame, FrameReader, Parameters, negotiated

NAMES = {5: "max_info_tx", 6: "max_info_rx", 7: "window_tx", 8: "window_rx"}

NEGOTIATIONS = [
    found
    for found in vectors(file="hdlc", valid=True)
    if found.kind == "hdlc-parameters" or found.fields.get("type") in ("SNRM", "UA")
]


def information(found: Vector) -> bytes:
    if found.kind == "hdlc-parameters":
        return found.octets
    (frame,) = FrameReader().feed(found.octets)
    assert isinstance(frame, Frame)
    return frame.info


@pytest.mark.parametrize("found", NEGOTIATIONS, ids=str)
def test_parameters_are_found_by_id_and_the_absent_ones_have_their_defaults(found: Vector):
    parameters = Parameters.decode(information(found))
    defaults = {"max_info_tx": 128, "max_info_rx": 128, "window_tx": 1, "window_rx": 1}
    for name, default in defaults.items():
        assert getattr(parameters, name) == found.fields.get(name, default)


@pytest.mark.parametrize("found", NEGOTIATIONS, ids=str)
def test_parameters_of_the_shortest_full_form_are_written_to_the_same_octets(found: Vector):
    """Windows left out, or a small size in two octets, are other writers' choices of the same meaning."""
    info = information(found)
    ours = Parameters.decode(info).encode()
    widths = {name: 1 if found.fields.get(name, 0) < 0x100 else 2 for name in ("max_info_tx", "max_info_rx")}
    widths |= {"window_tx": 4, "window_rx": 4}
    if all(found.fields.get(f"{name}_octets") == width for name, width in widths.items()):
        assert ours == info
    else:
        assert Parameters.decode(ours) == Parameters.decode(info)


@pytest.mark.parametrize(
    ("ours", "answer", "holds"),
    [
        pytest.param((2030, 2030, 7, 7), (128, 128, 1, 1), (128, 128, 1, 1), id="a plain meter"),
        pytest.param(
            (2030, 2030, 7, 7), (1024, 239, 1, 3), (239, 1024, 3, 1), id="its transmit is our receive"
        ),
        pytest.param(
            (200, 300, 2, 4), (2030, 2030, 7, 7), (200, 300, 2, 4), id="never more than we proposed"
        ),
        pytest.param(
            (128, 128, 1, 1), (512, 512, 7, 7), (128, 128, 1, 1), id="empty SNRM: the defaults hold"
        ),
    ],
)
def test_the_smaller_one_holds(ours, answer, holds):
    assert negotiated(Parameters(*ours), Parameters(*answer)) == Parameters(*holds)


@pytest.mark.parametrize(
    ("info", "parameters"),
    [
        pytest.param("818000", Parameters(), id="an empty group"),
        pytest.param("818007 070103 060200ff", Parameters(window_tx=3, max_info_rx=255), id="another order"),
        pytest.param("818009 080400000002 090101", Parameters(window_rx=2), id="an unknown id"),
        pytest.param("818005 0601ff 0500", Parameters(max_info_rx=255), id="one without a value"),
        pytest.param("818003 050180 f0aabb", Parameters(), id="user data behind the group"),
    ],
)
def test_any_order_any_subset_any_length_and_unknown_ids(info: str, parameters: Parameters):
    assert Parameters.decode(bytes.fromhex(info)) == parameters


@pytest.mark.parametrize(
    "info",
    [
        "81",
        "8180",
        "818101",
        "818014050207ee",
        "81800105",
        "8180020502",
        "818003050200",
        "8180030501 00",
        "8180060704 00000000",
    ],
)
def test_parameters_that_mean_nothing_are_refused(info: str):
    with pytest.raises(WireError):
        Parameters.decode(bytes.fromhex(info))


@pytest.mark.parametrize(
    "parameters", [Parameters(31), Parameters(128, 2031), Parameters(window_tx=8), Parameters(window_rx=0)]
)
def test_a_proposal_out_of_bounds_is_refused(parameters: Parameters):
    with pytest.raises(WireError, match="expected"):
        parameters.encode()


SIZES, WINDOWS = st.integers(32, 2030), st.integers(1, 7)


@given(st.builds(Parameters, SIZES, SIZES, WINDOWS, WINDOWS))
def test_what_is_written_is_read_again(parameters: Parameters):
    assert Parameters.decode(parameters.encode()) == parameters


@given(
    st.one_of(
        st.binary(), st.binary().map(lambda octets: b"\x81\x80" + bytes((len(octets) & 0xFF,)) + octets)
    )
)
def test_arbitrary_octets_raise_only_wire_error(info: bytes):
    try:
        Parameters.decode(info)
    except WireError:
        return
