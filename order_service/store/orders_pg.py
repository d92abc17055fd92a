"""The order store on PostgreSQL: hot statements go through psycopg's pipeline on the engine's own driver connection."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote

import msgspec
import psycopg
from psycopg import AsyncConnection
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.contracts import ORDER_EVENTS
from infra.db import driver, engine
from infra.outbox import OutboxRow
from infra.principal import Principal
from order_service.domain.breaks import Break
from order_service.domain.ledger import Balance
from order_service.domain.lifecycle import FINAL, Status
from order_service.domain.order import Order
from order_service.store import rows
from order_service.store import statements_pg as sql
from order_service.store.arrays_pg import Array, Bigints, Texts, Uuids, adapt
from order_service.store.ports import ConflictError, Filter, OpenOrder, OpenOrders
from order_service.store.unit import EventRow, Unit, Want

T = TypeVar("T")
Connection = AsyncConnection[tuple[object, ...]]
Row = tuple[Any, ...]

# The plans of the hot statements are made while the tables may still be empty, when reading a table whole looks
# cheapest, and then kept. On the connections that write, every row is looked up by its key: nested loops over indexes.
_OFF = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
INDEX_PLANS = "?options=" + quote(" ".join(f"-c {name}=off" for name in _OFF))
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class PgOrders:
    """`writes` has index plans pinned, `reads` plans freely."""

    writes: AsyncEngine
    reads: AsyncEngine

    async def write(self, asker: Principal, want: Want, decide: Callable[[Unit], T]) -> T:
        try:
            async with driver(self.writes) as connection, connection.pipeline():
                unit = await _load(connection, want)
                decided = decide(unit)
                if unit.changed:
                    await _save(connection, unit)
                    await connection.commit()
        except (psycopg.IntegrityError, psycopg.errors.DivisionByZero) as error:
            raise ConflictError(str(error)) from error
        return decided

    async def find(self, asker: Principal, order_id: str) -> Order | None:
        found = await self.read(sql.FIND, {"id": order_id, "own": own(asker)})
        return rows.order_of(found[0]) if found else None

    async def page(self, asker: Principal, wanted: Filter) -> list[Order]:
        bounds = {
            "account_id = %(own)s": own(asker),
            "account_id = %(account)s": wanted.account_id,
            "symbol = %(symbol)s": wanted.symbol,
            "status = %(status)s": wanted.status,
            "id < %(before)s::uuid": wanted.before,
        }
        clauses = [clause for clause, value in bounds.items() if value is not None]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        values = {
            "own": own(asker),
            "account": wanted.account_id,
            "symbol": wanted.symbol,
            "status": wanted.status,
            "before": wanted.before,
            "limit": wanted.limit,
        }
        found = await self.read(
            f"SELECT {sql.ORDER_COLUMNS} FROM orders {where} ORDER BY orders.id DESC LIMIT %(limit)s", values
        )
        return [rows.order_of(row) for row in found]

    async def events(self, asker: Principal, order_id: str) -> list[EventRow]:
        return [rows.event_of(row) for row in await self.read(sql.EVENTS, {"id": order_id, "own": own(asker)})]

    async def events_since(self, asker: Principal, account_id: int, seq: int, limit: int) -> list[EventRow]:
        values = {"account": account_id, "seq": seq, "limit": limit, "own": own(asker)}
        return [rows.event_of(row) for row in await self.read(sql.EVENTS_SINCE, values)]

    async def open_orders(self, asker: Principal, account_id: int) -> OpenOrders | None:
        values = {"account": account_id, "final": [*FINAL], "own": own(asker)}
        found = await self.read(sql.OPEN_ORDERS, values)
        orders = [OpenOrder(order_id, version, Status(status)) for _, order_id, version, status in found if order_id]
        return OpenOrders(found[0][0], sorted(orders)) if found else None

    async def read(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        async with driver(self.reads) as connection:
            cursor = await connection.execute(statement.encode(), values)
            return cast("list[Row]", await cursor.fetchall())


@contextlib.asynccontextmanager
async def opened(dsn: str, application: str, connections_max: int = 8) -> AsyncIterator[PgOrders]:
    """The store with its own engines. Connections are made on first use."""
    writes = engine(dsn + INDEX_PLANS, application, 2)
    event.listen(writes.sync_engine, "connect", lambda wrapped, _: adapt(wrapped.driver_connection))
    reads = engine(dsn, application, connections_max)
    try:
        yield PgOrders(writes, reads)
    finally:
        await writes.dispose()
        await reads.dispose()


async def add_accounts(dsn: str, accounts: Iterable[tuple[int, str]]) -> None:
    """Open accounts; those that exist are left as they are."""
    async with await AsyncConnection.connect(dsn) as connection:
        await connection.cursor().executemany(sql.ADD_ACCOUNT.encode(), list(accounts))


async def _load(connection: Connection, want: Want) -> Unit:
    """Send every load at once; the server runs them in order, each with its own snapshot, after the locks are held."""
    accounts = Bigints(sorted(want.accounts))
    orders = Uuids(known_ids(want.orders)) if want.orders else None
    if orders:
        locked = await _send(connection, sql.LOCK_ACCOUNTS_OF_ORDERS, (accounts, orders))
    else:
        locked = await _send(connection, sql.LOCK_ACCOUNTS, (accounts,))
    found, placed, executions = [], [], None
    if want.keys:
        numbers, keys = zip(*want.keys, strict=True)
        found.append(await _send(connection, sql.LOAD_KEYS, (Bigints(numbers), Texts(keys))))
    if orders:
        found.append(await _send(connection, sql.LOAD_ORDERS, (orders,)))
        placed.append(await _send(connection, sql.LOAD_POSITIONS_OF_ORDERS, (orders,)))
    if want.positions:
        numbers, symbols = zip(*want.positions, strict=True)
        placed.append(await _send(connection, sql.LOAD_POSITIONS, (Bigints(numbers), Texts(symbols))))
    if want.executions:
        ids, exec_ids = zip(*want.executions, strict=True)
        executions = await _send(connection, sql.LOAD_EXECUTIONS, (Uuids(ids), Texts(exec_ids)))
    unit = Unit()
    for account in map(rows.account_of, cast("list[Row]", await locked.fetchall())):
        unit.accounts[account.id] = account
    for cursor in found:
        for order in map(rows.order_of, await cursor.fetchall()):
            # One that was committed after the locks were taken is not there yet: its account is not ours to change.
            if order.account_id in unit.accounts:
                unit.loaded(order)
    for cursor in placed:
        for number, symbol, *balance in cast("list[Row]", await cursor.fetchall()):
            unit.positions[number, symbol] = Balance(*balance)
    if executions is not None:
        unit.known = {known.key: known for known in map(rows.execution_of, await executions.fetchall())}
    return unit


async def _save(connection: Connection, unit: Unit) -> None:
    if unit.touched:
        accounts = [rows.account_row(unit.accounts[number]) for number in sorted(unit.touched)]
        await _send(connection, sql.SAVE_ACCOUNTS, (_json(accounts), len(accounts)))
    if unit.moved:
        moved = [rows.position_row(place, unit.moved[place]) for place in sorted(unit.moved)]
        await _send(connection, sql.SAVE_POSITIONS, (_json(moved),))
    if unit.inserted:
        await _send(connection, sql.INSERT_ORDERS, (_json([rows.order_row(o) for o in unit.inserted.values()]),))
    if unit.updated:
        versions, orders = zip(*unit.updated.values(), strict=True)
        await _send(connection, sql.UPDATE_ORDERS, (_json(orders), Bigints(versions), len(orders)))
    if unit.executions:
        await _send(connection, sql.INSERT_EXECUTIONS, (_json([rows.execution_row(one) for one in unit.executions]),))
    if unit.ledger:
        await _send(connection, sql.INSERT_LEDGER, (_json([rows.ledger_row(row) for row in unit.ledger]),))
    if unit.events:
        told = [row for row in unit.outbox if row.aggregatetype == ORDER_EVENTS]
        await _send(connection, sql.INSERT_EVENTS, _event_columns(unit.events, told))
    if commands := [row for row in unit.outbox if row.aggregatetype != ORDER_EVENTS]:
        await _send(connection, sql.INSERT_OUTBOX, _outbox_columns(commands))
    if unit.breaks:
        await note_breaks(connection, unit.breaks.values())


def _event_columns(events: Sequence[EventRow], told: Sequence[OutboxRow]) -> tuple[Array, ...]:
    """`told` are the messages about the events, in the same order."""
    assert [row.id for row in told] == [event.event_id for event in events]
    return (
        Uuids([event.event_id for event in events]),
        Uuids([event.order_id for event in events]),
        Bigints([event.version for event in events]),
        Bigints([event.account_id for event in events]),
        Bigints([event.account_seq for event in events]),
        Texts([event.type for event in events]),
        Texts([event.cause for event in events]),
        Bigints([event.at_ns for event in events]),
        Texts([event.exec_id for event in events]),
        Texts([event.payload for event in events]),
        Texts([row.idempotency_key for row in told]),
        Texts([row.traceparent for row in told]),
    )


def _outbox_columns(outbox: Sequence[OutboxRow]) -> tuple[Array, ...]:
    return (
        Uuids([row.id for row in outbox]),
        Texts([row.aggregatetype for row in outbox]),
        Texts([row.aggregateid for row in outbox]),
        Texts([row.type for row in outbox]),
        Texts([row.payload for row in outbox]),
        Texts([row.idempotency_key for row in outbox]),
        Texts([row.traceparent for row in outbox]),
    )


async def note_breaks(connection: Connection, found: Iterable[Break]) -> None:
    await _send(connection, sql.NOTE_BREAKS, (_json([rows.break_row(one) for one in found]),))


async def _send(
    connection: Connection, statement: str, values: Sequence[object]
) -> psycopg.AsyncCursor[tuple[object, ...]]:
    return await connection.execute(statement.encode(), values, prepare=True)


def _json(values: Sequence[object]) -> str:
    return _encoder.encode(values).decode()


def known_ids(ids: Iterable[str]) -> list[str]:
    """Those that can be ours. Ids may be the exchange's words, and one that is no UUID fails in the database."""
    return [each for each in ids if _UUID.fullmatch(each)]


def own(asker: Principal) -> int | None:
    """The only account that the asker may see, or None for all. An investor without an account sees none (0)."""
    return (asker.account_id or 0) if asker.role == "investor" else None
