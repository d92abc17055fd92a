"""Send dead letters back to the topic they came from, byte for byte, no faster than told.

The letter is marked only after its record is durable there. A crash in between leaves it parked, and sending it once
more is safe: a replay keeps the event id, and every consumer dedupes by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from infra.bus import BusError, Producer
from infra.contracts import Headers
from infra.dlq.letters import REPLAYED_FROM, REPLAYS, DeadLetter, DeadLetters, State
from infra.dlq.park import HEADER_PREFIXES
from infra.principal import Principal
from infra.telemetry import DEAD_LETTERS_REPLAYED

log = structlog.get_logger(__name__)

LETTERS_MAX = 1000
DURABLE_S = 10.0


class ReplayRunning(Exception):
    """Another replay runs; two at a time could both send the same letter."""


# Gives the turn to one replay at a time, or raises ReplayRunning.
Turn = Callable[[], contextlib.AbstractAsyncContextManager[None]]
Outcome = Literal["replayed", "not_parked", "not_found", "unconfirmed", "not_tried"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one letter. `unconfirmed`: the bus did not say in time whether it has the record."""

    letter_id: str
    outcome: Outcome
    state: State | None


class LocalTurn:
    """The turn among the replays of this process: the twin of `letters_pg.PgTurn`."""

    def __init__(self) -> None:
        self._taken = False

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        if self._taken:
            raise ReplayRunning
        self._taken = True
        try:
            yield
        finally:
            self._taken = False


class Replay:
    """Sends letters in the order given. Raises ReplayRunning when another one has not ended."""

    def __init__(self, letters: DeadLetters, producer: Producer, turn: Turn, durable_s: float = DURABLE_S) -> None:
        self._letters = letters
        self._producer = producer
        self._turn = turn
        self._durable_s = durable_s

    async def __call__(self, asker: Principal, letter_ids: Sequence[str], rate_per_s: int, reason: str) -> list[Result]:
        """At most `rate_per_s` a second. A bus that does not answer ends the replay: the rest is `not_tried`."""
        assert len(letter_ids) <= LETTERS_MAX, "the caller bounds the selection"
        results: list[Result] = []
        async with self._turn():
            for letter_id in letter_ids:
                if results and results[-1].outcome in ("unconfirmed", "not_tried"):
                    results.append(Result(letter_id, "not_tried", None))
                    continue
                if results:
                    await asyncio.sleep(1 / rate_per_s)
                results.append(await self._one(asker, letter_id, reason))
        return results

    async def _one(self, asker: Principal, letter_id: str, reason: str) -> Result:
        letter = await self._letters.find(letter_id)
        if letter is None:
            return Result(letter_id, "not_found", None)
        if letter.state != "parked":
            return Result(letter_id, "not_parked", letter.state)
        try:
            async with asyncio.timeout(self._durable_s):
                await self._send(letter)
        except (BusError, TimeoutError) as error:
            log.warning("replay_unconfirmed", letter=letter_id, error=repr(error))
            return Result(letter_id, "unconfirmed", letter.state)
        DEAD_LETTERS_REPLAYED.labels(letter.topic).inc()
        log.info("dead_letter_replayed", letter=letter_id, topic=letter.topic, by=asker.subject, reason=reason)
        marked = await self._letters.mark(asker, letter_id, "parked", "replayed", reason)
        if marked is None:
            log.warning("dead_letter_changed_while_replayed", letter=letter_id)
        return Result(letter_id, "replayed", None if marked is None else marked.state)

    def _send(self, letter: DeadLetter) -> asyncio.Future[None]:
        record = letter.record
        assert record is not None, "a letter is found with its record"
        return self._producer.send(letter.topic, record.key, record.value, headers_again(letter, record.headers))


def headers_again(letter: DeadLetter, headers: Headers) -> Headers:
    """The headers that the record had before it was parked, and which letter it was."""
    own = (REPLAYED_FROM, REPLAYS)
    kept = tuple(header for header in headers if header[0] not in own and not header[0].startswith(HEADER_PREFIXES))
    return (*kept, (REPLAYED_FROM, letter.id.encode()), (REPLAYS, str(letter.replays + 1).encode()))
