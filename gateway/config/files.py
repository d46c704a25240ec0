"""Which files make up the configuration, and how they become one tree."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path

from gateway.config.table import Mistakes, Node, annotate, merge

DEFAULT_FILE = Path("/etc/meter-gateway/gateway.toml")
DEFAULT_SOCKET = Path("/run/meter-gateway/control.sock")
"""As `GatewaySettings` has it."""
KEYS_NAME = "keys.toml"
CREDENTIAL_STORE = Path("/etc/credstore")
"""Where systemd looks for credentials that a unit names without a path; only root may look there."""
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


def read_settings(file: Path, mistakes: Mistakes) -> Node:
    """`file`, then `conf.d/*.toml` beside it in the order of their names."""
    tree = _parse(file, mistakes)
    for extra in sorted(file.parent.glob("conf.d/*.toml")):
        tree = merge(tree, _parse(extra, mistakes))
    return tree


def read_keys(file: Path, mistakes: Mistakes) -> Node:
    """keys.toml: the systemd credential of that name where there is one, else beside `file` with mode 0600 or
    stricter; empty where there is none. Who looks at the service's configuration without being the service sees what
    it would be handed."""
    handed = credential(KEYS_NAME)
    if handed is None and file == DEFAULT_FILE and _CREDENTIALS not in os.environ:
        handed = _existing(CREDENTIAL_STORE / KEYS_NAME)
    if handed:
        return _parse(handed, mistakes, secret=True)
    beside = file.parent / KEYS_NAME
    try:
        mode = stat.S_IMODE(beside.stat().st_mode)
    except FileNotFoundError:
        return Node({}, beside)
    except OSError as error:
        mistakes.add(beside, "", error.strerror or "an unreadable file", "a readable file")
        return Node({}, beside)
    if mode & 0o177:
        mistakes.add(beside, "", f"mode {mode:04o}", "mode 0600 or stricter: the file holds keys")
        return Node({}, beside)
    return _parse(beside, mistakes, secret=True)


def credential(name: str) -> Path | None:
    """The file of a credential that systemd handed over (systemd.exec(5), LoadCredential=); None where it did not."""
    directory = os.environ.get(_CREDENTIALS)
    return _existing(Path(directory, name)) if directory else None


def _existing(file: Path) -> Path | None:
    return file if os.path.exists(file) else None  # noqa: PTH110 (Path.exists raises where one may not look)


def _parse(file: Path, mistakes: Mistakes, *, secret: bool = False) -> Node:
    try:
        return annotate(tomllib.loads(file.read_text("utf-8")), file)
    except FileNotFoundError:
        mistakes.add(file, "", "no such file", "a TOML file")
    except OSError as error:
        mistakes.add(file, "", error.strerror or "an unreadable file", "a readable file")
    except UnicodeDecodeError as error:
        mistakes.add(file, "", f"octets that are not UTF-8 at {error.start}", "UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at [^()]*\)$", str(error))
        found = (
            f"a syntax error {where[0] if where else ''}".rstrip() if secret else f"a syntax error: {error}"
        )
        mistakes.add(file, "", found, "TOML")
    return Node({}, file)
