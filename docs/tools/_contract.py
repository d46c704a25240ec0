"""What goes over MQTT, as the gateway has it: its topics, and the JSON Schemas of the code made into one set of
components that an AsyncAPI document can hold. The tests hold every message against the very same.

AsyncAPI 3.0 takes JSON Schema draft 07, so what the schemas of the code say in words of 2020-12 is said in its words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gateway.control.schema import schema
from gateway.control.verbs import VERBS

Schema = dict[str, Any]

BASE = "{root}/{gateway}"
REFERENCE = "#/components/schemas/"
ID = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic beneath `{root}/{gateway}/`."""

    name: str
    address: str
    down: bool
    """To the gateway."""
    qos: int
    retain: bool
    message: str
    """The component that its payload is by; "" for octets, "command" and "reply" are one for each verb."""
    what: str


CHANNELS = (
    Channel("command", "cmd/{verb}", True, 1, False, "command", "An order. One that is retained is never done."),
    Channel(
        "reply", "rsp", False, 1, False, "reply",
        "The answers to commands without a response topic, and to those over MQTT 3.1.1.",
    ),
    Channel(
        "replyTo", "rsp/{place}", False, 1, False, "reply",
        "The answers to a command that named this response topic, with its correlation data.",
    ),
    Channel("state", "state", False, 1, True, "state", "Whether the gateway is connected; also its Will."),
    Channel("info", "info", False, 1, True, "info", "What it is, and what it takes."),
    Channel(
        "campaign", "campaign/{campaign_id}", False, 1, True, "campaign",
        "A campaign as it is now. Emptied when it is forgotten, `[gateway] retention` after its end.",
    ),
    Channel(
        "job", "campaign/{campaign_id}/job/{meter}", False, 1, True, "job",
        "One meter of a campaign as it is now. Emptied with its campaign.",
    ),
    Channel("fetchProgress", "progress/{campaign_id}", False, 0, False, "fetch", "How far the image of a campaign is."),
    Channel("progress", "progress/{campaign_id}/{meter}", False, 0, False, "progress", "How far a meter is."),
    Channel("event", "event", False, 1, False, "event", "The audit: every change of state, and who asked for it."),
    Channel(
        "alarm", "alarm/{code}", False, 1, True, "alarm",
        "What an operator should look at. Emptied when it is over.",
    ),
    Channel("imageGet", "image/{sha256}/get", False, 1, False, "get", "What of an image is still missing here."),
    Channel("imageBlock", "image/{sha256}/block/{n}", True, 0, False, "", "The octets of block n, nothing else."),
)  # fmt: skip

PARAMETERS: Mapping[str, tuple[str, str]] = {
    "root": (r"[^+#]+", "`[mqtt] root` of the configuration, which may have several levels."),
    "gateway": (ID, "`[gateway] id` of the configuration."),
    "verb": (r"[a-z]+(\.[a-z]+)?", "What is ordered."),
    "place": (r"[A-Za-z0-9._/-]+", "Whatever the sender of the command chose, of one level or several."),
    "campaign_id": (ID, "Chosen by whoever submitted the campaign."),
    "meter": (ID, "A meter of the gateway."),
    "code": (rf"[a-z-]+(\.{ID})?", "The kind of the alarm; where it is about a line, a dot and its name."),
    "sha256": (r"[0-9a-f]{64}", "Of the image."),
    "n": (r"0|[1-9][0-9]{0,8}", "The number of the block, from 0."),
}
"""What may stand in a topic in place of each name, and what it means."""


def channel_of(beneath: str) -> Channel | None:
    """The channel of a topic, without its `{root}/{gateway}/`."""
    return next((one for one, pattern in _patterns() if pattern.fullmatch(beneath)), None)


@cache
def _patterns() -> list[tuple[Channel, re.Pattern[str]]]:
    def filled(match: re.Match[str]) -> str:
        return f"(?:{PARAMETERS[match[1]][0]})"

    return [(one, re.compile(re.sub(r"\{(\w+)\}", filled, one.address))) for one in CHANNELS]


