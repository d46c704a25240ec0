"""`resume_waste`: what a power cut costs on the line.

The whole gateway on virtual time sends one image to one meter, and its power fails 20 times meanwhile, at octets of the
line drawn by chance: in the middle of a block, or before its acknowledgement was read. Resent is each block that was
sent before, arrived or not. The figure is the most that were resent between one cut and the next.
"""

from __future__ import annotations

from support.resume_waste import Waste, waste
from support.world import ciphered

from benchmarks.figure import Figure, platform_of_run
from gateway.simulator import MeterSpec

TARGET = 1.0
CUTS = 20
_RUNS = 5
_IMAGE_OCTETS = 256 * 1024


def figure() -> Figure:
    kinds = {"plain": MeterSpec(), "ciphered": ciphered(), "window of 7 frames of 128 octets": _in_windows()}
    runs = {
        kind: [waste(spec, seed, image_octets=_IMAGE_OCTETS, cuts=CUTS) for seed in range(_RUNS)]
        for kind, spec in kinds.items()
    }
    every = [resent for of_kind in runs.values() for run in of_kind for resent in run.resent]
    return Figure(
        "resume_waste",
        max(every),
        "blocks for each power cut",
        TARGET,
        {
            "compared": f"an image of {_IMAGE_OCTETS} octets, {CUTS} power cuts at random octets of the line in each of"
            f" {_RUNS} transfers; blocks that were sent again, arrived or not, at most for one cut",
            "arrived_before_in_all": {
                kind: [run.arrived_again for run in of_kind] for kind, of_kind in runs.items()
            },
            "cuts": len(every),
            "resent_in_all": {kind: [sum(run.resent) for run in of_kind] for kind, of_kind in runs.items()},
            **platform_of_run(),
        },
    )


def _run(spec: MeterSpec, seed: int) -> Waste:
    return waste(spec, seed, image_octets=_IMAGE_OCTETS, cuts=CUTS)


def _in_windows() -> MeterSpec:
    return MeterSpec(block_size=512, max_info=128, window=7)
