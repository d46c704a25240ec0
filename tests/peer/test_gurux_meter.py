"""The main job against an independent implementation: our whole stack updates a meter made of gurux-dlms.

A worker with a real Store drives a real serial port (a pty) or TCP connection; gurux reads every octet that leaves and
writes every octet that comes back. The meter's block, PDU and frame sizes differ from line to line, so that whole
frames, segmented requests, segmented answers and long answers in blocks all occur.
"""

import hashlib
import os
import random
import time
from dataclasses import replace
from uuid import uuid4

import pytest

if not os.environ.get("CI"):  # there a missing peer is a failure
    pytest.importorskip("gurux_dlms", reason="the optional extra `peer` is not installed")

from gurux_dlms.enums import Authentication as Gurux
from gurux_dlms.enums import DataType, InterfaceType
from gurux_dlms.objects import GXDLMSData, GXDLMSRegister
from peer.gurux_image import Model
from peer.gurux_line import pty_line, tcp_line
from peer.gurux_meter import GuruxMeter
from support.patience import PATIENCE_S

from gateway.board import Board
from gateway.clock import SystemClock
from gateway.errors import Code
from gateway.link.counters import Counters
from gateway.link.port import open_port
from gateway.link.session import Session
from gateway.model import (
    TERMINAL_JOB,
    Authentication,
    Campaign,
    Command,
    Framing,
    Job,
    JobState,
    Meter,
    MeterKeys,
    PortKind,
    PortSettings,
    Profile,
    Security,
)
from gateway.store import Store
from gateway.supply.images import ImageStore
from gateway.worker import Worker
from gateway.worker.reading import read

IMAGE = random.Random(64).randbytes(64 * 1024)
RESPONSE_TIMEOUT_S = 10.0
"""The meter shares a busy machine with the gateway, and answers everything: no block is asked for twice."""

SYSTEM_TITLE = b"MGW\x00\x00\x00\x00\x01"

ASSOCIATIONS = {
    "plain": (Gurux.NONE, False, Authentication.NONE, Security.NONE),
    "lls": (Gurux.LOW, False, Authentication.LLS, Security.NONE),
    "hls-gmac": (Gurux.HIGH_GMAC, True, Authentication.HLS_GMAC, Security.BOTH),
}
# What the meter is like on each line, and what therefore does not fit into one message there.
LINES = {
    "tcp-wrapper": ({"block_size": 64, "max_pdu": 128}, {"blocks out"}),
    "tcp-hdlc": ({"block_size": 512, "max_pdu": 1024, "max_info": 1024}, set()),
    "pty": ({"block_size": 128, "max_pdu": 512, "max_info": 72}, {"segments in", "segments out"}),
}


@pytest.fixture(params=ASSOCIATIONS)
def association(request):
    return request.param


@pytest.fixture(params=LINES)
def line(request):
    return request.param


class Bench:
    """A gurux meter on its line, and a gateway's worker at the other end."""

    def __init__(self, association, line, state_dir):
        self.line = line
        mechanism, ciphered, self.authentication, self.security = ASSOCIATIONS[association]
        sizes, self.does_not_fit = LINES[line]
        self.model = Model(authentication=mechanism, ciphered=ciphered, password=b"s3cret-8", **sizes)
        interface = InterfaceType.WRAPPER if line == "tcp-wrapper" else InterfaceType.HDLC
        self.meter = GuruxMeter(self.model, interface)
        self.keys = MeterKeys(self.model.encryption_key, self.model.authentication_key, self.model.password)
        self.dedicated_key = False
        self.state_dir = state_dir

    def update(self):
        """Order the image for the meter and step the worker until the job has ended; the job."""
        serve = pty_line if self.line == "pty" else tcp_line
        with serve(self.meter, reboot_s=0.2) as address:
            return self._work(self._port(address))

    def read(self, *wanted):
        """What `meter.read` says of these arguments, in one association."""
        serve = pty_line if self.line == "pty" else tcp_line
        with serve(self.meter, reboot_s=0.2) as address:
            settings, meter = self._port(address), self._configured(Profile())
            port = open_port(settings)
            session = Session(
                port, settings, meter, self.keys, system_title=SYSTEM_TITLE, counters=Counters(lambda _: 1),
                clock=SystemClock(), random_octets=os.urandom,
            )  # fmt: skip
            try:
                session.open()
                return [read(session, meter, args)["values"] for args in wanted]
            finally:
                session.close()
                port.close()

    def _configured(self, profile):
        return Meter(
            "MTR1", "line", physical_address=17, logical_address=1, authentication=self.authentication,
            security=self.security, dedicated_key=self.dedicated_key,
            logical_device_name="GRX0000000000001", profile=profile,
        )  # fmt: skip

    def _port(self, address):
        if self.line == "pty":
            return PortSettings(
                "line", PortKind.RS485, device=address, baud=115200, response_timeout_s=RESPONSE_TIMEOUT_S
            )
        framing = Framing.WRAPPER if self.line == "tcp-wrapper" else Framing.HDLC
        return PortSettings(
            "line", PortKind.TCP, address=address, framing=framing, response_timeout_s=RESPONSE_TIMEOUT_S
        )

    def _work(self, settings):
        clock, board = SystemClock(), Board()
        profile = Profile(after_initiate_s=0.0, reconnect_after_s=0.6, activate_timeout_s=PATIENCE_S)
        meter = self._configured(profile)
        store = Store(self.state_dir, gateway_id="", root="", clock=clock, board=board)
        images = ImageStore(self.state_dir / "images", 2**20)
        worker = Worker(
            settings, meters={meter.id: meter}, keys={meter.id: self.keys}, system_title=SYSTEM_TITLE,
            store=store, images=images, board=board, clock=clock, open_port=open_port, random_octets=os.urandom,
        )  # fmt: skip
        _order(store, images, self.model.identifier, clock.now())
        deadline_s = time.monotonic() + PATIENCE_S
        try:
            while (job := store.job("fw", meter.id)).state not in TERMINAL_JOB:
                report = worker.step()
                assert job.state is not JobState.WAITING, f"no fault, no retry: {job.message}"
                assert time.monotonic() < deadline_s, f"{job.state}: {report.sentence}"
                if report.wake_at is not None:
                    time.sleep(max(0.0, report.wake_at - time.monotonic()))
            return job
        finally:
            worker.close()
            store.close()


