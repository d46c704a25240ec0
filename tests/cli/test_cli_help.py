"""What the command line says of itself: help, examples, what was meant, what a shell offers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import click
import pytest
from support.commands import commands, example_files, words_of
from support.running import RunningGateway

from gateway.cli import guide, main

COMMANDS = commands()


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_a_sentence_explains_arguments_and_ends_with_examples_and_exit_status(path, capsys):
    assert main([*path.split(), "-h"]) == 0
    said = capsys.readouterr().out
    command = COMMANDS[path]
    assert command.help
    assert "." in command.help
    for argument in command.params:
        if isinstance(argument, click.Argument):
            assert guide.arguments(path, [argument]), f"{argument.name} is not explained"
    assert len(guide.examples(path)) >= 2
    for line in "\n".join(guide.examples(path)).split("\n"):
        assert f"    {line}" in said.replace("\n\n", "\n")
        assert len(line) <= 76
    assert "Exit status: 0 " in said
    assert "130" in said


def test_help_says_nothing_of_commands_that_are_not_there():
    assert set(guide.EXAMPLES) == set(COMMANDS)
    assert set(guide.STATUS) <= set(COMMANDS)


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """Command lines are read to their end, and not carried out."""
    monkeypatch.chdir(tmp_path)
    example_files(tmp_path)
    seen = []
    monkeypatch.setattr(click.Command, "invoke", lambda _command, context: seen.append(context.command_path))
    return seen


def test_every_example_works_as_it_stands(parsed, capsys):
    for path in COMMANDS:
        for example in guide.examples(path):
            parsed.clear()
            assert main(words_of(example)) == 0, (example, capsys.readouterr().err)
            assert parsed[-1] == f"meter-gateway {path}"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean status or state?"),
        (["campain", "ls"], "Did you mean campaign?"),
        (["campaign", "sumbit"], "Did you mean submit?"),
        (["status", "--jsno"], "--json"),
        (["campaign", "submit", "--wnidow", "x"], "--window"),
        (["xyzzy"], "No such command 'xyzzy'.\n"),
    ],
)
def test_a_wrong_name_is_answered_with_what_was_meant(words, meant, capsys):
    assert main(words) == 2
    assert meant in capsys.readouterr().err


# -- completion -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gateway")
    windows = {"windows.night": {"start": "22:00", "duration": "5h"}}
    running = RunningGateway(directory, meters=2, sections=windows)
    here = ("--config", str(running.config))
    file = directory / "image"
    file.write_bytes(IMAGE)
    try:
        running.start()
        assert main(["image", "add", str(file), *here]) == 0
        order = ("--id", "fw-2026-11", "--sha256", DIGEST, "--identifier", "x", "--window", "night", "--all")
        assert main(["campaign", "submit", *order, *here]) == 0
        yield running
    finally:
        running.close()


IMAGE = b"image" * 100
DIGEST = hashlib.sha256(IMAGE).hexdigest()
OFFERED = {
    "commands": (("cam",), {"campaign"}),
    "meters": (("probe", "MTR"), {"MTR0001", "MTR0002"}),
    "of an update": (("update", "MTR0002"), {"MTR0002"}),
    "campaigns": (("campaign", "pause", ""), {"fw-2026-11"}),
    "ports": (("port", "hold", "rs"), {"rs485-1"}),
    "windows": (("campaign", "submit", "--window", "n"), {"night"}),
    "profiles": (("campaign", "submit", "--profile", ""), {"virtual"}),
    "digests": (("image", "show", DIGEST[:2]), {DIGEST[:12]}),
    "whole digests": (("campaign", "submit", "--sha256", DIGEST[:1]), {DIGEST}),
    "nothing that fits": (("probe", "X"), set()),
}


@pytest.mark.parametrize(("words", "offered"), OFFERED.values(), ids=OFFERED)
def test_a_shell_is_offered_what_the_daemon_knows(gateway, words, offered):
    assert typed("bash", "--config", str(gateway.config), *words) == {f"plain,{name}" for name in offered}


def test_each_shell_is_offered_names_in_its_own_way(gateway):
    here = ("--config", str(gateway.config), "probe", "MTR0001")
    assert typed("zsh", *here) == {"plain", "MTR0001", "rs485-1"}
    assert typed("fish", *here) == {"plain,MTR0001\trs485-1"}


def test_without_a_daemon_nothing_is_offered_and_nothing_said(tmp_path):
    for words in (("probe", ""), ("campaign", "show", ""), ("image", "rm", "a")):
        assert typed("bash", "--config", str(tmp_path / "none.toml"), *words) == set()


def test_bash_completes_by_the_script_that_is_installed(gateway):
    script = (
        'eval "$(_METER_GATEWAY_COMPLETE=bash_source meter-gateway)"\n'
        'COMP_WORDS=(meter-gateway --config "$CONFIG" probe M) COMP_CWORD=4\n'
        "_meter_gateway_completion meter-gateway M probe\n"
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # noqa: PTH120
    env = {**os.environ, "PATH": path, "CONFIG": str(gateway.config)}
    ran = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["MTR0001", "MTR0002"]


def typed(shell: str, *words: str) -> set[str]:
    """What is offered at TAB behind these words."""
    line = " ".join(["meter-gateway", *words])
    env = {
        **os.environ, "_METER_GATEWAY_COMPLETE": f"{shell}_complete", "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return set(ran.stdout.split("\n")) - {""}
