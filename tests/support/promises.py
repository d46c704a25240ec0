"""What a gateway promises of a campaign, held against what the virtual meters and the head-end saw."""

from __future__ import annotations

from support.world import World

from gateway.model import ImageTransferStatus
from gateway.simulator import What

ENDS = {"updated", "skipped", "failed", "cancelled"}


def check_promises(world: World, *, campaign_id: str = "c1") -> None:
    """Safety: what may never happen, whatever went wrong."""
    for meter_id, meter in world.meters.items():
        history, job = meter.history, world.job(meter_id, campaign_id)
        assert job["state"] in ENDS
        assert history.activations <= 1, "activated twice"
        before = [event.number for event in history.events if event.what is What.ACTIVATE]
        verified = ImageTransferStatus.VERIFICATION_SUCCESSFUL
        assert set(before) <= {verified}, "activated what the meter had not verified"
        assert history.initiates <= 2, "erased more often than max_initiates"
        assert history.count(What.SECURITY) == 0, "a counter was used twice, or a message was sealed wrongly"
        if history.activations:
            assert meter.image.image_sha256 == world.sha256, "another image was activated"
        if job["state"] == "updated":
            assert meter.version == "2.0.0"
            assert history.activations == 1
        else:
            assert job["code"] or job["state"] != "failed"
        if job["state"] == "cancelled":
            assert history.activations == 0, "cancelled, and activated all the same"
    assert not world.escaped, "only a disk that cannot be written lets an error leave a step"
    check_telling(world)


def check_telling(world: World) -> None:
    """What the head-end was told: no gap, nothing lost, nothing that contradicts itself."""
    events: dict[tuple[str, int], object] = {}
    for event in world.broker.documents("mgw/v1/gw-sim/event"):
        assert events.setdefault((event["epoch"], event["seq"]), event) == event
    assert sorted(seq for _, seq in events) == list(range(1, len(events) + 1)), "a gap in the audit"
    for topic in world.broker.retained:
        if "/campaign/" in topic:
            snapshots = world.broker.documents(topic)
            revs = [snapshot["rev"] for snapshot in snapshots]
            assert revs == sorted(revs), f"{topic} went back"
            last = snapshots[-1]
            assert all(s == last for s in snapshots if s["rev"] == last["rev"])
