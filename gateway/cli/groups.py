"""Groups of commands: what was meant by a wrong name, and help that ends with arguments, examples and exit status."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """As click's, and helpful."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = self.find(ctx, cmd_name)
        if command is not None and command.epilog is None and does_something(command):
            from gateway.cli.guide import epilog

            path = f"{ctx.command_path} {cmd_name}".partition(" ")[2]
            command.epilog = epilog(path, [one for one in command.params if isinstance(one, click.Argument)])
        return command

    def find(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command as it was declared."""
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.find(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx))
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)


def does_something(command: click.Command) -> bool:
    """It is no mere group of others."""
    return not isinstance(command, click.Group) or command.invoke_without_command
