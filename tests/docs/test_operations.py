"""The handbook says of every code and every alarm what it means, what the gateway does, what to do, and with whom."""

import re

import pytest

from docs.tools import ROOT
from docs.tools.operations import PAGE, SECTION
from gateway.errors import Code
from gateway.model import AlarmKind

TEXT = (ROOT / PAGE).read_text("utf-8")
KNOWN = [*map(str, Code), *map(str, AlarmKind)]


@pytest.mark.parametrize("name", KNOWN)
def test_every_code_and_alarm_has_its_section(name):
    [section] = re.findall(rf"^### `{name}`\n(.+?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^- (\w[\w ]*):", section, re.MULTILINE) == ["Means", "The gateway", "Do", "With"]


def test_no_section_is_of_a_code_that_does_not_exist():
    assert sorted(SECTION.findall(TEXT)) == sorted(KNOWN)