def _order(store, images, identifier, now):
    """What the supplier has done when a worker begins: the image is stored, the campaign is ready."""
    image = images.add([IMAGE])
    campaign = Campaign(
        "fw", image.sha256, identifier, ("MTR1",), created_at=now, expect_version="4.1.7", released=1
    )
    command = Command(
        str(uuid4()), "campaign.submit", {}, issued=now, expires=now, body_sha256="0" * 64, who="test"
    )
    store.submit_campaign(command, campaign, [Job("fw", "MTR1", "line")])
    store.image_ready(campaign, image)


def test_our_stack_updates_a_meter_made_by_others(association, line, tmp_path):
    bench = Bench(association, line, tmp_path)
    job = bench.update()
    assert (job.state, job.version_before, job.version_after) == (JobState.UPDATED, "4.1.6", "4.1.7"), (
        job.message
    )
    image = bench.meter.image
    assert hashlib.sha256(image.content).digest() == hashlib.sha256(IMAGE).digest()
    assert (image.initiates, image.activations) == (1, 1)
    assert set(image.received.values()) == {1}, "a line without faults needs no block twice"
    assert bench.meter.refusals == 0, "every tag, proof and counter of ours was right"
    assert set(+bench.meter.seen) == bench.does_not_fit


def test_any_attribute_of_a_meter_made_by_others_is_read(association, tmp_path):
    """It has no clock, which is left out; and something longer than its PDU, which comes in blocks."""
    bench = Bench(association, "tcp-wrapper", tmp_path)
    energy, log = GXDLMSRegister("1.0.1.8.0.255"), GXDLMSData("0.0.96.1.9.255")
    energy.value, log.value = 4711, bytes(range(150))
    energy.setDataType(2, DataType.UINT32)
    log.setDataType(2, DataType.OCTET_STRING)
    bench.meter.items.append(energy)
    bench.meter.items.append(log)
    known, register, long = bench.read(
        {},
        {"object": "1-0:1.8.0.255", "class": 3, "attribute": 2, "sure": False},
        {"object": "0-0:96.1.9.255", "class": 1, "attribute": 2, "sure": False},
    )
    assert [entry["value"]["text"] for entry in known] == ["GRX0000000000001", "4.1.6"]
    assert register == [
        {"object": "1-0:1.8.0.255", "class": 3, "attribute": 2, "type": "double-long-unsigned", "value": 4711}
    ]
    assert long[0]["value"] == {"hex": log.value.hex()}
    assert bench.meter.seen["blocks out"]


def test_a_dedicated_key_carries_the_transfer(tmp_path):
    bench = Bench("hls-gmac", "tcp-hdlc", tmp_path)
    bench.dedicated_key = True
    assert bench.update().state is JobState.UPDATED
    assert bench.meter.image.content == IMAGE
    assert bench.meter.seen["dedicated key"] > len(IMAGE) // bench.model.block_size


@pytest.mark.parametrize("association, wrong", [
    ("lls", {"password": b"s3cret-9"}),
    ("hls-gmac", {"encryption_key": bytes(16)}),
    ("hls-gmac", {"authentication_key": bytes(16)}),
])  # fmt: skip
def test_a_wrong_secret_is_tried_once_and_named(association, wrong, tmp_path):
    bench = Bench(association, "tcp-hdlc", tmp_path)
    bench.keys = replace(bench.keys, **wrong)
    job = bench.update()
    assert (job.state, job.code) == (JobState.FAILED, Code.T_SECURITY)
    assert bench.meter.refusals == 1, "meters lock out"
    assert bench.meter.image.initiates == 0
