"""State directories of this room's tests."""

import pytest
from support.desk import memory_directory


@pytest.fixture
def tmp_path():
    with memory_directory() as directory:
        yield directory
