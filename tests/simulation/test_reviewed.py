"""Faults that a reader found in code that passed every test of its day; each is a story now."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SYSTEM_TITLE, SimMeter, World, ciphered

from gateway.model import Authentication, BitmapOrder, MeterKeys, Profile, Security
from gateway.simulator import Faults, MeterSpec, Mishap, Then, What, association, image, several
from gateway.wire import axdr, security
from gateway.wire.apdu import ExceptionService

PLAIN = MeterSpec(window=3)
HOURS = 3600.0


@pytest.fixture
def disk():
    with memory_directory() as directory:
        made = []

        def one():
            made.append(directory / str(len(made)))
            made[-1].mkdir()
            return made[-1]

        yield one


def two(spec, **changes):
    return [
        SimMeter(one, id=f"MTR{number}", **changes) for number, one in enumerate(several(spec, 2), start=1)
    ]


def test_a_cancelled_order_ends_for_every_meter_after_a_power_cut(disk):
    world = World(disk(), two(replace(PLAIN, verify_s=60.0)), image_size=20000)
    world.submit()
    world.run(
        lambda: (
            (world.job("MTR1").get("state"), world.job("MTR2").get("state")) == ("verifying", "transferring")
        )
    )
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run(lambda: world.campaign().get("state") == "cancelling")
    world.cut_power()
    world.run_until_told(limit_s=world.now_s + HOURS)
    assert {world.job("MTR1")["state"], world.job("MTR2")["state"]} == {"cancelled"}


def test_a_meter_that_left_the_configuration_does_not_stop_its_line(disk):
    world = World(disk(), two(PLAIN), image_size=20000)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() > 5)
    world.config = replace(world.config, meters=world.config.meters[1:])
    world.cut_power()
    world.run_until_told(limit_s=world.now_s + HOURS)
    assert (world.job("MTR1")["state"], world.job("MTR1")["code"]) == ("failed", "E_NOT_FOUND")
    assert world.job("MTR2")["state"] == "updated"


def test_a_meter_that_loses_the_same_block_for_ever_comes_to_an_end(disk, monkeypatch):
    """It acknowledges block 23, restarts, and has not got it."""
    honest = image.ImageTransfer._take_block

    def forgetful(self, number, block, now_s):
        outcome = honest(self, number, block, now_s)
        if number == 23 and outcome.result == 0:
            self._there[23:24] = bytes(1)
            return outcome._replace(reboots=True)
        return outcome

    monkeypatch.setattr(image.ImageTransfer, "_take_block", forgetful)
    world = World(disk(), [SimMeter(PLAIN)])
    world.submit()
    world.run_until_told(limit_s=2 * HOURS)
    assert world.job()["state"] == "failed"
    assert world.meters["MTR1"].history.activations == 0


def test_two_meters_with_one_key_never_see_one_nonce_twice(disk, monkeypatch):
    used, again = {}, []

    def note(title, counter, message):
        if title == SYSTEM_TITLE and used.setdefault(counter, message) != message:
            again.append(counter)

    seal, proof = security.Protection.seal, security.gmac_proof

    def noted_seal(self, plain, counter, **options):
        note(self._own_title, counter, plain)
        return seal(self, plain, counter, **options)

    def noted_proof(**made):
        note(made["title"], made["counter"], made["challenge"])
        return proof(**made)

    monkeypatch.setattr(security.Protection, "seal", noted_seal)
    monkeypatch.setattr(security, "gmac_proof", noted_proof)
    world = World(disk(), two(ciphered()))
    world.submit()
    world.run_until_told()
    assert {world.job("MTR1")["state"], world.job("MTR2")["state"]} == {"updated"}
    assert len(used) > 50
    assert again == []


def test_a_line_that_is_kept_for_a_silent_meter_is_served_when_it_is_given_up(disk):
    profile = Profile(
        bitmap=BitmapOrder.IGNORE, after_initiate_s=60, reconnect_after_s=20, activate_timeout_s=300
    )
    meters = two(PLAIN, profile=profile)
    meters[0].faults = Faults(mishaps=(Mishap(What.INITIATE, 1, Then.FALL_SILENT, 120.0),))
    world = World(disk(), meters)
    world.submit()
    world.run_until_told(limit_s=HOURS)
    assert {world.job("MTR1")["state"], world.job("MTR2")["state"]} == {"updated"}


@pytest.mark.parametrize("full_for", [1, 2])
def test_what_a_full_disk_did_not_take_was_not_decided(disk, full_for):
    whole = World(disk(), [SimMeter(PLAIN)])
    whole.submit()
    whole.run_until_told()
    for number in range(8, whole.power.commits):
        world = World(disk(), [SimMeter(PLAIN)])
        world.power.disk_full_at = frozenset(range(number, number + full_for))
        world.submit()
        world.run_until_told(limit_s=2 * HOURS)
        history = world.meters["MTR1"].history
        assert world.job()["state"] == "updated", (number, world.job())
        assert (history.initiates, history.verifies, history.activations) == (1, 1, 1)


def test_wrong_keys_are_tried_once_even_where_the_meter_answers_with_an_exception(disk, monkeypatch):
    honest, proofs = association.MeterAssociation._prove, []

    def curt(self, *arguments):
        answered = honest(self, *arguments)
        if self._state is association._State.CLOSED:
            proofs.append(1)
            return association.refusal(ExceptionService.OPERATION_NOT_POSSIBLE)
        return answered

    monkeypatch.setattr(association.MeterAssociation, "_prove", curt)
    spec = MeterSpec(
        keys=MeterKeys(bytes(range(16)), bytes(range(16, 32))),
        authentication=Authentication.HLS_GMAC, security=Security.NONE,
    )  # fmt: skip
    world = World(disk(), [SimMeter(spec, keys=replace(spec.keys, authentication_key=bytes(16)))])
    world.submit()
    world.run_until_told(limit_s=HOURS)
    assert (world.job()["state"], world.job()["code"]) == ("failed", "T_SECURITY")
    assert len(proofs) == 1


def test_an_image_that_somebody_verified_since_is_not_erased(disk):
    world = World(disk(), [SimMeter(PLAIN)], image_size=60000)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() > 50)
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    theirs, now_s = world.meters["MTR1"].image, world.now_s
    theirs.invoke(1, axdr.structure(axdr.octet_string(b"HAND-HELD"), axdr.u32(512)), now_s)
    for number in range(2):
        theirs.invoke(2, axdr.structure(axdr.u32(number), axdr.octet_string(b"z" * 256)), now_s)
    theirs.invoke(3, axdr.integer(0), now_s)
    theirs.settle(now_s + 10)
    world.submit("c2", identifier="FW-OTHER")
    world.run_until_told("c2")
    assert (world.job(campaign_id="c2")["state"], world.job(campaign_id="c2")["code"]) == (
        "failed",
        "T_FOREIGN",
    )
    assert theirs.identifier == b"HAND-HELD"


@pytest.mark.parametrize(
    ("says", "shown"),
    [("2.0.0\0\0\0", "2.0.0"), ("A" * 60_000, "A" * 128), ("1.0\x1b[2J", b"1.0\x1b[2J".hex())],
    ids=["padded", "endless", "control characters"],
)  # fmt: skip
def test_what_a_meter_calls_its_version_is_shown_safely(disk, says, shown):
    world = World(disk(), [SimMeter(replace(PLAIN, new_version=says))])
    world.submit(expect_version=shown)
    world.run_until_told()
    assert world.job()["version_after"] == shown
    assert world.job()["state"] == "updated"
