"""Dead letters as operators handle them: what was parked, why, and what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from infra.contracts import DLQ_SUFFIX, TOPICS, Headers
from infra.principal import Principal

State = Literal["parked", "replayed", "discarded"]
DLQ_TOPICS = tuple(topic.name for topic in TOPICS if topic.name.endswith(DLQ_SUFFIX))

# Headers of a record that an operator sent back to its topic: the letter it was, and how often that has happened.
REPLAYED_FROM = "replayed-from"
REPLAYS = "replays"


@dataclass(frozen=True, slots=True)
class Record:
    """What lies on the dead-letter topic, byte for byte, with the headers that say why."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One record of a dead-letter topic. Times are microseconds UTC.

    `topic` is the one it was parked from; the place there is None when the record does not say it. `record` is left out
    in a list, because a value may have two megabytes. `replays` counts how often it had been sent back before.
    """

    id: str
    dlq_topic: str
    dlq_partition: int
    dlq_offset: int
    topic: str
    partition: int | None
    offset: int | None
    code: str
    text: str
    consumer: str
    order_id: str | None
    parked_us: int
    replays: int = 0
    state: State = "parked"
    state_us: int | None = None
    state_by: str | None = None
    state_reason: str | None = None
    record: Record | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters, newest first unless said otherwise. `before` is the id of the last one of the page before."""

    topic: str | None = None
    code: str | None = None
    state: State | None = None
    order_id: str | None = None
    ids: tuple[str, ...] | None = None
    before: str | None = None
    oldest_first: bool = False
    limit: int = 100


class DeadLetters(Protocol):
    """The index. Letters are numbered as they come in, so those of one key are in the order of their topic."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Store them, each with its record; those that are stored already stay as they are."""
        ...

    async def page(self, wanted: Filter) -> list[DeadLetter]:
        """Those that fit, without their records."""
        ...

    async def find(self, letter_id: str) -> DeadLetter | None:
        """One, with its record."""
        ...

    async def mark(
        self, asker: Principal, letter_id: str, before: State, after: State, reason: str
    ) -> DeadLetter | None:
        """The letter after its state changed from `before` to `after`; None when it is not in `before`."""
        ...

    async def ids(self, topic: str) -> set[str]:
        """The orders of which a record of `topic` is parked: what follows in that topic must not overtake it."""
        ...
