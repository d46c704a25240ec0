"""What power cuts in the middle of a transfer cost on its line."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn
from unittest import mock

from support.desk import memory_directory
from support.world import PowerCut, SimMeter, World

from gateway.link.session import Session
from gateway.simulator import MeterSpec, VirtualLine


@dataclass(frozen=True)
class Waste:
    resent: list[int]
    """Blocks that were sent again after each cut, up to the next one."""
    arrived_again: int
    """Of all of them, those that the meter had already."""


def waste(spec: MeterSpec, seed: int, *, image_octets: int, cuts: int) -> Waste:
    """One transfer with so many power cuts. AssertionError where the meter was begun anew or is not updated."""
    chance = random.Random(f"{seed} resume")
    sent: Counter[int] = Counter()
    again: list[int] = []
    send_block = Session.send_block

    def counted(self: Session, number: int, block: bytes) -> int:
        sent[number] += 1
        return send_block(self, number, block)

    def is_cut() -> None:
        again.append(sent.total() - len(sent))

    with (
        memory_directory() as directory,
        mock.patch.object(Session, "send_block", counted),
    ):
        world = World(directory, [SimMeter(spec)], image_size=image_octets, seed=seed)
        (line,) = world.lines.values()
        _cut(line, sorted(chance.randrange(2000, image_octets) for _ in range(cuts)), is_cut)
        world.submit()
        world.run_until_told()
        history = world.meters["MTR1"].history
        assert world.job()["state"] == "updated", world.job()
        assert history.initiates == 1, "begun anew"
        assert len(again) == cuts, f"{len(again)} cuts"
        is_cut()
        world.store.close()
    resent = [after - before for before, after in pairwise(again)]
    return Waste(resent, history.blocks.total() - len(history.blocks))


def _cut(line: VirtualLine, at: list[int], is_cut: Callable[[], None]) -> None:
    """Let the power fail when so many octets have gone over the line, both ways together."""
    write, read = line.write, line.read

    def fail() -> NoReturn:
        at.pop(0)
        is_cut()
        raise PowerCut

    def cut_write(octets: bytes) -> None:
        left = max(0, at[0] - line.octets_carried) if at else len(octets)
        if left:
            write(octets[:left])
        if left < len(octets):
            fail()

    def cut_read(limit: int, timeout_s: float) -> bytes:
        octets = read(limit, timeout_s)
        if at and line.octets_carried >= at[0]:
            fail()
        return octets

    line.write, line.read = cut_write, cut_read  # type: ignore[method-assign]
