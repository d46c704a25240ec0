"""Pages that are made of the code are what the code says now."""

import pytest

from docs.tools import ROOT, generated


@pytest.mark.parametrize("path", sorted(generated()))
def test_a_generated_page_is_what_its_generator_writes(path):
    assert (ROOT / path).read_text("utf-8") == generated()[path], "run: make docs"
