"""Signed firmware: what is taken on every way in, what is not, and that nothing unsigned costs anything."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from support.desk import CONFIG, IMAGE, LOCAL, MQTT, SHA256, URL, Desk, order
from support.signed import Certified, Signatory, enveloped, manifest, p256

from gateway.errors import Code
from gateway.model import (
    CampaignState,
    Config,
    FirmwareSettings,
    IdentifierSource,
    JobState,
    Profile,
    ReplyStatus,
    TransferRecord,
    Trust,
)
from gateway.store.documents import time_text

ACCEPTED, DONE, REJECTED = ReplyStatus.ACCEPTED, ReplyStatus.DONE, ReplyStatus.REJECTED

UTILITY, VENDOR, STRANGER = Signatory("utility"), p256("vendor"), Signatory("stranger")
X3 = Profile("acme-x3")


def trusting(*signatories: Signatory, profile: Profile = X3, **changes) -> Config:
    """The configuration of a gateway that trusts these; MTR1 and MTR2 have `profile`, MTR3 the X3's."""
    keys = tuple(signatory.trusted for signatory in signatories)
    meters = (*(replace(meter, profile=profile) for meter in CONFIG.meters[:2]), CONFIG.meters[2])
    firmware = FirmwareSettings(Trust.SIGNED, **{"trusted_keys": keys, **changes})
    return replace(CONFIG, firmware=firmware, meters=meters)


@pytest.fixture
def open_desk(tmp_path):
    desks = []

    def opened(config: Config = trusting(UTILITY)) -> Desk:  # noqa: B008 (frozen)
        desks.append(Desk(tmp_path, config))
        return desks[-1]

    yield opened
    for desk in desks:
        desk.close()


def image(document) -> dict:
    return {"sha256": SHA256, "url": URL, "manifest": document}


def ordered(desk, document, campaign_id="fw-1", origin=MQTT, **changes):
    return desk.send("campaign.submit", order(campaign_id, image=image(document), **changes), origin=origin)


def refused(reply, code, message):
    assert (reply.status, reply.code) == (REJECTED, code), reply.message
    assert message in reply.message
    assert reply.data["advice"]


def cancel(desk, campaign_id="fw-1"):
    assert desk.send("campaign.cancel", {"campaign_id": campaign_id}).status is DONE


# -- what is taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signatory", [UTILITY, VENDOR], ids=["Ed25519", "P-256"])
def test_a_signed_image_is_taken_and_its_manifest_feeds_the_campaign(open_desk, signatory):
    desk = open_desk(trusting(signatory))
    document = enveloped(manifest(from_versions=["4.0.*"]), signatory)
    reply = desk.send(
        "campaign.submit", order(image=image(document), identifier=None, expect_version=None), origin=MQTT
    )
    assert reply.status is ACCEPTED, reply.message
    campaign = desk.store.campaign("fw-1")
    assert (campaign.identifier, campaign.expect_version, campaign.image_size) == (
        b"X3-4.1.7",
        "4.1.7",
        len(IMAGE),
    )
    assert (campaign.profiles, campaign.from_versions) == (("acme-x3",), ("4.0.*",))
    (signed_by,) = campaign.signed_by
    assert signed_by.startswith(f"{signatory.name}.pem (")
    told = next(told for topic, told in desk.outbox() if topic == "campaign/fw-1")
    assert (told["image"]["manifest"], told["image"]["signed_by"]) == (campaign.manifest, [signed_by])
    assert desk.store.floors() == {"acme-x3": 12}


def test_the_version_that_the_order_expects_goes_before_the_manifests(open_desk):
    desk = open_desk()
    assert ordered(desk, enveloped(manifest(), UTILITY), expect_version="V4.1.7-EU").status is ACCEPTED
    assert desk.store.campaign("fw-1").expect_version == "V4.1.7-EU"


def test_where_the_profile_knows_the_identifier_nobody_has_to_name_one(open_desk):
    desk = open_desk(trusting(UTILITY, profile=replace(X3, identifier=IdentifierSource.MD5)))
    assert ordered(desk, enveloped(manifest(identifier=None), UTILITY), identifier=None).status is ACCEPTED
    refused(
        ordered(desk, enveloped(manifest(identifier=None), UTILITY), "fw-2", identifier=None, targets=["MTR3"]),
        Code.E_SCHEMA, "found no 'identifier'",
    )  # fmt: skip


