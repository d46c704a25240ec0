"""What the tests of the command line have in common."""

import pytest

from gateway.cli import main


@pytest.fixture
def type_in(gateway, capsys):
    """Run a command line here: status, what it printed, what it complained."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(gateway.config)])
        out, err = capsys.readouterr()
        return status, out, err

    return run
