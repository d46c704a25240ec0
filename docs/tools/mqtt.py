"""docs/asyncapi.yaml, what goes over MQTT as AsyncAPI 3.0.0 has it, and docs/mqtt.md, the same for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docs.tools import _examples as examples
from docs.tools._contract import BASE, CHANNELS, PARAMETERS, REFERENCE, Channel, Schema, components
from gateway.control.signed import COMMAND_TYPE
from gateway.control.verbs import VERBS
from gateway.errors import ADVICE
from gateway.model import CampaignState, CommandSettings, JobState
from gateway.store.documents import ALARM_ADVICE
from gateway.supply.manifest import MANIFEST_TYPE

BINDING = "0.2.0"
"""Version of AsyncAPI's MQTT bindings."""

RULES = """\
**Commands.** Publish one at QoS 1, without the retain flag, to `cmd/{verb}`: at most 64 KiB of JSON. \
`cmd_id` is a UUID that you choose. The same id with the same content is answered from what is stored, \
and nothing is done twice, until a day after `expires`; with other content it is `E_CONFLICT`. `expires` \
is at most 7 days after `issued`. Expired, retained, malformed, oversized, not allowed (`[commands] \
mqtt_verbs`), not signed (`signed_verbs`): rejected with a code. While the gateway's clock is not \
trusted, what changes something is refused with `E_CLOCK`.

**Replies.** The first one comes when the command is durable: `rejected`, `done`, or `accepted`; after \
`accepted` comes `done` or `failed` when the work has ended. They go to the response topic that the \
command names beneath `rsp/`, with its correlation data (at most 256 octets; longer data is left out), \
else to `rsp`. With MQTT 3.1.1, which has neither, to `rsp`: `cmd_id` tells what they answer. A reply \
that the broker takes in no packet is replaced by one that says so (`E_STATE`).

**What is told at QoS 1** waits on the gateway's disk while the broker is away, in order, and is deleted \
when the broker has acknowledged it. After a crash some of it may come twice: snapshots are known by \
`rev`, events by `epoch` and `seq`, replies by `cmd_id` and status. Of a retained topic only the newest \
message waits. From 80 % of `[mqtt] outbox_limit` on new campaigns get `E_BUSY`, from 95 % on no further \
meter is begun.

**The Will** stands on `state` like the message that it replaces. One that comes late, when the gateway \
is connected again, has the `session` of the connection that was lost: it counts only where the state \
before has the same.

**Events** have no gap in `seq` within an `epoch`. Whoever sees one, or was away for longer than the \
broker keeps a session, asks for what is missing with `event.list`: `after` the last `seq`, in its \
`epoch`. A new epoch begins where the state had to be made anew, was imported or adopted; after the \
latter two `seq` goes on.

**Retained snapshots** are emptied `[gateway] retention` after a campaign's end (90 days), alarms when \
they are over."""


INTRODUCTION = """\
This page is made from [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3.0.0, with the JSON Schemas of everything) by \
`make docs`. How a head-end is written: [head-end.md](head-end.md); how the broker is set up: [broker.md](broker.md). \
Images as blocks: [mqtt-images.md](mqtt-images.md). Signed orders: [trust.md](trust.md). What codes mean: \
[operations.md](operations.md)."""


def pages() -> dict[str, str]:
    document = asyncapi()
    return {
        "docs/asyncapi.yaml": f"# Made by docs/tools/mqtt.py from the program: `make docs`.\n{_yaml(document)}",
        "docs/mqtt.md": _page(document),
    }


# -- the document ---------------------------------------------------------------------------------------------


def asyncapi() -> Schema:
    schemas = {**components(), **_envelopes()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "meter-gateway over MQTT",
            "version": "1",
            "description": f"A gateway's side of what goes over MQTT 5, or 3.1.1.\n\n{RULES}",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": dict(_operations()),
        "components": {
            "schemas": schemas,
            "messages": dict(_messages()),
            "parameters": {
                name: {"description": f"{what} By the expression `{pattern}`."}
                for name, (pattern, what) in PARAMETERS.items()
            },
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": "Of the gateway; its name is the gateway's id.",
                },
                "password": {"type": "userPassword"},
            },
        },
    }


