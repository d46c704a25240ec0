"""The version of the package is that of the program: `check_version.py VERSION`."""

import sys
import tomllib
from pathlib import Path

program = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["version"]
package = sys.argv[1].partition("-")[0].partition("~")[0].partition("+")[0]
if package != program:
    sys.exit(f"debian/changelog has version {package}, pyproject.toml {program}")
