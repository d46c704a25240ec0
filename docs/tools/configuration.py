"""docs/configuration.md and the sections of gateway.toml(5): every key, from where the code reads it.

`python -m docs.tools.configuration debian/gateway.toml.5` prints the manual page with its sections filled in.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

from gateway.config.declared import Declared, declared
from gateway.config.values import Kind

PAGE = "docs/configuration.md"
SECTIONS = '.\\" SECTIONS'
"""The line of the manual page that its sections stand for."""

TITLES = {
    "gateway": "[gateway]",
    "mqtt": "[mqtt]",
    "commands": "[commands]",
    "firmware": "[firmware]",
    "windows.NAME": "[windows.NAME]",
    "page": "[page]",
    "ports": "[[ports]]",
    "meters": "[[meters]]",
    "profiles.NAME": "[profiles.NAME]",
    "profiles.NAME.match": "match of [profiles.NAME]",
    "keys.toml meters.ID": "[meters.ID] of keys.toml",
}
"""Of every table, in the order of the page."""

ABOUT = {
    "gateway": "The gateway itself.",
    "mqtt": "The broker. Without this section only the command line of this machine is listened to. The client id is "
    "`mgw-ID`, with the id of the gateway; while an image comes over the broker there is a second connection, "
    "`mgw-ID-bulk`, as the same user.",
    "commands": "What may be ordered over MQTT, and what operators must have signed there: verbs, or patterns such as "
    "`campaign.*`.",
    "firmware": "Which images are believed, and where they may come from.",
    "windows.NAME": "The hours in which campaigns that name this window may work.",
    "page": "The local status page, read-only, and its figures for Prometheus. Without this section nothing listens on "
    "any network.",
    "ports": "A line, once for each; at most 64.",
    "meters": "A meter, once for each. `wrapper` stands for a tcp port with that framing; behind one with HDLC the "
    "addresses are those of a bus.",
    "profiles.NAME": "What a model of meters needs. All of it is optional.",
    "profiles.NAME.match": "What a meter must say of itself, as in "
    '`match = { object = "0-0:96.1.1.255", pattern = "X3*" }`; looked at before initiate and before activate. Without '
    "it the meters that name the profile are believed to be of that model.",
    "keys.toml meters.ID": "The secrets of a meter. They are in no other file, and never in a command.",
}

READ_ON = {
    "mqtt": "[broker.md](broker.md), [keys-and-certificates.md](keys-and-certificates.md)",
    "commands": "[trust.md](trust.md#signed-orders)",
    "firmware": "[trust.md](trust.md), [images.md](images.md)",
    "windows.NAME": "[windows.md](windows.md)",
    "page": "[page.md](page.md)",
    "ports": "[wiring.md](wiring.md)",
    "keys.toml meters.ID": "[keys-and-certificates.md](keys-and-certificates.md)",
    "profiles.NAME": "[profiles.md](profiles.md), which says how to find out what a model needs",
}

HEAD = """\
<!-- Made from gateway/config by `make docs`: change it there. -->
# All of the configuration

`/etc/meter-gateway/gateway.toml` (`--config FILE` names another), then `conf.d/*.toml` beside it in the order of
their names: tables are merged, lists appended. `meter-gateway check` names every mistake at once, with file, key,
what was found and what is expected. A key that does not stand here is a mistake.

`systemctl reload meter-gateway` applies a change, but for `[mqtt]`, keys.toml, and `id`, `system_title`, `state_dir`
and `control_socket` of `[gateway]`, which are read at the start alone; the journal names those that wait for a restart.

