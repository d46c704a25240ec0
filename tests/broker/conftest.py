"""The broker of docs/broker, and a gateway that knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running import RunningGateway
from support.utility import Utility


@pytest.fixture(scope="module")
def utility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Utility]:
    with Utility(tmp_path_factory.mktemp("utility")) as broker:
        yield broker


@pytest.fixture
def gateway(tmp_path: Path, utility: Utility) -> Iterator[RunningGateway]:
    """`gw-001` with one meter. Its certificate ends soon enough for an alarm."""
    directory = tmp_path / "gateway"
    directory.mkdir()
    files = {key: str(file) for key, file in utility.identity("gw-001").items()}
    sections = {"gateway": {"id": "gw-001"}, "mqtt": {"url": utility.url, **files}}
    running = RunningGateway(directory, meters=1, sections=sections)
    try:
        yield running.start()
    finally:
        print(running.said())
        running.close()
