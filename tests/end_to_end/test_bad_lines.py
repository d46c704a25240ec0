"""The real daemon on lines that misbehave: a bad line and one whose adapter is pulled out end updated; what cannot be
served says why with its code, and disturbs nobody."""

import fcntl
import json
import os
import pty
import random
import signal
import subprocess
import sys

import pytest
from support.patience import PATIENCE_S, eventually

from gateway.cli import main, virtual
from gateway.cli.virtual import Site
from gateway.simulator import NONE, Faults, Noise, PtyLine, Talk, VirtualMeter

IMAGE = random.Random("bad lines").randbytes(12 * 1024)
NOISE = Noise(bit_error_rate=1e-4, octet_loss_rate=1e-4)
LINES = {
    "noisy": Faults(to_meter=NOISE, to_gateway=NOISE),
    "jabber": Faults(talks=(Talk(),)),
    "pulled": NONE,
}


@pytest.fixture
def site(tmp_path):
    made = virtual.meters(5, version="1.0.0", new_version="2.0.0", verify_s=0.1, reboot_s=0.2)
    held = pty.openpty()
    fcntl.flock(held[1], fcntl.LOCK_EX)
    (tmp_path / "file").write_text("no serial device")
    found = Daemon(tmp_path, made, os.ttyname(held[1]))
    yield found
    found.close()
    for descriptor in held:
        os.close(descriptor)


class Daemon:
    """A daemon with a line of each kind, one meter on each: MTR0001 to MTR0005 in this order."""

    def __init__(self, directory, specs, held):
        self.directory = directory
        self.meters = {name: VirtualMeter(spec) for name, spec in zip(LINES, specs, strict=False)}
        self.lines = {
            name: PtyLine([meter], link_path=directory / name, baud=57600, faults=LINES[name], seed=1)
            for name, meter in self.meters.items()
        }
        devices = [str(directory / name) for name in LINES] + [str(directory / "file"), held]
        ports = [
            {"name": f"p{i}", "kind": "rs485", "device": device, "baud": 57600, "response_timeout": "500ms"}
            for i, device in enumerate(devices)
        ]
        sites = [Site(port, [spec]) for port, spec in zip(ports, specs, strict=True)]
        self.config = virtual.write(directory, sites, {
            "gateway": {
                "system_title": virtual.SYSTEM_TITLE.hex(), "state_dir": str(directory / "state"),
                "control_socket": str(directory / "control.sock"), "require_synced_clock": False,
            },
            "firmware": {"trust": "digest"},
        })  # fmt: skip
        for line in self.lines.values():
            line.start()
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--config", str(self.config)], stdout=log, stderr=log
            )
        eventually(lambda: "ready: " in self.log.read_text(), self.log.read_text)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)
        for line in self.lines.values():
            line.stop()


def test_a_bad_line_a_jabbering_one_a_pulled_adapter_a_file_and_a_line_of_others(site, capsys):
    def ask(*words):
        status = main([*words, "--json", "--config", str(site.config)])
        out = capsys.readouterr().out
        assert status == 0, out
        return json.loads(out)

    def jobs():
        return {job["meter"]: job for job in ask("campaign", "show", "fw")["jobs"]}

    def state(meter_id):
        return jobs()[meter_id]["state"]

    (site.directory / "fw.bin").write_bytes(IMAGE)
    sha256 = ask("image", "add", str(site.directory / "fw.bin"))["sha256"]
    ask(
        "campaign",
        "submit",
        "--id",
        "fw",
        "--sha256",
        sha256,
        "--identifier",
        "FW",
        "--all",
        "--expect-version",
        "2.0.0",
    )
    pulled = site.meters["pulled"]
    eventually(lambda: pulled.history.blocks.total() >= 20, site.log.read_text)
    site.lines["pulled"].unplug()
    eventually(lambda: jobs()["MTR0003"]["code"] == "T_PORT", site.log.read_text)
    site.lines["pulled"].plug()
    eventually(
        lambda: state("MTR0001") == state("MTR0003") == "updated", lambda: (jobs(), site.log.read_text())
    )
    eventually(lambda: jobs()["MTR0002"]["code"], site.log.read_text)

    for name in ("noisy", "pulled"):
        assert site.meters[name].image.active_sha256 == sha256
        assert site.meters[name].history.initiates == site.meters[name].history.activations == 1
    assert pulled.history.blocks.total() <= jobs()["MTR0003"]["blocks_total"] + 1
    told = {meter_id: (job["code"], job["message"]) for meter_id, job in jobs().items()}
    assert told["MTR0002"][0] == "T_SILENT"
    assert "octets came" in told["MTR0002"][1]
    assert told["MTR0004"][0] == "T_PORT"
    assert "it is no serial device" in told["MTR0004"][1]
    assert told["MTR0005"][0] == "T_PORT"
    assert "another program holds it" in told["MTR0005"][1]