def verbs() -> list[str]:
    """Those that may come over MQTT."""
    return [name for name, verb in VERBS.items() if not verb.local]


def _envelopes() -> dict[str, Schema]:
    """What may stand in place of a command, and what an order carries beside its image."""

    def of(kind: str, what: str) -> Schema:
        return {
            "description": what,
            "allOf": [{"$ref": f"{REFERENCE}envelope"}, {"properties": {"payloadType": {"const": kind}}}],
        }

    return {
        "signedCommand": of(
            COMMAND_TYPE,
            "A DSSE envelope in place of a command; its payload is the base64 of `signedContent`.",
        ),
        "signedContent": {
            "type": "object",
            "properties": {
                "gateway": {"$ref": f"{REFERENCE}id"},
                "verb": {"enum": verbs()},
                "command": {"$ref": f"{REFERENCE}command"},
            },
            "required": ["gateway", "verb", "command"],
            "additionalProperties": False,
        },
        "signedManifest": of(
            MANIFEST_TYPE, "A DSSE envelope; its payload is the base64 of exactly the octets of a `manifest`."
        ),
    }


def _servers() -> Schema:
    will = {"topic": f"{BASE}/state", "qos": 1, "retain": True}
    binding = {
        "clientId": "mgw-{gateway}", "cleanSession": False, "keepAlive": 60, "sessionExpiryInterval": 604_800,
        "maximumPacketSize": 1_048_576, "lastWill": {**will, "message": "a state with online false"},
        "bindingVersion": BINDING,
    }  # fmt: skip
    security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("certificate", "password")]
    variables = {"host": {"description": "Of the broker, as in `[mqtt] url`."}}
    common = {"security": security, "variables": variables, "bindings": {"mqtt": binding}}
    return {
        "broker": {
            "host": "{host}:8883", "protocol": "secure-mqtt", "protocolVersion": "5.0",
            "description": "MQTT 5 over TLS; a broker that refuses it is spoken to in 3.1.1.", **common,
        },
        "loopback": {
            "host": "127.0.0.1:1883", "protocol": "mqtt", "protocolVersion": "5.0",
            "description": "Without TLS: on the gateway itself, or where `allow_plaintext` says so.",
            **{key: value for key, value in common.items() if key != "variables"},
        },
    }  # fmt: skip


def _message_names(channel: Channel) -> list[str]:
    match channel.name:
        case "command":
            return [*(f"command.{verb}" for verb in verbs()), "signedCommand"]
        case "reply" | "replyTo":
            return [f"reply.{verb}" for verb in verbs()]
        case _:
            return [channel.message or channel.name]


def _channel(channel: Channel) -> Schema:
    address = f"{BASE}/{channel.address}"
    names = re.findall(r"\{(\w+)\}", address)
    parameters: Schema = {name: {"$ref": f"#/components/parameters/{name}"} for name in names}
    if channel.name == "command":
        parameters["verb"] = {"description": PARAMETERS["verb"][1], "enum": verbs()}
    return {
        "address": address,
        "description": channel.what,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(channel)},
        "parameters": parameters,
    }


