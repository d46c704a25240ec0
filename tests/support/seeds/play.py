"""One seed, from its first order to its last word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.seeds.ends import check_ends, ended
from support.seeds.fate import ClockChange, Deed, Fate
from support.seeds.witness import Witness
from support.world import NEVER_S, World

from gateway.model import PausedWhy

_OPERATOR_COMES_S = 600.0
_LONGEST_S = 60 * 86400.0
_LEAP_S = 60.0
_HELPS = {
    PausedWhy.OPERATOR: "campaign.resume",
    PausedWhy.FAILURES: "campaign.resume",
    PausedWhy.APPROVAL: "campaign.approve",
}
"""What an operator does about a campaign that waits for him."""


class Playing:
    """A world that `fate` happens to. `play` raises AssertionError where a promise is broken."""

    def __init__(self, fate: Fate, directory: Path) -> None:
        self.fate = fate
        self.world = world = World(
            directory, [drawn.sim for drawn in fate.meters], seed=fate.seed, image=fate.image,
            other_image=fate.other_image, line_faults=fate.line_faults,
            baud=fate.baud, configured_baud=fate.baud, broker_loses=fate.broker_loses,
            power_fails_at=fate.power_fails_at, disk_full_at=fate.disk_full_at, wrapper_ports=fate.wrapper_ports,
            heads=fate.heads, start=fate.start, windows=fate.windows,
        )  # fmt: skip
        world.leaps_s = _LEAP_S
        self._witness = Witness(fate, world)
        world.watch(self._witness)
        self._commands: dict[str, str] = {}

    def play(self) -> None:
        with self._witness.nonces.watched():
            for at_s, happen in self._agenda():
                self.world.run_to(at_s)
                happen()
            self._heal()
            self._let_end()
        check_ends(self.fate, self.world, self._witness, self._commands)

    @property
    def ends(self) -> Counter[str]:
        """How jobs ended: state, or code."""
        return Counter(str(job.code or job.state) for job in self._witness.jobs.values())

    def _agenda(self) -> list[tuple[float, Callable[[], None]]]:
        fate = self.fate
        agenda: list[tuple[float, Callable[[], None]]] = [
            (deed.at_s, partial(self._do, deed)) for deed in fate.deeds
        ]
        agenda += [(change.at_s, partial(self._set_clock, change)) for change in fate.clock]
        agenda += [(from_s, partial(self._broker_leaves, to_s)) for from_s, to_s in fate.broker_away]
        agenda.append((fate.heals_at_s, lambda: None))
        return sorted(agenda, key=lambda entry: entry[0])

    # -- what happens -------------------------------------------------------------------------------------------

    def _do(self, deed: Deed) -> None:
        match deed.verb:
            case "stop":
                self.world.shut_down()
            case "power":
                self.world.cut_power()
            case "reboot":
                meter_id = deed.args["meter"]
                port = next(drawn.sim.port for drawn in self.fate.meters if drawn.sim.id == meter_id)
                self.world.meters[meter_id].reboot(self.world.clock(port).monotonic())
            case _:
                self._command(deed.verb, **deed.args)

    def _command(self, verb: str, **args: object) -> None:
        self._commands[self.world.command(verb, args)] = verb

    def _set_clock(self, change: ClockChange) -> None:
        self.world.clock_off_s = change.off_s
        self.world.clock_state = "synced" if change.trusted else "unsynced"
        self._witness.clock_is_set()

    def _broker_leaves(self, to_s: float) -> None:
        self.world.broker.away_until_s = to_s

    def _heal(self) -> None:
        world = self.world
        world.power.fails_at = world.power.disk_full_at = frozenset()
        world.escaped.clear()
        world.broker.loses = 0.0
        if world.clock_off_s or world.clock_state != "synced":
            self._set_clock(ClockChange(world.now_s, 0.0, trusted=True))

    def _let_end(self) -> None:
        """An operator comes by from time to time, and lets go on what waits for him."""
        world = self.world
        while not ended(world):
            left = world.store.open_campaigns()
            assert world.now_s < _LONGEST_S, f"these never end: {left}"
            for campaign in left:
                if campaign.paused in _HELPS:
                    self._command(_HELPS[campaign.paused], campaign_id=campaign.id)
            next_s = world.now_s + _OPERATOR_COMES_S
            world.run(partial(self._is_time, next_s), limit_s=NEVER_S, by_s=next_s)

    def _is_time(self, next_s: float) -> bool:
        return self.world.now_s >= next_s or (self._witness.nothing_open and ended(self.world))
