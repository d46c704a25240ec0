"""The daemon as systemd and an operator have it: signals, exit status, watchdog, log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGTERM

import pytest
from support.broker import Mosquitto
from support.patience import PATIENCE_S, eventually
from support.systemd import Systemd

from gateway.cli import main
from gateway.cli.demo_parts import HeadEnd


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_it_ends_in_order_when_it_is_told_to(launch, number):
    gateway = launch()
    assert gateway.stop(number) == 0
    assert gateway.said().splitlines()[-1].endswith("ended")
    assert not gateway.socket.exists()


def test_it_ends_in_the_middle_of_an_exchange_with_a_meter_that_does_not_answer(launch, capsys):
    gateway = launch(meters=1)
    (meter,) = gateway.meters
    heard = []
    meter.hear = lambda frame, now_s: heard.append(frame) or []
    here = ("--config", str(gateway.config))
    image = gateway.directory / "image"
    image.write_bytes(b"x" * 1000)
    assert main(["image", "add", str(image), *here]) == 0
    digest = capsys.readouterr().out.split()[0]
    assert (
        main(["campaign", "submit", "--id", "c", "--sha256", digest, "--identifier", "x", "--all", *here])
        == 0
    )
    eventually(lambda: heard)
    assert gateway.stop() == 0
    # It waits 10 s for an answer, three times, and does not wait for them now.
    assert len(heard) < 3
    assert "left in the middle of a step: port:rs485-1" in gateway.said()


def test_a_bug_ends_the_process_with_1_and_its_traceback(launch):
    gateway = launch(before="from gateway.worker import Worker\nWorker.step = lambda self: 1 / 0")
    assert gateway.wait() == 1
    assert "port:rs485-1: a bug ends the process" in gateway.said()
    assert "ZeroDivisionError" in gateway.said()


POISON = """
from gateway.worker.transfer_run import TransferRun
perform = TransferRun.perform
def poisoned(self, step, session):
    return 1 / 0 if self.meter.id == "MTR0001" else perform(self, step, session)
TransferRun.perform = poisoned
"""


def test_a_job_at_which_a_bug_ended_the_process_three_times_does_so_no_more(launch, capsys):
    gateway = launch(before=POISON)
    here = ("--config", str(gateway.config))
    image = gateway.directory / "image"
    image.write_bytes(b"x" * 1000)
    assert main(["image", "add", str(image), *here]) == 0
    digest = capsys.readouterr().out.split()[0]
    order = ["campaign", "submit", "--id", "c", "--sha256", digest, "--identifier", "x", "--all"]
    main([*order, *here])  # the process may end before it has answered
    for _ in range(3):
        assert gateway.wait() == 1
        gateway.launch()
    eventually(lambda: main(["campaign", "ls", *here]) == 0)
    assert main(["campaign", "watch", "c", *here]) == 1
    capsys.readouterr()
    assert main(["campaign", "show", "c", "--json", *here]) == 0
    jobs = {job["meter"]: job for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert (jobs["MTR0001"]["state"], jobs["MTR0001"]["code"]) == ("failed", "T_CRASH")
    assert jobs["MTR0002"]["state"] == "updated"
    assert gateway.said().count("ZeroDivisionError: division by zero") == 3


def test_a_second_daemon_on_the_same_state_is_refused(launch):
    gateway = launch()
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "--config", str(gateway.config)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "in use by another meter-gateway" in second.stderr
    assert gateway.stop() == 0


def test_systemd_hears_that_it_is_ready_lives_and_ends(launch, systemd):
    gateway = launch(env=systemd.env)
    ready, status = systemd.hear().splitlines()
    assert ready == "READY=1"
    assert status.startswith("STATUS=1 ports, 2 meters, 0 transfers under way")
    assert {systemd.hear().partition("=")[0] for _ in range(6)} == {"STATUS", "WATCHDOG"}
    assert gateway.stop() == 0
    while (last := systemd.hear()) != "STOPPING=1":
        assert last


def run_once(config: Path, systemd: Systemd) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
    return subprocess.run(
        command, env=systemd.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_systemd_hears_why_a_configuration_is_not_run(tmp_path, systemd):
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nid = "a b"\ncolour = "red"\n')
    ended = run_once(config, systemd)
    assert ended.returncode == 2
    told = systemd.hear()
    assert told.startswith("STATUS=the configuration has mistakes: ")
    assert "gateway.id" in told and "and 1 more" in told


def test_systemd_hears_why_the_state_cannot_be_used(tmp_path, systemd):
    (tmp_path / "state").write_text("a file, and no directory")
    config = tmp_path / "gateway.toml"
    config.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\ncontrol_socket = "{tmp_path}/run/s"\n')
    assert run_once(config, systemd).returncode == 1
    assert systemd.hear().startswith("STATUS=")


def test_a_gateway_without_ports_says_what_it_waits_for(tmp_path, systemd):
    config = tmp_path / "gateway.toml"
    config.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\ncontrol_socket = "{tmp_path}/run/s"\n')
    command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
    process = subprocess.Popen(command, env=systemd.env, stderr=subprocess.DEVNULL)
    assert systemd.hear() == f"READY=1\nSTATUS=nothing to do: {config} names no ports and no meters"
    process.send_signal(SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_systemd_hears_nothing_more_when_one_of_the_actors_hangs(launch, systemd, tmp_path):
    hang = (
        "import os, time\nfrom gateway.daemon import process\nfrom gateway.model import StepReport\n"
        "from gateway.worker import Worker\n"
        "process.port_patience_s, process.LIFE_EVERY_S = lambda port: 3.0, 0.1\n"
        "def step(self):\n"
        f"    while os.path.exists({str(tmp_path / 'hang')!r}):\n"
        "        time.sleep(1)\n"
        "    return StepReport('a step', time.monotonic() + 0.05)\n"
        "Worker.step = step"
    )
    gateway = launch(env=systemd.env, before=hang)
    systemd.hear_of("WATCHDOG=1")
    (tmp_path / "hang").touch()
    systemd.hear_of("STATUS=no sign of life of port:rs485-1")
    assert systemd.hear(1.0) == ""
    assert gateway.stop() == 0
    assert "left in the middle of a step: port:rs485-1" in gateway.said()


def test_the_broker_hears_that_the_gateway_leaves(launch, tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        heard = []
        sections = {"gateway": {"id": "gw-1"}, "mqtt": {"url": broker.url}}
        with HeadEnd(broker.url, "mgw/v1/gw-1") as head_end:
            gateway = launch(sections=sections)

            def listen_for(online: bool) -> None:
                deadline = time.monotonic() + PATIENCE_S
                while not heard or heard[-1]["online"] is not online:
                    assert time.monotonic() < deadline, heard
                    head_end.listen(
                        lambda topic, document: heard.append(document) if topic == "state" else None
                    )

            listen_for(online=True)
            assert gateway.stop() == 0
            listen_for(online=False)
        assert heard[0]["clock"] == "unchecked"
        assert heard[-1]["session"] == heard[0]["session"]


def test_a_bug_in_a_tick_ends_the_process_too(launch):
    gateway = launch(
        before="from gateway.daemon import process\nprocess.LIFE_EVERY_S = 0.1\n"
        "beat = process.Daemon._beat\ncalls = []\n"
        "process.Daemon._beat = lambda self, actor: calls.append(actor) or len(calls) > 1 and 1 / 0"
    )
    assert gateway.wait() == 1
    assert "life: a bug ends the process" in gateway.said()
