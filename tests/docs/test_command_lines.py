"""Every command line that the documentation shows is one that the command takes, with its options and values."""

import json
import re
import shlex
from contextlib import suppress

import click
import pytest
from support.pages import PAGES, blocks, prose
from support.signed import Signatory, enveloped, manifest

from gateway.cli.root import Desk, root

BEGINS = re.compile(r"(?:[$#] )?(?:sudo )?meter-gateway +(?=[a-z-])")
DIGEST = "0" * 64


def in_blocks():
    for block in blocks("", "sh", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if found := BEGINS.match(line):
                yield pytest.param(line[found.end() :], id=f"{block} {line[found.end() : found.end() + 30]}")


def in_sentences():
    for page in PAGES:
        for line in re.findall(r"`meter-gateway +([^`]+)`", prose(page)):
            yield pytest.param(" ".join(line.split()), id=f"{page.name} {line[:30]}")


def words(line):
    """As a shell hands them over; what stands for something to be filled in is filled in."""
    kept = []
    for word in shlex.split(line.replace("[", "").replace("]", ""), comments=True):
        if word in ("|", "||", "&&", ";", "&", ">", "<"):
            break
        if word in ("…", "...") and not (kept and kept[-1].startswith("--")):
            continue
        kept.append("1" if word == "VALUE" else re.sub(r"^[0-9a-f]*(…|\.\.\.)$", DIGEST, word))
    return kept


@pytest.fixture(autouse=True)
def nothing_is_done(monkeypatch, tmp_path):
    """Command lines are read to their end, every file that they name is there, and no command is begun."""
    file = tmp_path / "file"
    file.write_text(json.dumps(enveloped(manifest(), Signatory("utility"))))
    monkeypatch.setattr(click.Command, "invoke", lambda self, ctx: None)
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: file)


@pytest.mark.parametrize("line", list(in_blocks()))
def test_a_command_line_in_a_block_is_one_that_is_taken(line):
    root.main(args=words(line), standalone_mode=False, obj=Desk())


@pytest.mark.parametrize("line", list(in_sentences()))
def test_a_command_that_a_sentence_names_is_there(line):
    """With its options; it need not be whole."""
    with suppress(click.MissingParameter):
        root.main(args=words(line), standalone_mode=False, obj=Desk())


def test_a_command_line_that_is_not_taken_would_be_seen():
    for line in ("campaign submit --id x --nonsense", "campaign frobnicate", "trace", "state export a b"):
        with pytest.raises(click.UsageError):
            root.main(args=words(line), standalone_mode=False, obj=Desk())
