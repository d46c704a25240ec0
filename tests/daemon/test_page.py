"""The status page of a running gateway: off unless it is wanted, and never in the way of its work."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path
from signal import SIGHUP

from support.orders import ask, jobs, order
from support.patience import PATIENCE_S, eventually
from support.running import RunningGateway, free_port


def visit(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def networked(gateway: RunningGateway) -> set[str]:
    """Local addresses of the sockets over which the process can be reached, as the kernel lists them."""
    assert gateway.process is not None
    descriptors = Path(f"/proc/{gateway.process.pid}/fd").iterdir()
    inodes = {
        found[1] for link in descriptors if (found := re.match(r"socket:\[(\d+)\]", str(link.readlink())))
    }
    tables = [Path(f"/proc/net/{kind}").read_text() for kind in ("tcp", "tcp6", "udp", "udp6")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    return {line[1] for line in lines if line[9] in inodes}


def reload(gateway: RunningGateway, text: str) -> None:
    gateway.config.write_text(text)
    applied = gateway.said().count("configuration applied")
    gateway.process.send_signal(SIGHUP)
    eventually(lambda: gateway.said().count("configuration applied") > applied, gateway.said)


def test_a_reload_turns_it_on_moves_it_and_turns_it_off(launch):
    gateway = launch()
    text, first, second = gateway.config.read_text(), free_port(), free_port()
    assert networked(gateway) == set(), "it listens on no network"
    reload(gateway, f'{text}\n[page]\nlisten = "127.0.0.1:{first}"\n')
    gateway.wait_for(f"status page at http://127.0.0.1:{first}/")
    assert "MTR0001" in visit(first)
    assert len(networked(gateway)) == 1
    reload(gateway, f'{text}\n[page]\nlisten = "127.0.0.1:{second}"\n')
    gateway.wait_for(f"status page at http://127.0.0.1:{second}/")
    assert "meter_gateway_meters 2" in visit(second, "/metrics")
    reload(gateway, text)
    eventually(lambda: networked(gateway) == set(), gateway.said)
    assert gateway.stop() == 0


def test_an_update_goes_on_beside_an_address_that_is_taken_and_the_page_comes_when_it_is_free(
    launch, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        gateway = launch(sections={"page": {"listen": f"127.0.0.1:{port}"}})
        gateway.wait_for(f"alarm: page: cannot listen at 127.0.0.1:{port}: Address already in use")
        order(gateway, tmp_path)
        eventually(lambda: set(jobs(gateway).values()) == {"updated"}, gateway.said)
        assert list(ask(gateway, "info.get")["now"]["alarms"]) == ["page"]
    gateway.wait_for("alarm: page: over")
    page = visit(port)
    assert "In order" in page and page.count(">2.0.0<") == 2 and "1.0.0 → 2.0.0" not in page
    assert gateway.stop() == 0
