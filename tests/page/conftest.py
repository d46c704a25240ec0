"""A desk and its status page; time goes by when the test says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.desk import CONFIG, Desk, memory_directory
from support.site import Site


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_directory() as directory:
        yield directory


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, CONFIG)
    yield desk
    desk.close()


@pytest.fixture
def open_site() -> Iterator[Any]:
    """Sites that end with the test."""
    sites: list[Site] = []

    def open_(desk: Desk, host: str = "127.0.0.1") -> Site:
        sites.append(Site(desk, host))
        return sites[-1]

    yield open_
    for site in sites:
        site.close()


@pytest.fixture
def site(desk: Desk, open_site: Any) -> Site:
    found: Site = open_site(desk)
    return found
