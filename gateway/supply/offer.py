"""An image that is offered to gateways over MQTT: whose turn is it, and which block goes. Pure.

What a `get` grants is sent once, block by block in turn with what other gateways wait for. Nothing else is remembered
of a gateway: what it lacks it says itself, again if need be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gateway.errors import SizeError
from gateway.supply.block_get import Get, block_count

LARGEST_BLOCK_BYTES = 1 << 20
_LARGEST_CREDIT_BYTES = 4 << 20
_LARGEST_CREDIT_BLOCKS = 4096
"""So much waits for one gateway at most, whatever it asks for and however often."""
_GATEWAYS_LIMIT = 10_000
_REPEATED = 5
"""So many times in a row that a gateway lacks the same first block: nothing arrives there."""


@dataclass(slots=True)
class Standing:
    """How far a gateway is."""

    blocks_total: int = 0
    blocks_done: int = 0
    """It lacks none before this one, or has asked for it."""
    blocks_sent: int = 0
    done: bool = False
    """It said that nothing is missing."""
    repeats: int = 0
    waiting: dict[int, int] = field(default_factory=dict)
    """Blocks that go next, in order, with the size that it cuts blocks to."""


class Offer:
    """One image of `size` octets, and everybody who asked for it."""

    def __init__(self, size: int) -> None:
        self.standings: dict[str, Standing] = {}
        self._size = size
        self._turns: deque[str] = deque()

    def heard(self, gateway: str, get: Get) -> str:
        """Note what a gateway lacks; what an operator should know of it, or nothing.

        Raises SizeError where it means an image of another size, or cannot be served.
        """
        if get.size != self._size:
            raise SizeError(f"{gateway} expects {get.size} octets, the image has {self._size}")
        if get.block > LARGEST_BLOCK_BYTES:
            raise SizeError(
                f"{gateway} wants blocks of {get.block} octets, {LARGEST_BLOCK_BYTES} are the most"
            )
        if gateway not in self.standings and len(self.standings) >= _GATEWAYS_LIMIT:
            raise SizeError(f"{gateway} is one too many: {_GATEWAYS_LIMIT} gateways are served already")
        standing = self.standings.setdefault(gateway, Standing())
        again = get.first == standing.blocks_done and standing.blocks_sent > 0 and not get.nothing_missing
        standing.repeats = standing.repeats + 1 if again else 0
        standing.blocks_total = block_count(self._size, get.block)
        standing.blocks_done = min(get.first, standing.blocks_total)
        standing.done = get.nothing_missing
        most = min(max(1, _LARGEST_CREDIT_BYTES // get.block), _LARGEST_CREDIT_BLOCKS)
        granted = get.granted(most)
        if granted and not standing.waiting:
            self._turns.append(gateway)
        for number in granted:
            if number in standing.waiting or len(standing.waiting) < most:
                standing.waiting[number] = get.block
        if standing.repeats == _REPEATED:
            return f"{gateway} asks for block {get.first} again and again: may we publish its blocks?"
        return ""

    def next_block(self) -> tuple[str, int, int] | None:
        """Whose turn it is, with the number of a block and the size that it cuts blocks to."""
        if not self._turns:
            return None
        gateway = self._turns.popleft()
        standing = self.standings[gateway]
        number = next(iter(standing.waiting))
        block = standing.waiting.pop(number)
        standing.blocks_sent += 1
        if standing.waiting:
            self._turns.append(gateway)
        return gateway, number, block

    def forget(self) -> None:
        """The connection was lost: who still lacks something asks again."""
        self._turns.clear()
        for standing in self.standings.values():
            standing.waiting.clear()