def test_an_image_is_handed_over_with_its_manifest_and_ordered_by_its_digest(open_desk, tmp_path):
    desk = open_desk()
    document = enveloped(manifest(), UTILITY)
    with as_file(tmp_path) as file:
        reply = desk.send("image.add", {"sha256": SHA256, "manifest": document}, descriptor=file.fileno())
    assert reply.status is DONE, reply.message
    assert reply.data["manifest"]["sequence"] == 12
    by_digest = order(image={"sha256": SHA256}, identifier=None, expect_version=None)
    assert desk.send("campaign.submit", by_digest, origin=MQTT).status is ACCEPTED
    assert desk.store.campaign("fw-1").expect_version == "4.1.7"


def test_the_order_of_an_image_is_over_when_its_manifest_is(open_desk):
    desk = open_desk()
    end = desk.clock.now() + timedelta(days=2)
    document = enveloped(manifest(not_after=time_text(end)), UTILITY)
    for campaign_id, meter, ordered_until, over in (
        ("fw-1", "MTR1", None, end),
        ("fw-2", "MTR2", end + timedelta(days=1), end),
        ("fw-3", "MTR3", end - timedelta(days=1), end - timedelta(days=1)),
    ):
        until = {"not_after": time_text(ordered_until)} if ordered_until else {}
        assert ordered(desk, document, campaign_id, targets=[meter], **until).status is ACCEPTED
        assert desk.store.campaign(campaign_id).not_after == over


# -- what is not ---------------------------------------------------------------------------------------------------


def forged(document: dict) -> dict:
    """The payload of a better manifest under the signatures of this one."""
    return {**document, "payload": enveloped(manifest(version="6.6.6"))["payload"]}


NOT_TAKEN = {
    "no manifest": (lambda: None, Code.F_SIGNATURE, "no manifest covers this image"),
    "no signature": (lambda: enveloped(manifest()), Code.F_SIGNATURE, "signed by 0"),
    "a stranger's signature": (lambda: enveloped(manifest(), STRANGER), Code.F_SIGNATURE, "signed by 0"),
    "a forged payload": (lambda: forged(enveloped(manifest(), UTILITY)), Code.F_SIGNATURE, "signed by 0"),
    "signed as something else": (
        lambda: enveloped(manifest(), UTILITY, kind="application/vnd.meter-gateway.command+json"),
        Code.F_SIGNATURE, "the envelope holds",
    ),
    "of another image": (lambda: enveloped(manifest(b"other"), UTILITY), Code.F_DIGEST, "is of image"),
    "of another size": (lambda: enveloped(manifest(size=7), UTILITY), Code.F_SIZE, "7 octets"),
    "for another model": (
        lambda: enveloped(manifest(profiles=["acme-x4"]), UTILITY), Code.F_POLICY, "acme-x4",
    ),
    "expired": (
        lambda: enveloped(manifest(not_after="2020-01-01T00:00:00Z"), UTILITY), Code.F_POLICY, "was good until",
    ),
    "another identifier": (
        lambda: enveloped(manifest(identifier="X4"), UTILITY), Code.F_POLICY, "the manifest says 'X4'",
    ),
    "a payload that is no manifest": (lambda: enveloped({"v": 1}, UTILITY), Code.E_SCHEMA, "manifest: found no"),
    "a name that stands twice": (
        lambda: enveloped(b'{"sequence":1,"sequence":2}', UTILITY), Code.E_SCHEMA, "stands twice",
    ),
    "no number": (lambda: enveloped(b'{"size":NaN}', UTILITY), Code.E_SCHEMA, "NaN is no JSON"),
    "too big": (lambda: enveloped(b" " * 32_769, UTILITY), Code.E_SCHEMA, "at most 32768 octets"),
    "an unknown field": (lambda: enveloped(manifest(force=True), UTILITY), Code.E_SCHEMA, "force"),
    "not an envelope": (manifest, Code.E_SCHEMA, "args.image.manifest"),
}  # fmt: skip


