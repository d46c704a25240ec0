"""The command line without a daemon: what it understands, what it says when it cannot work, how fast it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import config
from gateway.cli import main
from gateway.config.files import DEFAULT_SOCKET
from gateway.control.verbs import VERBS
from gateway.model import GatewaySettings


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """The configuration of a gateway that does not run."""
    file = tmp_path / "gateway.toml"
    file.write_text(f'[gateway]\ncontrol_socket = "{tmp_path}/control.sock"\n')
    return file


@pytest.mark.parametrize(
    "line",
    [
        ["stauts"],
        ["status", "--colour"],
        ["probe"],
        ["update", "MTR0001", "/no/such/file"],
        ["campaign", "submit", "--id", "c"],
        ["campaign", "submit", "--id", "c", "--sha256", "0" * 64, "--identifier", "x"],
        [
            "campaign",
            "submit",
            "--id",
            "c",
            "--sha256",
            "0" * 64,
            "--identifier",
            "x",
            "--all",
            "--port",
            "p",
        ],
        ["check", "--config", "/"],
        ["port", "hold", "rs485-1", "--for", "10"],
        ["scan", "rs485-1", "--from", "9", "--to", "8"],
        ["scan", "rs485-1", "--timeout", "1h"],
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_wrong(line, capsys):
    assert main(line) == 2
    assert "Error: " in capsys.readouterr().err


def test_help_is_there_for_everything_and_is_no_failure(capsys):
    for words in (
        [],
        ["campaign"],
        ["image"],
        ["update"],
        ["simulate"],
        ["demo"],
        ["run"],
        ["campaign", "submit"],
    ):
        assert main([*words, "--help"]) == 0
        assert "Usage: meter-gateway" in capsys.readouterr().out


@pytest.mark.parametrize("delivery", ["unicast", "broadcast", "auto"])
def test_how_blocks_are_delivered_is_said_in_the_words_of_the_contract(empty, capsys, delivery):
    order = ["--id", "c", "--sha256", "0" * 64, "--identifier", "x", "--all", "--delivery", delivery]
    assert main(["campaign", "submit", *order, "--config", str(empty)]) == 3, (
        "understood, and no daemon to tell it"
    )
    assert main(["campaign", "submit", "--help"]) == 0
    assert "[unicast|broadcast|auto]" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("meter-gateway ")


@pytest.mark.parametrize(
    "line",
    [["status"], ["probe", "M"], ["campaign", "ls"], ["campaign", "watch", "c"], ["campaign", "cancel", "c"]],
)
def test_without_a_daemon_the_status_is_3_and_the_socket_is_named(empty, line, capsys):
    assert main(["--config", str(empty), *line]) == 3
    said = capsys.readouterr().err
    assert f"{empty.parent}/control.sock" in said
    assert "systemctl start meter-gateway" in said


def test_a_socket_left_behind_by_a_killed_daemon_is_no_daemon(empty, capsys):
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import socket; socket.socket(socket.AF_UNIX).bind('{empty.parent}/control.sock')",
        ],
        check=True,
    )
    assert main(["status", "--config", str(empty)]) == 3
    assert "nobody listens there" in capsys.readouterr().err


def test_check_reports_every_mistake_and_ends_with_2(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text('[gateway]\nid = "a b"\nsystem_titel = "00"\n[mqtt]\nurl = "tcp://x"\n')
    assert main(["check", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.count(f"{file}: ") == 3
    assert "gateway.id" in said
    assert "mqtt.url" in said
    assert main(["check", "--json", "--config", str(file)]) == 2
    assert len(json.loads(capsys.readouterr().out)["mistakes"]) == 3


def test_check_is_content_with_a_good_file_and_tells_of_a_missing_device(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text('[[ports]]\nname = "p"\nkind = "rs485"\ndevice = "/dev/none"\n')
    assert main(["check", "--config", str(file)]) == 0
    assert "1 ports, 0 meters\n  /dev/none is not there now" in capsys.readouterr().out
    assert main(["check", "--json", "--config", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ports": 1, "meters": 0, "devices_missing": ["/dev/none"], "keys_without_meter": [],
    }  # fmt: skip


def test_check_says_which_keys_wait_for_a_meter(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text("")
    keys = file.with_name("keys.toml")
    keys.write_text('[meters.MTR7]\npassword = "12345678"\n')
    keys.chmod(0o600)
    assert main(["check", "--config", str(file)]) == 0
    assert "keys.toml has keys for MTR7: no meter here" in capsys.readouterr().out


def test_check_names_a_device_that_is_a_file(tmp_path, capsys):
    file, device = tmp_path / "gateway.toml", tmp_path / "ttyUSB0"
    device.write_text("")
    file.write_text(f'[[ports]]\nname = "rs485-1"\nkind = "rs485"\ndevice = "{device}"\nbaud = 9600\n')
    assert main(["check", "--config", str(file)]) == 0
    assert f"{device} is no serial device" in capsys.readouterr().out


def test_run_refuses_a_configuration_with_mistakes(tmp_path, capsys):
    assert main(["run", "--config", str(tmp_path / "none.toml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_options_may_stand_before_or_after_the_subcommand(empty, capsys):
    assert main(["--config", str(empty), "--json", "check"]) == 0
    before = capsys.readouterr().out
    assert main(["check", "--json", "--config", str(empty)]) == 0
    assert capsys.readouterr().out == before


def test_status_answers_at_once_because_it_imports_little(empty):
    script = (
        "import sys\nfrom gateway.cli import main\n"
        f"assert main(['status', '--config', {str(empty)!r}]) == 3\n"
        "heavy = {'gateway.model', 'rich', 'paho', 'httpx', 'apscheduler', 'jsonschema', 'cryptography', 'sqlite3',"
        "'serial'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_verbs_that_a_configuration_may_name_are_those_that_control_knows():
    local = {"image.add", "counter.adopt", "port.trace"}
    assert set(config.VERBS) == set(VERBS) - local


def test_the_socket_that_is_looked_for_is_the_one_that_the_daemon_opens():
    assert GatewaySettings().control_socket == DEFAULT_SOCKET
