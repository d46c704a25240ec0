"""The bill of materials in the package, against CycloneDX's own JSON schema and against what is declared elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]


def schema(name: str) -> Any:
    text = (resources.files("cyclonedx.schema") / "_res" / f"{name}.SNAPSHOT.schema.json").read_text("utf-8")
    # One document: jsonschema of Debian 12 and of Debian 13 find other ones in different ways.
    others = {"spdx.SNAPSHOT.schema.json": "spdx", "jsf-0.82.SNAPSHOT.schema.json#/definitions/signature": ""}
    return json.loads(
        text,
        object_hook=lambda found: inlined(others[found["$ref"]]) if found.get("$ref") in others else found,
    )


def inlined(name: str) -> Any:
    """Signatures (JSF) are what our document has none of."""
    return schema(name) if name else False


@pytest.fixture
def bill(monkeypatch: pytest.MonkeyPatch) -> Any:
    return json.loads(made())


def made() -> bytes:
    return subprocess.run(
        [sys.executable, "debian/tools/sbom.py"],
        cwd=ROOT, env={"SOURCE_DATE_EPOCH": "1700000000"}, stdout=subprocess.PIPE, check=True,
    ).stdout  # fmt: skip


def test_it_is_what_cyclonedx_says(bill):
    official = schema("bom-1.5")
    jsonschema.Draft7Validator.check_schema(official)
    check = jsonschema.Draft7Validator(official)
    assert [f"{list(error.path)}: {error.message}" for error in check.iter_errors(bill)] == []
    bill["metadata"]["component"]["licenses"] = [{"license": {"id": "No-Such-Licence"}}]
    assert not check.is_valid(bill), "the schema was not applied to licences"


def test_it_names_all_that_the_package_depends_on(bill):
    control = (ROOT / "debian" / "control").read_text("utf-8")
    depends = re.search(r"^Depends:(.*(?:\n[ \t].*)*)", control, re.MULTILINE)
    declared = set(re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9.+-]*)", depends[1]))
    assert {component["name"] for component in bill["components"]} == declared | {"python3"}


def test_the_same_source_gives_the_same_bill():
    assert made() == made()
