"""Gateways as processes, and what listens in systemd's place."""

from __future__ import annotations

import pytest
from support.running import RunningGateway
from support.systemd import Systemd


@pytest.fixture
def launch(tmp_path):
    """Gateways that end with the test."""
    running = []

    def start(name: str = "gateway", *, started: bool = True, **options) -> RunningGateway:
        (tmp_path / name).mkdir(exist_ok=True)
        gateway = RunningGateway(tmp_path / name, **options)
        running.append(gateway)
        return gateway.start() if started else gateway

    yield start
    for gateway in running:
        gateway.close()


@pytest.fixture
def systemd(tmp_path):
    listening = Systemd(tmp_path)
    yield listening
    listening.close()
