"""The index of dead letters on PostgreSQL: the table `dead_letters` of the database `orders`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.clock import Clock
from infra.db import driver
from infra.dlq.letters import DeadLetter, Filter, Record, State
from infra.dlq.replay import ReplayRunning
from infra.principal import Principal

# Microseconds to a timestamp and back, exactly; `to_timestamp` would pass through a float.
_AT = "timestamptz 'epoch' + {0}::bigint * interval '1 microsecond'"
_US = "(extract(epoch FROM {0}) * 1000000)::bigint"

_COLUMNS = f"""id::text, dlq_topic, dlq_partition, dlq_offset, topic, original_partition, original_offset, code, text,
 consumer, order_id, {_US.format("parked_at")}, replays, state, {_US.format("state_at")}, state_by, state_reason"""

_ADD = f"""INSERT INTO dead_letters (id, dlq_topic, dlq_partition, dlq_offset, topic, original_partition,
 original_offset, key, value, headers, code, text, consumer, order_id, parked_at, replays)
 VALUES (%(id)s, %(dlq_topic)s, %(dlq_partition)s, %(dlq_offset)s, %(topic)s, %(partition)s, %(offset)s, %(key)s,
 %(value)s, %(headers)s, %(code)s, %(text)s, %(consumer)s, %(order_id)s, {_AT.format("%(parked_us)s")}, %(replays)s)
 ON CONFLICT DO NOTHING"""

_FIND = f"SELECT {_COLUMNS}, key, value, headers::text FROM dead_letters WHERE id = %(id)s::uuid"

_MARK = f"""UPDATE dead_letters
 SET state = %(after)s, state_at = {_AT.format("%(now_us)s")}, state_by = %(by)s, state_reason = %(reason)s
 WHERE id = %(id)s::uuid AND state = %(before)s RETURNING {_COLUMNS}"""

_IDS = """SELECT DISTINCT order_id FROM dead_letters
 WHERE topic = %(topic)s AND state = 'parked' AND order_id IS NOT NULL"""

# Held by the session, not by a transaction: a replay may take longer than a transaction is allowed to.
_TAKE_TURN = "SELECT pg_try_advisory_lock(hashtextextended('dead-letter-replay', 0))"
_GIVE_TURN = "SELECT pg_advisory_unlock(hashtextextended('dead-letter-replay', 0))"

_encoder = msgspec.json.Encoder()
_headers = msgspec.json.Decoder(tuple[tuple[str, bytes], ...])
Row = tuple[Any, ...]


class PgLetters:
    """Satisfies `letters.DeadLetters`."""

    def __init__(self, source: AsyncEngine, clock: Clock) -> None:
        self._engine = source
        self._clock = clock

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        async with driver(self._engine) as connection:
            await connection.cursor().executemany(_ADD.encode(), [_row(letter) for letter in letters])
            await connection.commit()

    async def page(self, wanted: Filter) -> list[DeadLetter]:
        bounds = {
            "topic = %(topic)s": wanted.topic,
            "code = %(code)s": wanted.code,
            "state = %(state)s": wanted.state,
            "order_id = %(order_id)s": wanted.order_id,
            "id = ANY(%(ids)s::uuid[])": None if wanted.ids is None else list(wanted.ids),
            "seq < (SELECT seq FROM dead_letters WHERE id = %(before)s::uuid)": wanted.before,
        }
        clauses = [clause for clause, value in bounds.items() if value is not None]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        values = {
            "topic": wanted.topic,
            "code": wanted.code,
            "state": wanted.state,
            "order_id": wanted.order_id,
            "ids": None if wanted.ids is None else list(wanted.ids),
            "before": wanted.before,
            "limit": wanted.limit,
        }
        order = "" if wanted.oldest_first else " DESC"
        statement = f"SELECT {_COLUMNS} FROM dead_letters {where} ORDER BY seq{order} LIMIT %(limit)s"
        return [_letter(row) for row in await self._asked(statement, values)]

    async def find(self, letter_id: str) -> DeadLetter | None:
        rows = await self._asked(_FIND, {"id": letter_id})
        return _letter(rows[0]) if rows else None

    async def mark(
        self, asker: Principal, letter_id: str, before: State, after: State, reason: str
    ) -> DeadLetter | None:
        values = {
            "id": letter_id,
            "before": before,
            "after": after,
            "by": asker.subject,
            "reason": reason,
            "now_us": self._clock.now_ns() // 1000,
        }
        rows = await self._asked(_MARK, values)
        return _letter(rows[0]) if rows else None

    async def ids(self, topic: str) -> set[str]:
        return {str(row[0]) for row in await self._asked(_IDS, {"topic": topic})}

    async def _asked(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        async with driver(self._engine) as connection:
            cursor = await connection.execute(statement.encode(), values)
            rows = cast("list[Row]", await cursor.fetchall())
            await connection.commit()
        return rows


class PgTurn:
    """The turn among the replays of all processes. It ends with the connection that holds it."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        async with driver(self._engine) as connection:
            row = await (await connection.execute(_TAKE_TURN)).fetchone()
            await connection.commit()
            if not (row and row[0]):
                raise ReplayRunning
            try:
                yield
            finally:
                await connection.execute(_GIVE_TURN)
                await connection.commit()


def _row(letter: DeadLetter) -> dict[str, object]:
    record = letter.record
    assert record is not None, "a letter is stored with its record"
    return {
        "id": letter.id,
        "dlq_topic": letter.dlq_topic,
        "dlq_partition": letter.dlq_partition,
        "dlq_offset": letter.dlq_offset,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": record.key,
        "value": record.value,
        "headers": _encoder.encode(record.headers).decode(),
        "code": letter.code,
        "text": letter.text,
        "consumer": letter.consumer,
        "order_id": letter.order_id,
        "parked_us": letter.parked_us,
        "replays": letter.replays,
    }


def _letter(row: Row) -> DeadLetter:
    *columns, record = DeadLetter.__slots__
    values = dict(zip(columns, row, strict=False))
    if len(row) > len(columns):
        key, value, headers = row[len(columns) :]
        values[record] = Record(key, value, _headers.decode(headers))
    return DeadLetter(**values)
