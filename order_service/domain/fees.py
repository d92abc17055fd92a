"""What the house charges: per share, with a minimum per order, cheaper the more the account traded in earlier sessions.

An order keeps the terms of the moment it was placed, and its whole fee is a function of how much of it was filled. So
the order in which fills come, or their busts, cannot change what is charged in the end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """`tiers`: (shares traded in earlier sessions, from which the rate holds; micros per share), rising, first at 0."""

    min_micros: int
    tiers: tuple[tuple[int, int], ...]

    def per_share_micros(self, earlier_shares: int) -> int:
        return next(rate for shares, rate in reversed(self.tiers) if shares <= earlier_shares)


def fee_micros(filled: int, per_share_micros: int, min_micros: int) -> int:
    """The fee of an order of which `filled` shares were traded."""
    return max(min_micros, filled * per_share_micros) if filled > 0 else 0
