"""meter-gateway.1, made from what the command itself says of its subcommands and options; to stdout."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

import click

from gateway.cli import guide
from gateway.cli.root import root

FILES = (
    ("/etc/meter-gateway/gateway.toml", "the configuration, see gateway.toml(5)"),
    ("/etc/meter-gateway/conf.d/*.toml", "more of it, read after it in the order of their names"),
    ("/etc/meter-gateway/keys.toml", "the meters' keys, mode 0600, owned by meter-gateway"),
    ("/etc/credstore/keys.toml", "the same as a systemd credential, owned by root; taken where there is one"),
    ("/etc/credstore/mqtt-password", "the broker's password as a systemd credential"),
    ("/var/lib/meter-gateway", "state: campaigns, invocation counters, images"),
    ("/run/meter-gateway/control.sock", "where the daemon listens, for members of the group meter-gateway"),
)
SERVICE = """\
The service meter-gateway.service runs \\fBmeter-gateway run\\fR as the user meter-gateway.
\\fBsystemctl status meter-gateway\\fR shows in its Status line what it does, or what it lacks.
A mistake in the configuration ends it with status 2 and is not tried again: correct it and start the service.
The lines of the journal have the fields METER, PORT, CAMPAIGN and CODE:
.PP
.RS 4
.nf
journalctl -u meter-gateway METER=MTR0001
journalctl -u meter-gateway CAMPAIGN=fw-2026-11 -o verbose
.fi
.RE"""
STATUS = (
    ("0", "done"),
    ("1", "the operation failed; code and advice are on stderr"),
    ("2", "usage or configuration"),
    ("3", "no daemon or broker was reached"),
    ("130", "interrupted; work in the daemon goes on"),
)


def page() -> Iterator[str]:
    """The lines of the page."""
    day = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
    context = click.Context(root, info_name="meter-gateway")
    yield f'.TH METER-GATEWAY 1 "{day}" "meter-gateway" "User Commands"'
    yield ".SH NAME\nmeter-gateway \\- firmware updates for electricity meters (DLMS/COSEM)"
    yield ".SH SYNOPSIS\n.B meter-gateway\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield f".SH DESCRIPTION\n{roff(root.help)}"
    yield ".SH OPTIONS"
    yield from options(root, context)
    yield ".SH COMMANDS"
    yield from commands(root, context)
    yield f".SH SERVICE\n{SERVICE}"
    yield ".SH EXIT STATUS"
    for status, meaning in STATUS:
        yield f".TP\n.B {status}\n{roff(meaning)}"
    yield ".SH FILES"
    for file, what in FILES:
        yield f".TP\n.I {roff(file)}\n{roff(what)}"
    yield ".SH SEE ALSO\n.BR gateway.toml (5),\n.BR systemd.exec (5),\n.BR mosquitto_pub (1)"


def commands(group: click.Group, context: click.Context) -> Iterator[str]:
    """Each subcommand below `group`, with its options."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".SS {roff(inner.command_path.removeprefix('meter-gateway '))} {roff(usage)}"
        yield roff(command.help)
        path = inner.command_path.removeprefix("meter-gateway ")
        for argument, words in guide.arguments(path, arguments(command)):
            yield f".TP\n.I {roff(argument)}\n{roff(words)}"
        yield from options(command, inner)
        shown = "\n".join(guide.examples(path)).replace("\\", "\\e").replace("-", "\\-")
        yield f".PP\n.RS 4\n.nf\n{shown}\n.fi\n.RE"


def arguments(command: click.Command) -> list[click.Argument]:
    return [one for one in command.params if isinstance(one, click.Argument)]


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Those of the command, but the ones that every command has, which are those of the root."""
    everywhere = (
        {_told(parameter) for parameter in root.get_params(context.find_root())}
        if command is not root
        else set()
    )
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or _told(parameter) in everywhere:
            continue
        yield f".TP\n.B {roff(record[0])}\n{roff(record[1])}"


def _told(parameter: click.Parameter) -> tuple[str | None, str | None]:
    """An option of a command that is the root's own as well says the same."""
    return parameter.name, getattr(parameter, "help", None)


def roff(text: str | None) -> str:
    """Text with what roff would take for its own escaped, paragraphs apart."""
    escaped = (text or "").replace("\\", "\\e").replace("-", "\\-").replace("\b\n", "")
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", escaped))
    return "\n.PP\n".join(("\\&" + part) if part[:1] in (".", "'") else part for part in paragraphs if part)


if __name__ == "__main__":
    print("\n".join(page()))