Durations are text with a unit: `"90s"`, `"30min"`, `"5h"`; sizes too: `"512MiB"`. A file that is named must be there
and hold what it should. A key without default that is not **required** may be left out.
"""


def pages() -> dict[str, str]:
    """The page of the configuration."""
    return {PAGE: "\n".join([HEAD, *_markdown()]) + "\n"}


def manual(template: str) -> str:
    """The manual page, its sections in place of their line."""
    return template.replace(SECTIONS, "\n".join(_roff()))


def _tables() -> Iterator[tuple[str, list[Declared]]]:
    """Each table with its keys, those first that are required."""
    by_table = {
        name: list(keys) for name, keys in groupby(sorted(declared(), key=_place), key=lambda key: key.table)
    }
    for name, keys in by_table.items():
        yield name, sorted(keys, key=lambda key: not key.required)


def _place(key: Declared) -> int:
    if key.table not in TITLES:
        raise KeyError(f"docs/tools/configuration.py: say in TITLES and ABOUT what [{key.table}] is")
    return list(TITLES).index(key.table)


def _markdown() -> Iterator[str]:
    for name, keys in _tables():
        about = ABOUT[name]
        yield f"## `{TITLES[name]}`\n"
        yield f"{about} See also {READ_ON[name]}.\n" if name in READ_ON else f"{about}\n"
        yield "| key | value | default | what it is for |\n|---|---|---|---|"
        for key in keys:
            default = _default(key)
            cells = f"`{key.key}`", takes(key), f"`{default}`" if default else _need(key), key.about
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        yield ""


def _roff() -> Iterator[str]:
    for name, keys in _tables():
        yield f'.SH "{_escaped(TITLES[name])}"\n{_escaped(ABOUT[name])}'
        for key in keys:
            default = _default(key)
            remark = f"default: {default}" if default else _need(key).strip("*")
            yield f".TP\n\\fB{_escaped(key.key)}\\fR" + (f" ({_escaped(remark)})" if remark else "")
            yield _escaped(f"{key.about} A value is {takes(key)}.")


def _escaped(text: str) -> str:
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    words = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", plain)
    return f"\\&{words}" if words[:1] in ".'" else words


# -- what is said of a key ------------------------------------------------------------------------------------


def takes(key: Declared) -> str:
    """What its value may be; by kinds of lines where they differ."""
    sense = {line: kind.expected for line, kind in key.kinds.items() if line not in key.refused}
    texts = list(dict.fromkeys(sense.values()))
    if len(texts) == 1:
        said = texts[0]
    else:
        said = "; ".join(f"{_lines(line for line in sense if sense[line] == text)}: {text}" for text in texts)
    return said + (f"; not for {_lines(key.refused)}" if key.refused else "")


def _lines(names: Iterable[str]) -> str:
    return ", ".join(sorted(names, key=["rs485", "optical", "tcp", "wrapper"].index))


def _need(key: Declared) -> str:
    """Whether it is required, and where."""
    sense = [line for line in key.kinds if line not in key.refused]
    if not key.required:
        return ""
    everywhere = set(sense) == key.required
    return "**required**" if everywhere else f"**required** for {_lines(key.required)}"


def _default(key: Declared) -> str:
    """As it would be written; empty where it says for itself what holds without it, or there is none."""
    if key.required or "Without it" in key.about:
        return ""
    shown = {
        _written(key.kinds[line], default)
        for line, default in key.defaults.items()
        if line not in key.refused
    }
    return shown.pop() if len(shown) == 1 else ""


def _written(kind: Kind[Any], value: Any) -> str:
    """A default in TOML, if the kind takes it back as the same."""
    for text in _spellings(value):
        try:
            if kind.read(tomllib.loads(f"it = {text}")["it"]) == value:
                return text
        except ValueError:
            continue
    return "" if value != () else "[]"


_UNITS_S = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 0.001))
_UNITS_BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def _spellings(value: Any) -> Iterator[str]:
    match value:
        case bool():
            yield str(value).lower()
        case StrEnum():
            yield f'"{value.value}"'
        case int() | float():
            yield str(value)
            for unit, factor in (*_UNITS_S, *_UNITS_BYTES):
                if (count := round(value / factor, 9)) >= 1 and count == int(count):
                    yield f'"{int(count)}{unit}"'
            yield '"0s"'
        case str() | Path():
            yield f'"{value}"'
        case tuple():
            yield "[" + ", ".join(next(_spellings(entry), "") for entry in value) + "]"


if __name__ == "__main__":
    print(manual(Path(sys.argv[1]).read_text("utf-8")), end="")
