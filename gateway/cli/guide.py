"""The end of each command's help, and of its part of the manual: what its arguments are, examples, exit status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

ARGUMENTS = {
    "meter": "A meter's id, as `meters` lists them.",
    "port": "A line's name, as `ports` lists them.",
    "campaign_id": "An order's name, as `campaign ls` lists them.",
    "digest": "An image's SHA-256, or its first digits as `image ls` shows them.",
    "attribute": "Such as 1-0:1.8.0.255:2, or with its class 70/0-0:96.3.10.255:2.",
    "counter adopt value": "The next invocation counter.",
    "port hold name": "A line's name, as `ports` lists them.",
    "port release name": "A line's name, as `ports` lists them.",
    "image add source": "A file here, or https://...",
    "image keygen name": "What the two files are called, without their endings.",
    "image serve file": "The image.",
    "image sign image": "The image; left out with --add.",
    "update file": "The firmware, as its maker hands it out.",
    "window set name": "What orders call it.",
    "state export file": "A new file; it is never written over.",
    "state import file": "What `state export` wrote.",
}
"""By the command and the argument, else by the argument."""

EXAMPLES = {
    "run": ("meter-gateway run", "meter-gateway run --verbose --config sim/gateway.toml"),
    "check": ("meter-gateway check", "meter-gateway check --config sim/gateway.toml --json"),
    "status": ("meter-gateway status", "meter-gateway status --gateway gw-001"),
    "meters": ("meter-gateway meters", "meter-gateway meters --json"),
    "meters put": (
        "meter-gateway meters put MTR0007 --port rs485-1 --address 1/23",
        (
            "meter-gateway meters put MTR0008 --port rs485-1 --address 1/24 \\\n"
            "    --profile acme-x3 --authentication hls-gmac --security both"
        ),
    ),
    "meters rm": ("meter-gateway meters rm MTR0007", "meter-gateway meters rm MTR0007 --json"),
    "read": (
        "meter-gateway read MTR0001",
        "meter-gateway read MTR0001 1-0:1.8.0.255:2       # imported energy",
        "meter-gateway read MTR0001 70/0-0:96.3.10.255:2  # with its class",
    ),
    "probe": ("meter-gateway probe MTR0001", "meter-gateway probe MTR0001 --json"),
    "counter adopt": (
        "meter-gateway counter adopt MTR0001 16777244",
        "meter-gateway counter adopt MTR0001 16777244 --json",
    ),
    "ports": ("meter-gateway ports", "meter-gateway ports --config sim/gateway.toml"),
    "port hold": (
        "meter-gateway port hold rs485-1 --for 10min",
        "meter-gateway port hold probe --for 2h --json",
    ),
    "port release": ("meter-gateway port release rs485-1", "meter-gateway port release rs485-1 --json"),
    "scan": (
        "meter-gateway scan rs485-1",
        "meter-gateway scan rs485-1 --from 16 --to 48 --timeout 1s",
    ),
    "trace": (
        "meter-gateway trace rs485-1",
        "meter-gateway trace rs485-1 --for 30s --pcapng line.pcapng",
    ),
    "image add": (
        "meter-gateway image add FW-4.1.7.bin --manifest FW-4.1.7.bin.manifest",
        (
            "meter-gateway image add https://fw.example.net/FW-4.1.7.bin \\\n"
            "    --manifest FW-4.1.7.bin.manifest"
        ),
    ),
    "image ls": ("meter-gateway image ls", "meter-gateway image ls --json"),
    "image show": ("meter-gateway image show 3f8a12", "meter-gateway image show 3f8a12 --json"),
    "image rm": ("meter-gateway image rm 3f8a12", "meter-gateway image rm 3f8a12 --json"),
    "image serve": (
        (
            "meter-gateway image serve FW-4.1.7.bin \\\n"
            "    --broker mqtts://broker.example:8883 --gateway gw-001"
        ),
        (
            "meter-gateway image serve FW-4.1.7.bin \\\n"
            "    --broker mqtts://broker.example:8883 --gateway all --rate 200KiB"
        ),
    ),
    "image keygen": (
        "meter-gateway image keygen utility",
        "meter-gateway image keygen utility --type p256 --lock",
    ),
    "image sign": (
        (
            "meter-gateway image sign FW-4.1.7.bin --key utility.key \\\n"
            "    --version 4.1.7 --profile acme-x3 --sequence 12"
        ),
        "meter-gateway image sign --add FW-4.1.7.bin.manifest --key second.key",
    ),
    "campaign submit": (
        (
            "meter-gateway campaign submit --id fw-2026-11 \\\n"
            "    --manifest FW-4.1.7.bin.manifest --meter MTR0001 --watch"
        ),
        (
            "meter-gateway campaign submit --id fw-2026-11 \\\n"
            "    --manifest FW-4.1.7.bin.manifest --all --window night --canary 1 \\\n"
            "    --soak 24h --wave 10"
        ),
    ),
    "campaign ls": ("meter-gateway campaign ls", "meter-gateway campaign ls --json"),
    "campaign show": (
        "meter-gateway campaign show fw-2026-11",
        "meter-gateway campaign show fw-2026-11 --json",
    ),
    "campaign watch": (
        "meter-gateway campaign watch fw-2026-11",
        "meter-gateway campaign watch fw-2026-11 --gateway all",
    ),
    "campaign pause": (
        "meter-gateway campaign pause fw-2026-11",
        "meter-gateway campaign pause fw-2026-11 --json",
    ),
    "campaign resume": (
        "meter-gateway campaign resume fw-2026-11",
        "meter-gateway campaign resume fw-2026-11 --sign-with utility.key",
    ),
    "campaign approve": (
        "meter-gateway campaign approve fw-2026-11",
        "meter-gateway campaign approve fw-2026-11 --sign-with utility.key",
    ),
    "campaign retry": (
        "meter-gateway campaign retry fw-2026-11",
        "meter-gateway campaign retry fw-2026-11 --json",
    ),
    "campaign cancel": (
        "meter-gateway campaign cancel fw-2026-11",
        "meter-gateway campaign cancel fw-2026-11 --json",
    ),
    "campaign report": (
        "meter-gateway campaign report fw-2026-11",
        "meter-gateway campaign report fw-2026-11 --csv",
        "meter-gateway campaign report fw-2026-11 --gateway all",
    ),
    "update": (
        "meter-gateway update MTR0001 FW-4.1.7.bin --manifest FW-4.1.7.bin.manifest",
        ("meter-gateway update MTR0001 FW-4.1.7.bin --identifier FW-4.1.7 \\\n    --expect-version 4.1.7"),
    ),
    "window ls": ("meter-gateway window ls", "meter-gateway window ls --json"),
    "window set": (
        ("meter-gateway window set holiday --start 02:00 --duration 90min \\\n    --day sat --day sun"),
        ("meter-gateway window set night --start 22:00 --duration 5h \\\n    --timezone Europe/Helsinki"),
    ),
    "events": ("meter-gateway events --since 2h", "meter-gateway events --follow --json"),
    "state export": (
        "meter-gateway state export /root/gw-001.state",
        "meter-gateway state export gw-001.state --json",
    ),
    "state import": (
        "meter-gateway state import gw-001.state",
        "meter-gateway state import gw-001.state --config sim/gateway.toml",
    ),
    "state adopt": ("meter-gateway state adopt", "meter-gateway state adopt --json"),
    "support-bundle": ("meter-gateway support-bundle", "meter-gateway support-bundle -o support.tar.gz"),
    "simulate": (
        "meter-gateway simulate --meters 3 --directory sim",
        "meter-gateway simulate --meters 2 --reboot 20,60 --fault 2:lockout=600",
    ),
    "demo": ("meter-gateway demo", "meter-gateway demo --json"),
}

_ASKS = "0 done; 1 failed or refused, code and advice are on stderr; 2 usage; 3 no daemon reached; 130 interrupted"
_WATCHES = (
    "0 every meter has it; 1 it ended otherwise, or was refused; 2 usage; 3 no daemon reached; 130 interrupted, and the"
    " daemon goes on"
)
_ALONE = "0 done; 1 failed; 2 usage or configuration; 130 interrupted"
STATUS = {
    **dict.fromkeys(("campaign watch", "update"), _WATCHES),
    "campaign submit": (
        "0 accepted, with --watch every meter has it; 1 refused, or it ended otherwise; 2 usage; 3 no daemon reached;"
        " 130 interrupted, and the daemon goes on"
    ),
    **dict.fromkeys(
        (
            "run", "check", "image keygen", "image sign", "state export", "state import", "state adopt",
            "support-bundle", "simulate", "demo",
        ),
        _ALONE,
    ),
    "image serve": "0 the gateways named have it; 1 failed; 2 usage; 3 no broker reached; 130 interrupted",
    "ports": _ALONE,
}  # fmt: skip
"""What an exit status means, where it is not as of a question to the daemon."""


def arguments(path: str, named: Iterable[click.Argument]) -> list[tuple[str, str]]:
    """What each argument of the command at `path` is: its name in the synopsis, and a sentence."""
    return [
        ((one.metavar or one.human_readable_name).strip("[]"), words)
        for one in named
        if (words := ARGUMENTS.get(f"{path} {one.name}") or ARGUMENTS.get(one.name or ""))
    ]


def examples(path: str) -> tuple[str, ...]:
    """Command lines as a shell takes them; long ones go on in the next line."""
    return EXAMPLES.get(path, ())


def status(path: str) -> str:
    """What its exit status means."""
    return STATUS.get(path, _ASKS)


def epilog(path: str, named: Sequence[click.Argument]) -> str:
    r"""As click takes it: \b stands before what keeps its lines."""
    parts = []
    if explained := arguments(path, named):
        longest = max(len(name) for name, _ in explained)
        lines = [f"  {name:{longest}}  {words}" for name, words in explained]
        parts.append("\n".join(["\b", "Arguments:", *lines]))
    if shown := examples(path):
        lines = [f"  {line}" for example in shown for line in example.split("\n")]
        parts.append("\n".join(["\b", "Examples:", *lines]))
    return "\n\n".join([*parts, f"Exit status: {status(path)}."])
