"""Every command that there is, found in the command line itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli import main
from gateway.cli.groups import does_something
from gateway.cli.guide import examples
from gateway.cli.root import root


def commands() -> dict[str, click.Command]:
    """By what is typed: "campaign show"."""
    return dict(_beneath(root, click.Context(root, info_name="meter-gateway", **root.context_settings)))


def _beneath(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _beneath(command, inner)
        if does_something(command):
            yield inner.command_path.removeprefix("meter-gateway "), command


def words_of(example: str) -> list[str]:
    """What a shell makes of it, without the command's name."""
    name, *words = shlex.split(example.replace("\\\n", " "), comments=True)
    assert name == "meter-gateway"
    return words


def example_files(directory: Path) -> None:
    """What the examples name, made by the commands that make it."""
    image = directory / "FW-4.1.7.bin"
    image.write_bytes(b"firmware" * 100)
    (directory / "gw-001.state").write_bytes(b"")
    for key in ("utility", "second"):
        assert main(["image", "keygen", str(directory / key)]) == 0
    words = next(words_of(one) for one in examples("image sign") if "--version" in one)
    here = {"FW-4.1.7.bin": str(image), "utility.key": str(directory / "utility.key")}
    assert main([here.get(word, word) for word in words]) == 0
