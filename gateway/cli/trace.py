"""`trace`: what goes over a line, frame by frame, while it goes.

The daemon takes the frames apart and knows what must not be shown; here they are asked for five times a second, and
shown: in lines, as JSON, in a pcapng file.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import click

from gateway.cli.client import Document, GatewayClient, RefusedError
from gateway.cli.completion import PORTS
from gateway.cli.pcapng import PcapngWriter
from gateway.cli.root import Desk, Exit, InterruptedWatchError, shared_options
from gateway.cli.text import safe, say_json
from gateway.config import values
from gateway.errors import Code, GatewayError

_ASK_EVERY_S = 0.2
_OCTETS_SHOWN = 32
_ARROWS = {"to_meter": "->", "from_meter": "<-", None: "--"}
_COLOURS = {"to_meter": "cyan", "from_meter": "green", None: "bright_black"}
_DURATION = values.duration("100ms", "7d")


def _seconds(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else _DURATION.read(text)
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected {_DURATION.expected}") from None


@click.command()
@click.argument("port", shell_complete=PORTS)
@click.option(
    "--decipher", is_flag=True, help="Show ciphered APDUs deciphered: for root, and told in the audit."
)
@click.option(
    "--pcapng",
    metavar="FILE",
    help="Write the frames to FILE for Wireshark as well; - writes them to stdout only.",
)
@click.option("--for", "for_s", metavar="TIME", callback=_seconds, help='End after this time, as in "30s".')
@click.option("--count", type=click.IntRange(min=1), help="End after so many frames.")
@click.option(
    "--octets",
    type=click.IntRange(min=0),
    default=_OCTETS_SHOWN,
    show_default=True,
    help="So many octets of each frame are shown.",
)
@shared_options
@click.pass_obj
def trace(
    desk: Desk,
    /,
    port: str,
    *,
    decipher: bool,
    pcapng: str | None,
    for_s: float | None,
    count: int | None,
    octets: int,
) -> int:
    """Show what goes over PORT, frame by frame, until Ctrl-C.

    Times are in UTC; -> goes to a meter, <- comes from one. Passwords and keys are never shown, deciphered or not:
    asterisks (2a) stand in their place, in the file as well."""
    seen = 0
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(desk.connect())
        watch = stack.enter_context(contextlib.closing(_Watch(desk, client, port, decipher=decipher)))
        file = stack.enter_context(_capture(pcapng, port)) if pcapng else None
        quiet = pcapng == "-"
        end_s = None if for_s is None else time.monotonic() + for_s
        try:
            for frame in watch.frames(end_s):
                if file and "octets" in frame:
                    _capture_frame(file, frame, watch.take_lost())
                if desk.as_json and not quiet:
                    say_json({"port": port, **frame})
                elif not quiet:
                    _show(frame, octets)
                seen += frame["kind"] != "line"
                if count is not None and seen >= count:
                    break
        except KeyboardInterrupt:
            raise InterruptedWatchError(
                f"no longer watching {port}, {seen} frames seen; the daemon goes on"
            ) from None
    return Exit.DONE


class _Watch:
    """A watch of the daemon's, begun anew where it was left for too long (Ctrl-Z)."""

    def __init__(self, desk: Desk, client: GatewayClient, port: str, *, decipher: bool) -> None:
        self._desk = desk
        self._client = client
        self._args: Document = {"port": port, **({"decipher": True} if decipher else {})}
        self._name = self._begin()
        self._lost = 0

    def close(self) -> None:
        """Tell the daemon that it is over; by another connection, since Ctrl-C may have cut an answer in two."""
        with contextlib.suppress(GatewayError), self._desk.connect() as client:
            client.ask("port.trace", {"port": self._args["port"], "watch": self._name, "end": True})

    def take_lost(self) -> int:
        """How many pieces are missing since this was asked last."""
        lost, self._lost = self._lost, 0
        return lost

    def frames(self, end_s: float | None) -> Iterator[Document]:
        """What goes over the line, until `end_s` (monotonic). Raises RefusedError and NoDaemonError."""
        while end_s is None or time.monotonic() < end_s:
            try:
                told = self._client.ask("port.trace", {"port": self._args["port"], "watch": self._name})[
                    "data"
                ]
            except RefusedError as error:
                if error.reason != Code.E_NOT_FOUND:
                    raise
                self._name = self._begin()
                continue
            self._lost += told["lost"]
            yield from told["frames"]
            if not told["more"]:
                left_s = _ASK_EVERY_S if end_s is None else min(_ASK_EVERY_S, end_s - time.monotonic())
                time.sleep(max(0.0, left_s))

    def _begin(self) -> str:
        return str(self._client.ask("port.trace", self._args)["data"]["watch"])


