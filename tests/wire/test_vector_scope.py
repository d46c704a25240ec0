"""No golden vector falls through: each is exercised by a test of this room, or stands here with the reason why not."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

from support.vectors import all_vectors

ROOM = Path(__file__).parent

OUT_OF_SCOPE = {
    "suite 2: only suite 0 is agreed, another one is refused": ["sec-d-suite2-get", "sec-d-suite2-block"],
    "HLS with MD5 or SHA-1: broken hashes, not among the authentications of the contract": [
        "sec-hls-md5-stoc", "sec-hls-md5-ctos", "sec-hls-sha1-ctos",
    ],
    "HLS with SHA-256: the contract names it for later": ["sec-hls-sha256-stoc", "sec-hls-sha256-neg"],
    "ECDSA: belongs to suites 1 and 2 and to HLS mechanism 7, which the contract names for later": [
        "sec-ecdsa-p256", "sec-ecdsa-onepass-server", "sec-ecdsa-p384-neg", "sec-hls7-stoc",
    ],
    "key agreement: belongs to suites 1 and 2": [
        "sec-ecdh-2e0s", "sec-ecdh-1e1s-server", "sec-kdf-client", "sec-kdf-connexo-neg-server",
        "sec-kdf-connexo-neg-guek",
    ],
    "key wrap: the gateway changes no keys of a meter": ["sec-kw-128", "sec-kw-256-256"],
}  # fmt: skip


def test_every_vector_is_exercised_or_out_of_scope_for_a_reason():
    ids = [vector.id for vector in all_vectors()]
    assert len(ids) == len(set(ids)) == 250
    left_over = set(ids) - set(exercised()) - set(out_of_scope())
    assert not left_over, f"neither exercised nor listed: {sorted(left_over)}"
    assert set(out_of_scope()) <= set(ids)


def test_what_is_out_of_scope_is_at_most_refused():
    """Else the list above would be out of date."""
    for vector_id in out_of_scope():
        tests = exercised().get(vector_id, set())
        assert all(test.endswith("_refused") for test in tests), (vector_id, tests)


def test_a_negative_is_never_taken_for_something_valid():
    """A table of valid vectors has a row for none that is not."""
    positive = re.compile(r"understood|written_back|opened|read_and_written")
    for vector in all_vectors():
        if not vector.valid:
            assert not [test for test in exercised().get(vector.id, ()) if positive.search(test)], vector.id


def out_of_scope() -> list[str]:
    return [vector_id for ids in OUT_OF_SCOPE.values() for vector_id in ids]


@cache
def exercised() -> dict[str, set[str]]:
    """The tests of this room that are run with a vector: as a row of a table, or by its name."""
    tests = defaultdict(set)
    for test, row in collected_rows():
        for vector in all_vectors():
            if row == vector.id or row.startswith(f"{vector.id}-"):
                tests[vector.id].add(test)
    for path in ROOM.glob("test_*.py"):
        for test, vector_id in vectors_by_name(path):
            tests[vector_id].add(test)
    return tests


def collected_rows() -> list[tuple[str, str]]:
    """(test, row) of every table in this room, as pytest itself collects them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(ROOM)]
    listing = subprocess.run(
        command,
        env=environment,
        cwd=ROOM.parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    return re.findall(r"^\S+\.py::(\w+)\[(.*)\]$", listing, re.MULTILINE)


def vectors_by_name(path: Path) -> list[tuple[str, str]]:
    """(test, id) of every `vector("id")` in a test function."""
    known = {vector.id for vector in all_vectors()}
    return [
        (function.name, argument.value)
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("vector", "vector_of")
        for argument in call.args
        if isinstance(argument, ast.Constant) and argument.value in known
    ]
