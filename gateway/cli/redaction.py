"""What may leave the machine of its configuration and its logs: everything that is known to be no secret. Pure.

Of the configuration only keys that the reader knows are shown, whatever stands beside them, and never a comment. In any
text credentials and queries of URLs, private keys, and secrets that this machine is known to have are taken out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from functools import cache
from typing import Any

from gateway.cli.client import Document
from gateway.config.declared import declared
from gateway.urls import shown

HIDDEN = "(hidden)"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\]+")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_LIKE_A_KEY = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{32,}(?![0-9A-Fa-f])")
_CREDENTIALS = re.compile(r"\A[^/@\s]+:[^@\s]*@")
_SHORTEST = 4
"""Of a secret that is looked for: what is shorter stands in half of all numbers."""


class Scrubber:
    """Takes secrets out of a text, wherever they stand in it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found)), re.IGNORECASE) if found else None

    def __call__(self, text: str) -> str:
        text = _PRIVATE_KEY.sub(HIDDEN, text)
        text = self._secrets.sub(HIDDEN, text) if self._secrets else text
        return _URL.sub(lambda url: shown(url[0]), text)


def secrets_in(text: str) -> set[str]:
    """What may be a secret in keys.toml, whether or not it is TOML: every text that something is set to."""
    try:
        found = set(_texts(tomllib.loads(text)))
    except tomllib.TOMLDecodeError:
        found = {inner for pair in _SET_TO.findall(text) for inner in pair if inner}
    return found | {one.removeprefix("hex:") for one in found}


_SET_TO = re.compile(r"""=\s*(?:"+([^"\n]*)"|'+([^'\n]*)')""")


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)


def configuration(text: str) -> Document:
    """A file of the configuration without what is not known to be no secret. Where it is no TOML: its lines, as far as
    they are by themselves."""
    try:
        return _table("", tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at [^()]*\)$", str(error))
        return {"no TOML": where[0] if where else "(somewhere)", "lines": list(_lines(text))}


def _lines(text: str) -> Iterator[Any]:
    path = ""
    for line in text.splitlines():
        try:
            tree = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            yield HIDDEN
            continue
        if line.lstrip().startswith("["):
            path = _path_of(tree)
            yield f"[{path}]"
        elif tree:
            yield _table(path, tree)


def _path_of(tree: Mapping[str, Any]) -> str:
    """Of a section's head, in the words of `Declared.table`."""
    path = ""
    inner: Any = tree
    while inner:
        [(key, inner)] = inner.items()
        path = _below(path, key)
        inner = inner[0] if isinstance(inner, list) else inner
    return path


def _table(path: str, tree: Mapping[str, Any]) -> Document:
    return {key: _entry(path, key, value) for key, value in tree.items()}


def _entry(path: str, key: str, value: Any) -> Any:
    tables, keys = _known()
    below = _below(path, key)
    match value:
        case dict() if below in tables:
            return _table(below, value)
        case [dict(), *_] if below in tables:
            return [_table(below, entry) if isinstance(entry, dict) else HIDDEN for entry in value]
        case _ if (path, key) in keys:
            return _plain(value)
        case _:
            return HIDDEN


def _below(path: str, key: str) -> str:
    if path in _NAMED:
        return f"{path}.NAME"
    return f"{path}.{key}" if path else key


_NAMED = ("profiles", "windows")


@cache
def _known() -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Tables and keys of the configuration, keys.toml not among them."""
    own = [key for key in declared() if not key.table.startswith("keys.toml")]
    return frozenset({key.table for key in own} | set(_NAMED)), frozenset((key.table, key.key) for key in own)


def _plain(value: Any) -> Any:
    match value:
        case str():
            suspect = _LIKE_A_KEY.search(value) or _CREDENTIALS.match(value)
            return HIDDEN if suspect else value
        case bool() | int() | float():
            return value
        case list():
            return [_plain(entry) for entry in value]
        case date() | time():
            return value.isoformat()
        case _:
            return HIDDEN