def _messages() -> Iterator[tuple[str, Schema]]:
    for verb in verbs():
        commands = [{"name": "ordered", "payload": examples.parsed(examples.command(verb))}]
        yield f"command.{verb}", _message(f"Command {verb}", f"command.{verb}", commands, correlated=True)
        done = {"name": "done", "payload": examples.parsed(examples.reply(verb))}
        first = {"name": "accepted", "payload": examples.parsed(examples.accepted(verb))}
        refused = {"name": "rejected", "payload": examples.parsed(examples.rejected())}
        later = verb in TWO_PHASES
        replies = [*([first] if later else []), done, *([refused] if verb == "campaign.cancel" else [])]
        yield f"reply.{verb}", _message(f"Reply to {verb}", f"reply.{verb}", replies, correlated=True)
    yield "signedCommand", _message("Signed command", "signedCommand", [])
    for name, document in examples.DOCUMENTS.items():
        title = str(components()[name]["title"])
        yield name, _message(title, name, [{"name": "told", "payload": examples.parsed(document)}])
    yield (
        "imageBlock",
        {
            "title": "Block",
            "contentType": "application/octet-stream",
            "payload": {
                "type": "string",
                "format": "binary",
                "description": "Octets of the image, as they are.",
            },
        },
    )


TWO_PHASES = (
    "port.scan", "port.hold", "meter.put", "meter.delete", "meter.read", "meter.probe", "image.fetch",
    "campaign.submit", "agent.reload",
)  # fmt: skip
"""Verbs that are accepted first, and done later."""


def _message(title: str, schema: str, shown: list[Schema], *, correlated: bool = False) -> Schema:
    message: Schema = {
        "title": title,
        "contentType": "application/json",
        "payload": {"$ref": f"{REFERENCE}{schema}"},
    }
    if correlated:
        message["correlationId"] = {"location": "$message.payload#/cmd_id"}
    return {**message, **({"examples": shown} if shown else {})}


def _operations() -> Iterator[tuple[str, Schema]]:
    for verb in verbs():
        described = components()[f"{verb}.args"].get("description", "")
        yield (
            f"do.{verb}",
            {
                "action": "receive",
                "title": verb,
                **({"description": described} if described else {}),
                "channel": {"$ref": "#/channels/command"},
                "messages": [{"$ref": f"#/channels/command/messages/command.{verb}"}],
                "bindings": _binding(CHANNELS[0]),
                "reply": {
                    "channel": {"$ref": "#/channels/reply"},
                    "messages": [{"$ref": f"#/channels/reply/messages/reply.{verb}"}],
                },
            },
        )
    yield (
        "do.signed",
        {
            "action": "receive",
            "title": "any verb, signed by operators",
            "channel": {"$ref": "#/channels/command"},
            "messages": [{"$ref": "#/channels/command/messages/signedCommand"}],
            "bindings": _binding(CHANNELS[0]),
        },
    )
    for channel in CHANNELS[1:]:
        yield (
            ("take." if channel.down else "tell.") + channel.name,
            {
                "action": "receive" if channel.down else "send",
                "channel": {"$ref": f"#/channels/{channel.name}"},
                "summary": channel.what,
                "bindings": _binding(channel),
            },
        )


def _binding(channel: Channel) -> Schema:
    return {"mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": BINDING}}


# -- YAML -----------------------------------------------------------------------------------------------------


def _yaml(node: Any, indent: str = "") -> str:
    """Block style; every text in quotes, as JSON has it, which is YAML 1.2 as well."""
    match node:
        case dict() if node:
            return "".join(f"{indent}{_key(name)}:{_value(value, indent)}" for name, value in node.items())
        case list() if node:
            return "".join(f"{indent}-{_value(value, indent)}" for value in node)
        case _:
            return f"{indent}{json.dumps(node, ensure_ascii=False)}\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z$][\w.$-]*", name) and name not in _YAML_WORDS else json.dumps(name)


_YAML_WORDS = frozenset({"y", "Y", "n", "N", "yes", "no", "on", "off", "true", "false", "null"})


def _value(value: Any, indent: str) -> str:
    if isinstance(value, dict | list) and value:
        return f"\n{_yaml(value, indent + '  ')}"
    return f" {json.dumps(value, ensure_ascii=False)}\n"


# -- the page -------------------------------------------------------------------------------------------------


