"""Signed firmware through the whole gateway: into which meters it goes, and into which it does not."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.signed import Certified, Signatory, enveloped, manifest
from support.world import SimMeter, World

from gateway.model import FirmwareSettings, Match, Profile, Trust
from gateway.simulator import MeterSpec, What

UTILITY, CERTIFIED = Signatory("utility"), Certified("utility")
TRUSTING = FirmwareSettings(Trust.SIGNED, trusted_keys=(UTILITY.trusted,))
MODEL = "0-0:96.1.1.255"
X3 = Profile("acme-x3", Match(MODEL, "X3*"), reconnect_after_s=20, activate_timeout_s=300)


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def order_signed(world: World, **changes) -> dict:
    """The job of MTR1 at its end; `changes`: of the manifest."""
    content = {
        "sha256": world.sha256, "size": len(world.image), "identifier": "FW", "version": "2.0.0", **changes
    }  # fmt: skip
    image = {
        "sha256": world.sha256, "url": "http://127.0.0.1/fw.bin",
        "manifest": enveloped(manifest(**content), UTILITY),
    }  # fmt: skip
    command = world.submit(image=image)
    world.run_until_told()
    assert world.replies(command)[0]["status"] == "accepted"
    return world.job()


def model(name: str) -> MeterSpec:
    return MeterSpec(texts=((MODEL, name),))


def invoked(world: World) -> list[What]:
    methods = {What.INITIATE, What.BLOCK, What.VERIFY, What.ACTIVATE}
    return [event.what for event in world.meters["MTR1"].history.events if event.what in methods]


def test_a_signed_image_reaches_the_model_that_it_is_for(disk):
    world = World(disk, [SimMeter(model("X3 rev. 2"), profile=X3)], firmware=TRUSTING)
    job = order_signed(world, from_versions=["0.9.*", "1.0.*"])
    assert (job["state"], job["version_after"]) == ("updated", "2.0.0")
    assert invoked(world).count(What.ACTIVATE) == 1


def test_a_meter_that_says_it_is_another_model_is_left_alone(disk):
    """Configured as an X3, and a captured broker orders what was signed for X3s."""
    world = World(disk, [SimMeter(model("X4"), profile=X3)], firmware=TRUSTING)
    job = order_signed(world)
    assert (job["state"], job["code"]) == ("failed", "T_IDENTITY")
    assert invoked(world) == []


@pytest.mark.parametrize("known", [["0.9.*"], ["1.1.*", "2.*"], ["1.0"]])
def test_a_meter_with_a_version_that_may_not_be_replaced_is_left_alone(disk, known):
    world = World(disk, [SimMeter(model("X3"), profile=X3)], firmware=TRUSTING)
    job = order_signed(world, from_versions=known)
    assert (job["state"], job["code"]) == ("failed", "F_POLICY")
    assert "'1.0.0'" in job["message"] and known[0] in job["message"]
    assert job["advice"]
    assert invoked(world) == []


def test_bytes_that_are_not_the_signed_ones_reach_no_meter(disk):
    """The server, or whoever holds it, gives another image under the URL of the order."""
    world = World(disk, [SimMeter(model("X3"), profile=X3)], firmware=TRUSTING)
    world.images_by_sha256[world.sha256] = bytes(len(world.image))
    job = order_signed(world)
    assert (job["state"], job["code"]) == ("failed", "F_DIGEST")
    assert invoked(world) == []


def test_after_a_restart_the_manifest_still_holds(disk):
    """The profile of the meter was changed while the gateway was off: the image is not for that one."""
    world = World(disk, [SimMeter(model("X3"), profile=X3)], firmware=TRUSTING)
    content = {"sha256": world.sha256, "size": len(world.image), "identifier": "FW", "version": "2.0.0"}
    world.submit(
        image={"sha256": world.sha256, "url": "http://127.0.0.1/fw.bin",
               "manifest": enveloped(manifest(**content), UTILITY)}
    )  # fmt: skip
    world.run(lambda: What.BLOCK in invoked(world))
    world.config = replace(
        world.config,
        meters=tuple(replace(one, profile=replace(X3, name="acme-x4")) for one in world.config.meters),
    )
    world.cut_power()
    world.run_until_told()
    assert (world.job()["state"], world.job()["code"]) == ("failed", "F_POLICY")
    assert What.ACTIVATE not in invoked(world)


def order_certified(world: World) -> None:
    content = {"sha256": world.sha256, "size": len(world.image), "identifier": "FW", "version": "2.0.0"}
    image = {
        "sha256": world.sha256, "url": "http://127.0.0.1/fw.bin",
        "manifest": CERTIFIED.enveloped(manifest(**content)),
    }  # fmt: skip
    world.submit(image=image)


def paused(world: World) -> tuple[str, str | None]:
    return world.campaign()["state"], world.campaign()["paused"]


@pytest.mark.parametrize("begun", [True, False], ids=["in mid-transfer", "before its image is here"])
@pytest.mark.parametrize("restart", [True, False], ids=["restart", "reload"])
def test_an_order_whose_signature_nobody_can_look_at_is_held_and_goes_on_by_itself(
    disk, monkeypatch, tmp_path, restart, begun
):
    """openssl is gone when it is looked whether all that is open is still trusted, and is there again later."""
    firmware = FirmwareSettings(Trust.SIGNED, trusted_root=CERTIFIED.root)
    world = World(disk, [SimMeter(model("X3"), profile=X3)], firmware=firmware)
    order_certified(world)
    world.run((lambda: What.BLOCK in invoked(world)) if begun else (lambda: bool(world.store.campaigns())))
    with monkeypatch.context() as without_openssl:
        without_openssl.setenv("PATH", str(tmp_path))
        world.cut_power() if restart else world.look_at_signatures()
        before = len(invoked(world))
        world.run_to(world.now_s + 600)
        assert (world.campaign()["state"], world.campaign()["paused"]) == ("paused", "signature")
        assert len(invoked(world)) == before, "no octet more"
        refused = world.ask_at_the_gateway("campaign.resume", {"campaign_id": "c1"})
        assert "goes on by itself" in refused.message
    world.look_at_signatures()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.blocks.total() <= world.job()["blocks_total"] + restart
