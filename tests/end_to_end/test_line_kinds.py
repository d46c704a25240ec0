"""A whole update with the daemon as a process over each kind of line that is not a plain serial device: an optical head
with mode E, and device servers by RFC 2217 and by bare TCP."""

import json
import os
import threading

import pytest
from support.device_servers import DeviceServer
from support.patience import eventually
from support.running import NEW, RunningGateway

from gateway.cli import main
from gateway.simulator import Head

IMAGE = os.urandom(3000)


@pytest.fixture
def launch(tmp_path):
    """Makes gateways with one meter, and ends them."""
    made = []

    def make(**options):
        made.append(RunningGateway(tmp_path, meters=1, **options))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def update(tmp_path, capsys):
    """Orders IMAGE for the meter at the gateway, and watches it to its end: the job."""

    def run(gateway):
        file = tmp_path / "FW-2"
        file.write_bytes(IMAGE)
        words = ["update", "MTR0001", str(file), "--expect-version", NEW, "--json"]
        status = main([*words, "--config", str(gateway.config)])
        out = capsys.readouterr().out
        assert status == 0, out + gateway.said()
        return json.loads(out.splitlines()[-1])["jobs"][0]

    return run


def check(gateway, job):
    meter = gateway.meters[0]
    assert (job["state"], job["version_after"], meter.version) == ("updated", NEW, NEW)
    assert meter.image.image == IMAGE
    assert meter.history.initiates == meter.history.activations == 1


def behind(gateway, server):
    """The gateway's port leads to the server."""
    text = gateway.config.read_text()
    assert text.count(gateway.line.address) == 1
    gateway.config.write_text(text.replace(gateway.line.address, server.url))
    return gateway


def test_an_update_through_an_optical_head(launch, update):
    gateway = launch(head=Head(baud=9600, confirms=True, echoes=1.0), response_timeout="3s")
    check(gateway, update(gateway.start()))
    assert "DTR and RTS cannot be raised, the head needs other power" in gateway.said()
    assert "gives back what is sent: copies are dropped" in gateway.said()
    assert gateway.stop() == 0


@pytest.mark.parametrize("rfc2217", [True, False], ids=["rfc2217", "socket"])
def test_an_update_through_a_device_server_that_restarts_in_the_middle_of_it(launch, update, rfc2217):
    gateway = launch(baud=9600)
    with DeviceServer(gateway.line.address, rfc2217=rfc2217) as server:
        behind(gateway, server).start()
        blocks = gateway.meters[0].history.blocks
        dropper = threading.Thread(target=lambda: (eventually(lambda: blocks.total() >= 3), server.drop()))
        dropper.start()
        job = update(gateway)
        dropper.join()
        check(gateway, job)
        assert server.accepted >= 2
        assert gateway.stop() == 0


def test_an_update_through_an_optical_head_on_a_device_server(launch, update):
    """Rates, DTR and RTS go over the network."""
    gateway = launch(head=Head(baud=4800), response_timeout="3s")
    with DeviceServer(gateway.line.address, rfc2217=True) as server:
        behind(gateway, server).start()
        check(gateway, update(gateway))
        assert server.raised == {"DTR", "RTS"}
        assert gateway.stop() == 0


def test_a_device_that_is_no_serial_port_is_named_and_others_are_served(launch, update, capsys):
    gateway = launch()
    port = '\n[[ports]]\nname = "null"\nkind = "rs485"\ndevice = "/dev/null"\n'
    meter = '[[meters]]\nid = "MTR0002"\nport = "null"\n'
    gateway.config.write_text(gateway.config.read_text() + port + meter)
    gateway.start()
    assert main(["probe", "MTR0002", "--config", str(gateway.config)]) == 1
    assert "T_PORT: cannot open /dev/null: it is no serial device" in capsys.readouterr().err
    check(gateway, update(gateway))
    assert gateway.stop() == 0
