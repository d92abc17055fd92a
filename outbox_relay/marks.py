"""How far all rows are known to be published: what survives a lost slot, a change of mode, and decides what may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from infra.clock import NS_PER_S

CATCHING_UP, STREAMING, POLLING = "catching_up", "streaming", "polling"
# Where the server does not bound transactions: how long one may take whose row carries the time of its beginning.
TRANSACTION_MS_MAX = 3_600_000
# A row carries the time its transaction began; one that commits after a mark may be older by the longest transaction.
# In milliseconds, by the server's own setting.
LONGEST_TRANSACTION_MS = f"""coalesce(
    (SELECT nullif(reset_val, '0')::bigint FROM pg_settings WHERE name = 'transaction_timeout'), {TRANSACTION_MS_MAX}
)"""


@dataclass(frozen=True, slots=True)
class Mark:
    """Every transaction committed before `since_ns` (Unix nanoseconds; 0: none) is published.

    While `catching_up`, the slot's stream alone is not enough: rows written since then must be read from the table. So
    it is after polling, too, for whose time there is no slot.
    """

    catching_up: bool
    since_ns: int

    def text(self) -> str:
        return f"{CATCHING_UP if self.catching_up else STREAMING} {self.since_ns}"


def mark_of(text: str | None) -> Mark:
    """A checkpoint that is not there yet: nothing is known to be published."""
    if text is None:
        return Mark(True, 0)
    state, _, since_ns = text.partition(" ")
    return Mark(state != STREAMING, int(since_ns))


def polled(since_ns: int) -> str:
    """The checkpoint of a poller: as good for a later slot as that of a lost one."""
    return f"{POLLING} {since_ns}"


def nanoseconds(moment: datetime) -> int:
    """Unix nanoseconds of an aware time, exact to its microsecond."""
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1_000


def moment_of(ns: int) -> datetime:
    """The time of these Unix nanoseconds, exact to the microsecond below."""
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).replace(microsecond=ns % NS_PER_S // 1_000)