@cache
def components() -> dict[str, Schema]:
    """Every schema by its name: those of documents, `{verb}.args`, `{verb}.accepted` and `{verb}.done`, the whole
    `command.{verb}` and `reply.{verb}`, and what they share."""
    found: dict[str, Schema] = {}
    for file in _FILES:
        document = _manifest() if file == "manifest" else schema(file)
        inner: Mapping[str, Schema] = document.get("$defs", {})
        names = {name: _name(file, name, one, found) for name, one in inner.items()}
        for name, one in inner.items():
            found[names[name]] = {**found.get(names[name], {}), **_converted(one, names)}
        if file != "answer":
            found[file] = _converted(_without(document, "$schema", "$defs"), names)
    for verb, known in VERBS.items():
        found[f"command.{verb}"] = _command(verb)
        found[f"reply.{verb}"] = _reply(verb, found)
        assert known.name == verb
    return found


_FILES = (
    "answer", "reply", "campaign", "job", "event", "alarm", "state", "info", "progress", "fetch", "get", "command",
    "manifest",
)  # fmt: skip


def _manifest() -> Schema:
    document: Schema = json.loads(
        files("gateway.supply").joinpath("schemas/manifest.json").read_text("utf-8")
    )
    return document


def _name(file: str, name: str, one: Schema, found: Mapping[str, Schema]) -> str:
    """A definition that two files share has one name; where they mean two things by it, it is named after its file."""
    verb = name.removesuffix(".accepted")
    if verb in VERBS:
        kind = {"command": "args", "answer": "done"}[file]
        return name if verb != name else f"{verb}.{kind}"
    known, new = found.get(name), _converted(one, {})
    same = known is None or _without(known, "description") == _without(new, "description")
    return name if same else f"{file}.{name}"


def _without(document: Mapping[str, Any], *names: str) -> Schema:
    return {name: value for name, value in document.items() if name not in names}


def _converted(node: Any, names: Mapping[str, str]) -> Any:
    """`node` in the words of draft 07, which sees nothing beside a `$ref`, with its references into the components."""
    match node:
        case {"$ref": str(target), **beside}:
            reference = {"$ref": REFERENCE + _target(target, names)}
            return {"allOf": [reference], **_converted(beside, names)} if beside else reference
        case dict():
            renamed = {_DRAFT_07.get(name, name): value for name, value in node.items()}
            return {name: _converted(value, names) for name, value in renamed.items()}
        case list():
            return [_converted(value, names) for value in node]
        case _:
            return node


_DRAFT_07 = {"dependentRequired": "dependencies"}


def _target(reference: str, names: Mapping[str, str]) -> str:
    inner = reference.removeprefix("#/$defs/")
    return names.get(inner, inner) if inner != reference else reference.removesuffix(".json")


def _ref(name: str) -> Schema:
    return {"$ref": REFERENCE + name}


def _command(verb: str) -> Schema:
    args = {"properties": {"verb": {"const": verb}, "args": _ref(f"{verb}.args")}}
    return {"title": f"Command {verb}", "allOf": [_ref("command"), args]}


def _reply(verb: str, found: Mapping[str, Schema]) -> Schema:
    accepted = f"{verb}.accepted"
    data = {
        "accepted": _ref(accepted if accepted in found else "empty"),
        "done": _ref(f"{verb}.done"),
        "rejected": _ref("refusal"),
        "failed": {"anyOf": [_ref("refusal"), _ref(f"{verb}.done")]},
    }
    cases = [
        {"if": {"properties": {"status": {"const": status}}}, "then": {"properties": {"data": one}}}
        for status, one in data.items()
    ]
    return {"title": f"Reply to {verb}", "allOf": [_ref("reply"), *cases]}


def references(node: Any) -> Iterator[str]:
    """The names of all components that a schema refers to."""
    match node:
        case dict():
            for name, value in node.items():
                if name == "$ref":
                    yield str(value).removeprefix(REFERENCE)
                yield from references(value)
        case list():
            for value in node:
                yield from references(value)
