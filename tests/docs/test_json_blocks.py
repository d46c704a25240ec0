"""Every message that the documentation shows is JSON, and what is said in it is what the gateway takes."""

import json
import re

import pytest
from support import contract
from support.pages import ROOT, blocks

from gateway.control.schema import check_args, check_envelope
from gateway.errors import SchemaError

FILLED_IN = (
    (r'"cmd_id": "…"', '"cmd_id": "0b5a3c1e-6a4e-4a5f-9a63-0e6c1d2f3a4b"'),
    (r'"(issued|expires)": "…"', r'"\1": "2026-11-22T20:00:00Z"'),
    (r'"[0-9a-f]*…(64 hex digits…)?"', f'"{"0" * 64}"'),
    (
        r'"args": \{\}',
        '"args": {"campaign_id": "c", "identifier": "x", "targets": "all", "image": {"sha256": "%s"}}'
        % ("0" * 64),
    ),
)
"""What the documentation leaves to its reader, and what it could be."""


def documents():
    for block in blocks("json"):
        text = block.text
        for pattern, filling in FILLED_IN:
            text = re.sub(pattern, filling, text)
        page = next(ROOT.rglob(block.page)).read_text("utf-8").splitlines()
        before = re.findall(r"cmd/([a-z]+\.[a-z]+)", "\n".join(page[: block.line]))
        yield pytest.param(text, before[-1] if before else "", id=str(block))


def hold(document, verb):
    """Raises SchemaError where it is a command, or the arguments of one, and not a good one."""
    match document:
        case {"gateway": _, "verb": signed_verb, "command": command}:
            hold(command, signed_verb)
        case {"cmd_id": _, "args": args}:
            check_envelope(document)
            check_args(document.get("verb", verb), args)
        case {"campaign_id": _, "image": _, "rev": _}:
            contract.validator("campaign").validate(document)
        case {"campaign_id": _, "image": _}:
            check_args("campaign.submit", document)


@pytest.mark.parametrize("text, verb", list(documents()))
def test_a_message_that_is_shown_is_one_that_is_taken(text, verb):
    hold(json.loads(text), verb)


def test_one_that_is_not_taken_would_be_seen():
    good = {"v": 1, "cmd_id": "0b5a3c1e-6a4e-4a5f-9a63-0e6c1d2f3a4b", "expires": "2026-11-23T20:00:00Z"}
    with pytest.raises(SchemaError, match="issued"):
        hold({**good, "issued": "now", "args": {}}, "ping")
    with pytest.raises(SchemaError, match="identifer"):
        hold({"campaign_id": "c", "image": {"sha256": "0" * 64}, "targets": "all", "identifer": "x"}, "")