def _page(document: Schema) -> str:
    messages = document["components"]["messages"]
    parts = [
        "# What goes over MQTT",
        INTRODUCTION,
        "## Rules",
        RULES,
        "## Topics",
        f"Beneath `{BASE}/`; `root` is `mgw/v1` unless `[mqtt] root` says otherwise.",
        _topics(),
        "## Commands",
        "Every command looks like this one, to `cmd/campaign.submit`. What stands in brackets may be left out.",
        _json(examples.command("campaign.submit")),
        *(part for verb in verbs() for part in _verb(verb, messages)),
        "## What is told",
        *(part for name in examples.DOCUMENTS for part in _document(name)),
        "## States, codes and alarms",
        "A campaign is " + _words(CampaignState) + ". A meter of it is " + _words(JobState) + ".",
        _table(("Code", "What to do"), [(f"`{code}`", advice) for code, advice in ADVICE.items()]),
        _table(("Alarm", "What to do"), [(f"`{kind}`", advice) for kind, advice in ALARM_ADVICE.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _words(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _topics() -> str:
    rows = [
        (
            f"`{one.address}`", "to the gateway" if one.down else "from the gateway", str(one.qos),
            "yes" if one.retain else "", one.what,
        )
        for one in CHANNELS
    ]  # fmt: skip
    return _table(("Topic", "Way", "QoS", "Retained", "What"), rows)


def _verb(verb: str, messages: Mapping[str, Schema]) -> Iterator[str]:
    from fnmatch import fnmatchcase

    args = _resolved(components()[f"{verb}.args"])
    open_ = any(fnmatchcase(verb, pattern) for pattern in CommandSettings().mqtt_verbs)
    yield f"### {verb}"
    described = [args.get("description", ""), "" if open_ else "Over MQTT only where `mqtt_verbs` names it."]
    if text := " ".join(filter(None, described)):
        yield text
    if args.get("properties"):
        yield _fields(args)
    if examples.ARGS[verb]:
        yield _json(examples.ARGS[verb], "`args`:")
    shown = {one["name"]: one["payload"]["data"] for one in messages[f"reply.{verb}"]["examples"]}
    yield _json(shown["done"], "`data` of the reply that is `done`" + _first(verb) + ":")


def _first(verb: str) -> str:
    return ", after one that is `accepted`" if verb in TWO_PHASES else ""


def _document(name: str) -> Iterator[str]:
    schema = components()[name]
    yield f"### {schema['title']}"
    yield str(schema["description"])
    yield _fields(schema)
    yield _json(examples.parsed(examples.DOCUMENTS[name]))


def _fields(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`" if name in required else f"[`{name}`]", _kind(one), _described(one))
        for name, one in schema["properties"].items()
    ]
    return _table(("Field", "Kind", ""), rows)


def _resolved(schema: Schema) -> Schema:
    """What a schema says, with that of the one it refers to."""
    while "$ref" in schema:
        schema = components()[schema["$ref"].removeprefix(REFERENCE)]
    return schema


def _described(schema: Schema) -> str:
    if "description" in schema:
        return str(schema["description"])
    refers = schema.get("$ref", "")
    return str(_resolved(schema).get("description", "")) if refers else ""


def _kind(schema: Schema) -> str:
    match schema:
        case {"$ref": str()}:
            return _kind(_resolved(schema))
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": list(values)} if len(values) <= 12:
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"enum": _}:
            return "text, see below"
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": list(kinds)}:
            return " or ".join(_KINDS[kind] for kind in kinds)
        case {"type": str(kind)}:
            return _KINDS[kind]
        case {"oneOf": list(ways)} | {"anyOf": list(ways)}:
            return " or ".join(dict.fromkeys(_kind(way) for way in ways))
        case {"allOf": [first, *_]}:
            return _kind(first)
        case _:
            return "any"


_KINDS = {
    "string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "object",
    "array": "list", "null": "null",
}  # fmt: skip


def _json(document: Any, before: str = "") -> str:
    text = json.dumps(examples.parsed(document), ensure_ascii=False, indent=1)
    block = f"```json\n{text}\n```"
    return f"{before}\n\n{block}" if before else block


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
