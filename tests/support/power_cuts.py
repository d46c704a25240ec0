"""A whole gateway that loses power, and finds its disk in a state that POSIX allows (`support.disk`).

Time and the world outside are virtual (`support.world`): what the meters got and what the head-end was told stays, all
of the gateway is gone but what its disk kept. It goes on from there to the end, and every promise is checked. Between
two things that leave the gateway (octets on a line, a publication, an acknowledgement) nobody outside can tell two
moments apart; hence a run is stopped before one of them, and the power went anywhere since the last.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.disk import KINDS, Cut
from support.disk_watch import recorded
from support.promises import check_promises
from support.world import PowerCut, SimMeter, World, ciphered

from gateway.model import JobState, Profile
from gateway.simulator import MeterSpec, several
from gateway.supply.images import ImageStore

_METERS = (
    *(
        SimMeter(spec, id=f"MTR{number}", port="bus1")
        for number, spec in enumerate(several(ciphered(verify_s=5, block_size=512), 2), start=1)
    ),
    SimMeter(
        MeterSpec(block_size=128),
        id="MTR3",
        port="bus2",
        profile=Profile(reconnect_after_s=20, activate_timeout_s=300),
    ),
)
_IMAGE_OCTETS = 6000
_SLOW_BAUD = 1200
"""So that checkpoints come between blocks."""
_ENDS = {"succeeded", "partial", "failed", "cancelled", "expired"}
_LIMIT_S = 4 * 3600.0


@dataclass(frozen=True)
class Outage:
    """Of one life of the gateway: before which of the things that leave it the power has gone, counted from 0, and in
    which state that leaves the disk. `cut` None: any moment since the thing before, by `seed`."""

    before: int
    cut: Cut | None = None
    seed: int = 0


class CutWorld(World):
    """Loses power once for each of `outages`, each in a life of its own if that lasts so long, and then no more."""

    def __init__(
        self, base: Path, meters: list[SimMeter], outages: Sequence[Outage] = (), **settings: Any
    ) -> None:
        self._base = base
        self.to_come = list(outages)
        self._lives = 0
        self._record = ExitStack()
        self.undecided: set[str] = set()
        """Whose activation was durably decided when the power went, and never left."""
        self.lost: list[Cut] = []
        """How the power went, so far."""
        (base / "0").mkdir()
        self._begin_record(base / "0")
        super().__init__(base / "0", meters, **settings)
        for line in self.lines.values():
            line.write = self._leaving(line.write)  # type: ignore[method-assign]
        self.broker.publish = self._leaving(self.broker.publish)  # type: ignore[method-assign]
        self._poll, self.broker.poll = self.broker.poll, self._polled  # type: ignore[method-assign]

    @property
    def directory(self) -> Path:
        """Where the state is now."""
        return self._directory

    def _begin_record(self, directory: Path) -> None:
        self.disk = self._record.enter_context(recorded(directory))
        self.moments: list[int] = []
        """How many operations the disk had seen, at each thing that left the gateway in this life."""

    def _leaving(self, leave: Callable[..., Any]) -> Callable[..., Any]:
        def leaves(*given: Any) -> Any:
            self._something_leaves()
            return leave(*given)

        return leaves

    def _polled(self, timeout_s: float, deliver: Callable[[Any], None]) -> Any:
        def delivered(what: Any) -> None:
            deliver(what)
            self._something_leaves()  # the acknowledgement

        return self._poll(timeout_s, delivered)

    def _something_leaves(self) -> None:
        self.moments.append(self.disk.now)
        if self.to_come and len(self.moments) > self.to_come[0].before:
            raise PowerCut

    def cut_power(self) -> None:
        outage = self.to_come.pop(0)
        cut = outage.cut or self._cut_of(outage)
        self.lost.append(cut)
        self.store.close()
        self._record.close()
        self._lives += 1
        self._directory = self._base / str(self._lives)
        self.disk.leave(cut, self.directory)
        self._begin_record(self.directory)
        super().cut_power()
        self.undecided |= {
            job.meter_id
            for job in self.store.jobs("c1")
            if job.state is JobState.ACTIVATING and not self.meters[job.meter_id].history.activations
        }

    def _cut_of(self, outage: Outage) -> Cut:
        chance = random.Random(outage.seed)
        since = self.moments[outage.before - 1] if outage.before else 0
        after = chance.randint(since, self.moments[outage.before])
        return Cut(after, *chance.choice(KINDS), seed=outage.seed)

    def end(self) -> None:
        """Nothing runs any more. UnseenError where not everything was recorded."""
        self.store.close()
        self._record.close()


def tell_story(base: Path, outages: Sequence[Outage] = ()) -> CutWorld:
    """Two orders and a look at a meter, from command to end, with power cuts. AssertionError where a promise is
    broken."""
    base.mkdir()
    world = CutWorld(base, [*_METERS], outages, image_size=_IMAGE_OCTETS, baud=_SLOW_BAUD)
    try:
        _tell(world)
    except AssertionError as error:
        error.add_note(f"after {'; then '.join(map(str, world.lost))}")
        raise
    finally:
        world.end()
    return world


def _tell(world: CutWorld) -> None:
    update, probe = world.submit(canary=1), world.command("meter.probe", {"meter": "MTR3"})
    _run_until_told(world, "c1")
    look = world.submit("c2", dry_run=True)
    _run_until_told(world, "c2")
    world.run(lambda: len(world.replies(probe)) == 2)
    _check(world)
    for cmd_id in (update, look, probe):
        first, last = [reply["status"] for reply in world.replies(cmd_id)]
        assert first == "accepted"
        assert last in {"done", "failed"}


def _run_until_told(world: CutWorld, campaign_id: str) -> None:
    """An operator goes on where the first meter has failed."""
    resumed = False
    while world.campaign(campaign_id).get("state") not in _ENDS or world.store.outbox_batch(0, 1):
        if world.campaign(campaign_id).get("paused") == "failures" and not resumed:
            resumed = bool(world.command("campaign.resume", {"campaign_id": campaign_id}))
        soon_s = world.now_s + 10.0
        world.run(lambda: world.now_s >= soon_s)  # noqa: B023 (run calls it, and it alone)
        assert world.now_s < _LIMIT_S, f"{campaign_id} comes to no end: {world.sentences[-5:]}"


def _check(world: CutWorld) -> None:
    check_promises(world)
    assert world.lost or not world.to_come, "the story has no such moment"
    not_updated = {meter for meter in world.meters if world.job(meter)["state"] != "updated"}
    assert not_updated <= world.undecided
    assert {world.job(meter)["code"] for meter in not_updated} <= {"T_ACTIVATE"}
    assert world.campaign("c1")["state"] == ("partial" if not_updated else "succeeded")
    assert world.campaign("c2")["state"] == "succeeded"
    for meter_id, meter in world.meters.items():
        assert meter.history.initiates == 1
        resent = meter.history.blocks.total() - world.job(meter_id)["blocks_total"]
        assert resent <= len(world.lost), "more than the block on the line was sent again"
    assert world.store.set_aside is None
    assert not list(world.directory.glob("*broken*"))
    assert ImageStore(world.directory / "images", 2**20).read(world.sha256) == world.image


def outages_of(whole: CutWorld, count: int, *, seed: int = 1, again: bool = False) -> list[list[Outage]]:
    """`count` ways for the power to go in the story that `whole` has told without. `again`: and once more in the life
    after, soon."""
    chance = random.Random(seed)
    last = whole.moments[-1]
    outages = []
    for drawn in whole.disk.cuts(count, seed=seed):
        cut = replace(drawn, after=min(drawn.after, last))
        first = Outage(bisect_left(whole.moments, cut.after), cut)
        second = Outage(chance.randrange(12), seed=chance.getrandbits(32))
        outages.append([first, second] if again else [first])
    return outages
