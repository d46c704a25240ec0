"""docs/operations.md is written by hand, but for the advice under each code and alarm: that is the program's own."""

from __future__ import annotations

import re

from docs.tools import ROOT
from gateway.errors import ADVICE
from gateway.store.documents import ALARM_ADVICE

PAGE = "docs/operations.md"
SECTION = re.compile(r"^### `([^`]+)`\n\n> .*\n", re.MULTILINE)


def pages() -> dict[str, str]:
    """The page as it stands, with the advice that the code gives now."""
    said = {code.value: advice for code, advice in (*ADVICE.items(), *ALARM_ADVICE.items())}
    text = (ROOT / PAGE).read_text("utf-8")
    return {PAGE: SECTION.sub(lambda found: f"### `{found[1]}`\n\n> {said.get(found[1], '')}\n", text)}
