"""What misbehaviour makes of the ticks of a frame: some are left out, sent twice, or sent after the symbol's next one.

The frame's number still counts every tick, the ticks keep their own sequence numbers, and a re-send has them all: as
when a line of a feed loses a message and the numbers around it go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from exchange_gateway.simulator.chaos import Chaos
from infra.contracts import Tick


class TickTrouble:
    """`_held` are ticks that wait for their symbol's next one: at most one per symbol."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._held: dict[str, Tick] = {}

    def begin(self) -> None:
        """A session begins; what was held back of the one before never came."""
        self._held.clear()

    def sent(self, ticks: Sequence[Tick]) -> list[Tick] | None:
        """What goes out instead of these ticks; None when it is they themselves."""
        if not (self._held or self._chaos.watches("tick")):
            return None
        sent: list[Tick] = []
        for tick in ticks:
            rule = self._chaos.ask("tick", symbols=(tick.s,))
            late = self._held.pop(tick.s, None)
            if rule is None or rule.kind == "duplicate_tick":
                sent += [tick] if rule is None else [tick, tick]
            elif rule.kind == "reordered_ticks" and late is None:
                self._held[tick.s] = tick
            elif rule.kind == "reordered_ticks":
                sent.append(tick)  # one waits already: it is the later of the two
            if late is not None:
                sent.append(late)
        return sent