# -- lines ----------------------------------------------------------------------------------------------------


def _show(frame: Document, octets: int) -> None:
    way = frame["direction"]
    head = f"{frame['at'][11:]} {_ARROWS[way]} {frame['meter'] or ''}".rstrip()
    wrong = click.style(f" {safe(frame['wrong'])}", fg="red") if "wrong" in frame else ""
    click.echo(click.style(head, fg=_COLOURS[way]) + f" {safe(sentence(frame))}".rstrip() + wrong)
    if "deciphered" in frame:
        click.echo(f"    {safe(frame['deciphered'])}")
    if octets and "octets" in frame:
        click.echo(click.style(f"    {_hex(frame, octets)}", dim=True))


def sentence(frame: Document) -> str:
    """Header and APDU: `I 0/1 P 16 -> 1/17, 43 octets: get-request ...`."""
    what = [_header(frame), frame.get("words", ""), frame.get("apdu", "")]
    return ": ".join(filter(None, what))


def _header(frame: Document) -> str:
    match frame:
        case {"kind": "hdlc", "frame": header}:
            numbers = [str(header[name]) for name in ("send_seq", "receive_seq") if name in header]
            words = [header["type"], *(["/".join(numbers)] if numbers else [])]
            words += ["P/F"] if header["poll_final"] else []
            words += ["segmented"] if header["segmented"] else []
            addresses = f"{header['source']} to {header['destination']}"
            return f"{' '.join(words)}, {addresses}" + (
                f", {header['octets']} octets" if header["octets"] else ""
            )
        case {"kind": "wrapper", "frame": header}:
            return f"wrapper, {header['source']} to {header['destination']}, {header['octets']} octets"
        case {"kind": "mode_e"}:
            return "mode E"
        case {"kind": "noise"}:
            return "no frame"
    return ""


def _hex(frame: Document, most: int) -> str:
    octets = bytes.fromhex(frame["octets"])
    words = [octets[:most].hex(" ")]
    if len(octets) > most:
        words.append(f"... {len(octets)} octets")
    if frame["hidden"]:
        words.append(f"({frame['hidden']} not shown)")
    return " ".join(words)


# -- file -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _capture(name: str, port: str) -> Iterator[PcapngWriter]:
    """The file, for its owner alone: it may hold what was deciphered."""
    with contextlib.ExitStack() as stack:
        file: BinaryIO = sys.stdout.buffer
        if name == "-" and sys.stdout.isatty():
            raise click.BadParameter(
                "a terminal cannot show it: redirect it, or name a file", param_hint="--pcapng"
            )
        if name != "-":
            try:
                descriptor = os.open(Path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            except OSError as error:
                raise click.BadParameter(f"{name}: {error.strerror}", param_hint="--pcapng") from None
            file = stack.enter_context(os.fdopen(descriptor, "wb"))
        yield PcapngWriter(
            file,
            program=f"meter-gateway {version('meter-gateway')}",
            interface=port,
            description="DLMS/COSEM: HDLC, TCP wrapper or mode E as it went over the line, 2a where it is not shown",
        )


def _capture_frame(file: PcapngWriter, frame: Document, lost: int) -> None:
    comment = [sentence(frame), frame.get("wrong", ""), frame.get("deciphered", "")]
    if frame["hidden"]:
        comment.append(
            f"{frame['hidden']} octets are not shown, 2a stands in their place: the frame check is wrong"
        )
    file.packet(
        datetime.fromisoformat(frame["at"]),
        bytes.fromhex(frame["octets"]),
        outbound=frame["direction"] == "to_meter",
        comment="\n".join(filter(None, comment)),
        lost=lost,
    )
    file.flush()
