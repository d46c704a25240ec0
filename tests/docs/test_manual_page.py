"""meter-gateway(1), as the package makes it: every command, and what every command has only once."""

import subprocess
import sys

from docs.tools import ROOT
from gateway.cli.root import root


def test_every_command_is_in_the_manual_and_common_options_are_once():
    made = subprocess.run(
        [sys.executable, ROOT / "debian/tools/manual.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    page = made.stdout.replace("\\-", "-")
    for name in root.list_commands(None):
        assert f"\n.SS {name} " in page, name
    for option in ("--json", "--config FILE", "--broker URL", "--sign-with KEY", "--help"):
        assert page.count(f"\n.B {option}\n") + page.count(f"\n.B -h, {option}\n") == 1, option
    assert "\n.B -o, --output FILE\n" in page
