"""What closing gaps needs of the outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from price_service.domain.days import DayKey
from price_service.domain.holes import Runs


class Ask(NamedTuple):
    """A request for sequence numbers `first` to `last` of a symbol's session."""

    symbol: str
    session: int
    first: int
    last: int


class GatewayAway(Exception):
    """The request has no answer. Asking again later can help."""


class Refused(Exception):
    """The request will never be taken."""


class Holey(Protocol):
    """Who knows what has come: the ingest."""

    def holes(self) -> Mapping[DayKey, Runs]:
        """Every day that is held, with the numbers below its newest that have not come (mostly none)."""
        ...


class Resender(Protocol):
    async def resend(self, ask: Ask) -> Runs:
        """Have these ticks come again on the bus; the numbers that the venue does not have. Raises GatewayAway or
        Refused."""
        ...