@pytest.mark.parametrize("origin", [MQTT, LOCAL], ids=["over MQTT", "over the socket"])
@pytest.mark.parametrize(("make", "code", "message"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_what_is_not_signed_for_these_meters_is_refused_and_costs_nothing(
    open_desk, make: Callable[[], dict | None], code, message, origin
):
    desk = open_desk()
    document = make()
    stored = {"sha256": SHA256, "url": URL, "size": len(IMAGE)}
    whole = order(image=stored if document is None else {**stored, "manifest": document})
    refused(desk.send("campaign.submit", whole, origin=origin), code, message)
    assert desk.store.campaigns() == []
    assert desk.store.floors() == {}, "nothing unsigned burns a sequence"
    assert desk.store.manifest_of_image(SHA256) is None


def test_stored_bytes_without_a_manifest_are_only_bytes(open_desk, tmp_path):
    desk = open_desk()
    with as_file(tmp_path) as file:
        assert desk.send("image.add", {"sha256": SHA256}, descriptor=file.fileno()).status is DONE
    refused(desk.send("campaign.submit", order(image={"sha256": SHA256})), Code.F_SIGNATURE, "no manifest")


def test_a_file_with_a_manifest_that_is_not_its_own_is_not_kept(open_desk, tmp_path):
    desk = open_desk()
    for document, code, message in (
        (enveloped(manifest(), STRANGER), Code.F_SIGNATURE, "signed by 0"),
        (enveloped(manifest(IMAGE[::-1]), UTILITY), Code.F_DIGEST, "ordered was"),
        ({"payloadType": "x"}, Code.E_SCHEMA, "args.manifest"),
    ):
        with as_file(tmp_path) as file:
            reply = desk.send("image.add", {"manifest": document}, descriptor=file.fileno())
        refused(reply, code, message)
    assert desk.images.list() == ()
    assert desk.store.manifest_of_image(SHA256) is None


def test_without_any_trusted_key_every_image_is_refused(open_desk):
    desk = open_desk(trusting())
    reply = ordered(desk, enveloped(manifest(), UTILITY))
    refused(reply, Code.F_SIGNATURE, "neither trusted_keys nor trusted_root")
    assert "trusted key" in reply.data["advice"]


@pytest.mark.parametrize("by, found", [
    ([UTILITY], "signed by 1"), ([VENDOR, VENDOR], "signed by 1"), ([UTILITY, STRANGER], "signed by 1"), ([], "by 0"),
])  # fmt: skip
def test_one_of_two_signatures_is_not_enough(open_desk, by, found):
    desk = open_desk(trusting(UTILITY, VENDOR, threshold=2))
    reply = ordered(desk, enveloped(manifest(), *by))
    refused(reply, Code.F_SIGNATURE, found)
    assert "expected 2 different ones" in reply.message
    assert ordered(desk, enveloped(manifest(), VENDOR, STRANGER, UTILITY)).status is ACCEPTED


def test_an_order_cannot_choose_where_the_old_version_is_read(open_desk):
    """Else whoever holds the broker points to an object whose text happens to fit."""
    desk = open_desk()
    document = enveloped(manifest(from_versions=["4.0.*"]), UTILITY)
    elsewhere = {"firmware_object": "0-0:96.1.0.255"}
    refused(ordered(desk, document, **elsewhere), Code.F_POLICY, "the profile says where")
    assert ordered(desk, document, firmware_object=X3.firmware_object).status is ACCEPTED
    cancel(desk)
    assert ordered(desk, enveloped(manifest(), UTILITY), "fw-2", **elsewhere).status is ACCEPTED


def test_a_manifest_does_not_expire_by_a_clock_that_nobody_trusts(open_desk):
    desk = open_desk()
    desk.clock_says = "unsynced"
    expired = enveloped(manifest(not_after="2020-01-01T00:00:00Z"), UTILITY)
    assert ordered(desk, expired, origin=LOCAL).status is ACCEPTED
    assert desk.store.campaign("fw-1").not_after.year == 2020, "over as soon as the clock is right"
    refused(ordered(desk, expired, "fw-2", targets=["MTR3"]), Code.E_CLOCK, "synchronised")


# -- sequences -----------------------------------------------------------------------------------------------------


def test_an_older_sequence_is_refused_for_its_profile_unless_it_is_meant_to_go_back(open_desk):
    desk = open_desk()
    old, new = enveloped(manifest(sequence=11), UTILITY), enveloped(manifest(sequence=12), UTILITY)
    assert ordered(desk, old, "fw-1").status is ACCEPTED
    cancel(desk)
    assert ordered(desk, new, "fw-2").status is ACCEPTED
    cancel(desk, "fw-2")
    refused(ordered(desk, old, "fw-3"), Code.F_POLICY, "12 was accepted before for profile acme-x3")
    assert ordered(desk, new, "fw-4").status is ACCEPTED, "the same one may be ordered for other meters"
    cancel(desk, "fw-4")
    back = enveloped(manifest(sequence=11, rollback=True), UTILITY)
    assert ordered(desk, back, "fw-5").status is ACCEPTED
    assert desk.store.floors() == {"acme-x3": 12}, "a floor never falls"


def test_a_profile_has_a_floor_of_its_own(open_desk):
    desk = open_desk(trusting(UTILITY, profile=Profile("acme-x4")))
    both = {"profiles": ["acme-x3", "acme-x4"]}
    assert (
        ordered(desk, enveloped(manifest(sequence=20, **both), UTILITY), targets=["MTR1"]).status is ACCEPTED
    )
    assert desk.store.floors() == {"acme-x4": 20}, (
        "of the meters that were ordered, not of all that are named"
    )
    older = enveloped(manifest(sequence=5, **both), UTILITY)
    assert ordered(desk, older, "fw-2", targets=["MTR3"]).status is ACCEPTED
    refused(ordered(desk, older, "fw-3", targets="all"), Code.F_POLICY, "for profile acme-x4")


def test_an_order_that_is_not_accepted_and_a_dry_run_raise_no_floor(open_desk):
    desk = open_desk()
    assert ordered(desk, enveloped(manifest(), UTILITY), targets=["MTR3"]).status is ACCEPTED
    newer = enveloped(manifest(sequence=99), UTILITY)
    refused(ordered(desk, newer, targets=["MTR1"]), Code.E_CONFLICT, "exists already")
    refused(ordered(desk, newer, "fw-2", targets="all"), Code.E_STATE, "fw-1")
    assert ordered(desk, newer, "fw-3", targets=["MTR1"], dry_run=True).status is ACCEPTED
    assert desk.store.floors() == {"acme-x3": 12}


def test_a_retry_is_judged_as_a_new_order_is(open_desk):
    """The older image of an open campaign is not tried again in a meter that another one has brought further."""
    desk = open_desk()
    assert (
        ordered(desk, enveloped(manifest(sequence=11), UTILITY), targets=["MTR1", "MTR2"]).status is ACCEPTED
    )
    desk.images.add([IMAGE])
    desk.store.image_ready(desk.store.campaign("fw-1"), desk.images.has(SHA256))
    desk.store.save_job(replace(desk.store.job("fw-1", "MTR1"), state=JobState.FAILED, code=Code.T_SILENT))
    newer = enveloped(manifest(sequence=12), UTILITY)
    assert ordered(desk, newer, "fw-2", targets=["MTR1"]).status is ACCEPTED
    cancel(desk, "fw-2")
    reply = desk.send("campaign.retry", {"campaign_id": "fw-1"}, origin=MQTT)
    refused(reply, Code.F_POLICY, "12 was accepted before")


# -- a configuration that changes ----------------------------------------------------------------------------------


def test_a_key_that_is_no_longer_trusted_signs_no_order_and_no_retry(open_desk):
    desk = open_desk(trusting(UTILITY, VENDOR))
    document = enveloped(manifest(), UTILITY)
    assert ordered(desk, document, targets=["MTR1", "MTR2"]).status is ACCEPTED
    desk.images.add([IMAGE])
    desk.store.image_ready(desk.store.campaign("fw-1"), desk.images.has(SHA256))
    desk.store.save_job(replace(desk.store.job("fw-1", "MTR1"), state=JobState.FAILED, code=Code.T_SILENT))
    desk.controller.use(trusting(VENDOR))
    refused(ordered(desk, document, "fw-2", targets=["MTR3"]), Code.F_SIGNATURE, "signed by 0")
    refused(desk.send("campaign.submit", order("fw-3", image={"sha256": SHA256}, targets=["MTR3"])),
            Code.F_SIGNATURE, "signed by 0")  # fmt: skip
    refused(desk.send("campaign.retry", {"campaign_id": "fw-1"}), Code.F_SIGNATURE, "signed by 0")


def test_an_open_campaign_stops_when_its_key_is_no_longer_trusted(open_desk):
    """At the next start or reload; whoever has activated is looked after."""
    desk = open_desk(trusting(UTILITY, VENDOR))
    assert ordered(desk, enveloped(manifest(), UTILITY), targets=["MTR1", "MTR2"]).status is ACCEPTED
    assert ordered(desk, enveloped(manifest(), VENDOR, UTILITY), "fw-2", targets=["MTR3"]).status is ACCEPTED
    activated = TransferRecord(SHA256, b"X", len(IMAGE), 100, activate_decided=True)
    desk.images.add([IMAGE])
    desk.store.image_ready(desk.store.campaign("fw-1"), desk.images.has(SHA256))
    desk.store.save_job(replace(desk.store.job("fw-1", "MTR2"), state=JobState.CONFIRMING, record=activated))
    desk.controller.stop_untrusted()
    assert {campaign.state for campaign in desk.store.campaigns()} == {
        CampaignState.RUNNING,
        CampaignState.ACCEPTED,
    }
    desk.controller.use(trusting(VENDOR))
    desk.controller.stop_untrusted()
    first, second = desk.store.campaigns()
    assert (first.state, first.code) == (CampaignState.CANCELLING, Code.F_SIGNATURE)
    assert [(job.state, job.code) for job in desk.store.jobs("fw-1")] == [
        (JobState.CANCELLED, Code.F_SIGNATURE), (JobState.CONFIRMING, None),
    ]  # fmt: skip
    assert second.state is CampaignState.ACCEPTED, "the vendor still stands for it"
    desk.store.save_job(replace(desk.store.job("fw-1", "MTR2"), state=JobState.UPDATED))
    assert desk.store.campaign("fw-1").state is CampaignState.PARTIAL


def test_while_openssl_cannot_be_run_orders_that_need_it_are_held_and_others_are_not(
    open_desk, monkeypatch, tmp_path
):
    certified = Certified("utility")
    desk = open_desk(trusting(UTILITY, trusted_root=certified.root))
    orders = {
        "fw-1": certified.enveloped(manifest()),
        "fw-2": enveloped(manifest(), UTILITY),
        "fw-3": certified.enveloped(manifest()),
    }
    for target, (name, document) in zip(("MTR1", "MTR2", "MTR3"), orders.items(), strict=True):
        assert ordered(desk, document, name, targets=[target]).status is ACCEPTED
    killed = tmp_path / "openssl"
    killed.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\nkill -9 $$\n")
    killed.chmod(0o755)
    with monkeypatch.context() as short_of_memory:
        short_of_memory.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        desk.controller.stop_untrusted()
        reply = ordered(desk, orders["fw-1"], "fw-4")
        refused(reply, Code.F_SIGNATURE, "signal 9 ended openssl")
        assert reply.retryable
    assert desk.store.unproven == {"fw-1", "fw-3"}
    assert (tmp_path / "runs").read_text() == "run\nrun\n", "one for the order, one for all that are open"
    desk.controller.stop_untrusted()
    assert desk.store.unproven == frozenset()
    assert {campaign.state for campaign in desk.store.campaigns()} == {CampaignState.ACCEPTED}
    desk.controller.use(trusting(UTILITY, trusted_root=Certified("another").root))
    desk.controller.stop_untrusted()
    states = [campaign.state for campaign in desk.store.campaigns()]
    assert states == [CampaignState.CANCELLED, CampaignState.ACCEPTED, CampaignState.CANCELLED]


def test_what_was_taken_by_digest_stops_when_signatures_are_wanted(open_desk):
    desk = open_desk(replace(trusting(), firmware=FirmwareSettings(Trust.DIGEST)))
    assert desk.send("campaign.submit", order(), origin=MQTT).status is ACCEPTED
    desk.controller.use(trusting(UTILITY))
    desk.controller.stop_untrusted()
    campaign = desk.store.campaign("fw-1")
    assert (campaign.state, campaign.code) == (CampaignState.CANCELLED, Code.F_SIGNATURE)
    assert "no manifest covers this image" in campaign.message
    replies = [told for topic, told in desk.outbox() if topic == "rsp"]
    assert (replies[-1]["status"], replies[-1]["code"]) == ("failed", "F_SIGNATURE")


def test_an_order_that_was_good_when_it_came_is_not_stopped_by_its_dates(open_desk):
    desk = open_desk()
    end = desk.clock.now() + timedelta(days=1)
    assert ordered(desk, enveloped(manifest(not_after=time_text(end)), UTILITY)).status is ACCEPTED
    desk.clock.advance(timedelta(days=2).total_seconds())
    desk.controller.stop_untrusted()
    assert desk.store.campaign("fw-1").state is CampaignState.ACCEPTED, "the conductor ends it: W_EXPIRED"


def test_by_digest_a_manifest_is_held_to_but_nobody_looks_at_its_signatures(open_desk):
    desk = open_desk(replace(trusting(), firmware=FirmwareSettings(Trust.DIGEST)))
    refused(ordered(desk, enveloped(manifest(profiles=["acme-x4"]))), Code.F_POLICY, "acme-x4")
    refused(ordered(desk, enveloped(manifest(b"other"))), Code.F_DIGEST, "is of image")
    assert ordered(desk, enveloped(manifest(sequence=99))).status is ACCEPTED
    assert desk.store.campaign("fw-1").signed_by == ()
    assert desk.store.floors() == {}, "what nobody signed raises none"
    desk.controller.use(trusting(UTILITY))
    refused(desk.send("campaign.submit", order("fw-2", image={"sha256": SHA256}, targets=["MTR3"])),
            Code.F_SIGNATURE, "signed by 0")  # fmt: skip


def as_file(directory):
    path = directory / "x3.bin"
    path.write_bytes(IMAGE)
    return path.open("rb")
