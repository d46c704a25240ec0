"""What power cuts and many meters cost: the short forms of figures of `make endurance`."""

import pytest
from support.many_meters import measured
from support.resume_waste import waste
from support.world import ciphered

from gateway.simulator import MeterSpec


@pytest.mark.parametrize("spec", [MeterSpec(), ciphered()], ids=["plain", "gmac"])
def test_a_power_cut_in_the_middle_of_octets_costs_at_most_a_block(spec):
    found = waste(spec, seed=1, image_octets=16384, cuts=6)
    assert max(found.resent) <= 1
    assert found.arrived_again == 0, "the bitmap tells what arrived"


def test_many_meters_cost_little_to_decide_about():
    """CPU, by a bound that a machine ten times as slow keeps."""
    field = measured(60, 6, image_octets=1024)
    assert field.process_mib - field.empty_mib < 40
    assert (sum(field.steps_us) + sum(field.conductor_us)) / len(field.steps_us) < 2000
