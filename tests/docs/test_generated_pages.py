"""Pages that are made of the code are what the code says now."""

import pytest

from docs.tools import ROOT, generated
from docs.tools.configuration import SECTIONS, TITLES, manual
from gateway import config
from gateway.config.declared import declared
from gateway.errors import ConfigError


@pytest.mark.parametrize("path", sorted(generated()))
def test_a_generated_page_is_what_its_generator_writes(path):
    assert (ROOT / path).read_text("utf-8") == generated()[path], "run: make docs"


def test_every_key_of_the_configuration_says_what_it_is_for():
    assert [(key.table, key.key) for key in declared() if not key.about.endswith(".")] == []


def test_the_reference_has_every_key_that_the_reader_knows(tmp_path):
    """Instead of a key that it does not know, the reader names those that it does."""
    file = tmp_path / "gateway.toml"
    tables = {"gateway": "gateway", "firmware": "firmware", "profiles.x": "profiles.NAME", "[ports]": "ports"}
    file.write_text("".join(f"[{title}]\nzzz = 1\n" for title in tables) + 'kind = "rs485"\n')
    with pytest.raises(ConfigError) as raised:
        config.load(file)
    for title, table in tables.items():
        place = title.strip("[]").replace("ports", "ports[0]")
        [line] = [line for line in raised.value.mistakes if f" {place}.zzz: " in line]
        known = set(line.partition("one of ")[2].split(", ")) - {"match"}
        assert known == {key.key for key in declared() if key.table == table}


def test_every_table_of_the_configuration_is_in_the_reference(tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text("zzz = 1\n")
    with pytest.raises(ConfigError) as raised:
        config.load(file)
    known = set(raised.value.mistakes[0].partition("one of ")[2].split(", "))
    assert known == {table.partition(".")[0] for table in TITLES if " " not in table}


def test_the_manual_page_of_the_configuration_can_be_made():
    page = manual((ROOT / "debian" / "gateway.toml.5").read_text("utf-8"))
    assert SECTIONS not in page
    assert all(f"\\fB{key.key}\\fR" in page for key in declared())
