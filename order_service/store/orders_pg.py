"""The order store on PostgreSQL: hot statements go through psycopg's pipeline on the engine's own driver connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote

import msgspec
import psycopg
from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.db import driver, engine
from infra.principal import Principal
from order_service.domain.lifecycle import Status
from order_service.domain.order import Order, Outcome, Pending
from order_service.store import statements_pg as sql
from order_service.store.order_json import why_json, why_of
from order_service.store.ports import ConflictError, Filter
from order_service.store.unit import Account, EventRow, Execution, FillKey, Unit, Want

T = TypeVar("T")
Connection = AsyncConnection[tuple[object, ...]]
Row = tuple[Any, ...]

# The plans of the hot statements are made while the tables may still be empty, when reading a table whole looks
# cheapest, and then kept. On the connections that write, every row is looked up by its key: nested loops over indexes.
INDEX_PLANS = "?options=" + quote(" ".join(f"-c enable_{way}=off" for way in ("seqscan", "hashjoin", "mergejoin")))
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
        rows = await self._read(sql.FIND, {"id": order_id, "own": _own(asker)})
        return _order(rows[0]) if rows else None

    async def page(self, asker: Principal, wanted: Filter) -> list[Order]:
        bounds = {
            "account_id = %(own)s": _own(asker),
            "account_id = %(account)s": wanted.account_id,
            "symbol = %(symbol)s": wanted.symbol,
            "status = %(status)s": wanted.status,
            "id < %(before)s::uuid": wanted.before,
        }
        clauses = [clause for clause, value in bounds.items() if value is not None]
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        values = {
            "own": _own(asker),
            "account": wanted.account_id,
            "symbol": wanted.symbol,
            "status": wanted.status,
            "before": wanted.before,
            "limit": wanted.limit,
        }
        rows = await self._read(
            f"SELECT {sql.ORDER_COLUMNS} FROM orders {where} ORDER BY orders.id DESC LIMIT %(limit)s", values
        )
        return [_order(row) for row in rows]

    async def events(self, asker: Principal, order_id: str) -> list[EventRow]:
        return [_event(row) for row in await self._read(sql.EVENTS, {"id": order_id, "own": _own(asker)})]

    async def events_since(self, asker: Principal, account_id: int, seq: int, limit: int) -> list[EventRow]:
        values = {"account": account_id, "seq": seq, "limit": limit, "own": _own(asker)}
        return [_event(row) for row in await self._read(sql.EVENTS_SINCE, values)]

    async def _read(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        async with driver(self.reads) as connection:
            cursor = await connection.execute(statement.encode(), values)
            return cast("list[Row]", await cursor.fetchall())


@contextlib.asynccontextmanager
async def opened(dsn: str, application: str, connections_max: int = 8) -> AsyncIterator[PgOrders]:
    """The store with its own engines. Connections are made on first use."""
    writes = engine(dsn + INDEX_PLANS, application, 2)
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
    accounts = sorted(want.accounts)
    orders = sorted(want.orders)
    if orders:
        locked = await _send(connection, sql.LOCK_ACCOUNTS_OF_ORDERS, (accounts, orders))
    else:
        locked = await _send(connection, sql.LOCK_ACCOUNTS, (accounts,))
    found = []
    if want.keys:
        numbers, keys = zip(*want.keys, strict=True)
        found.append(await _send(connection, sql.LOAD_KEYS, (list(numbers), list(keys))))
    if orders:
        found.append(await _send(connection, sql.LOAD_ORDERS, (orders,)))
    fills = None
    if want.fills:
        ids, exec_ids = zip(*want.fills, strict=True)
        fills = await _send(connection, sql.LOAD_FILLS, (list(ids), list(exec_ids)))
    unit = Unit()
    for number, status, seq in cast("list[Row]", await locked.fetchall()):
        unit.accounts[number] = Account(number, status, seq)
    for cursor in found:
        for row in await cursor.fetchall():
            unit.loaded(_order(row))
    if fills is not None:
        unit.fills = {fill.key: fill for fill in map(_fill, await fills.fetchall())}
    return unit


async def _save(connection: Connection, unit: Unit) -> None:
    touched = {event.account_id for event in unit.events}
    sequences = [{"id": number, "seq": unit.accounts[number].seq} for number in touched]
    await _send(connection, sql.SAVE_ACCOUNTS, (_json(sequences), len(sequences)))
    if unit.inserted:
        await _send(connection, sql.INSERT_ORDERS, (_json([_whole(order) for order in unit.inserted.values()]),))
    if unit.updated:
        rows = [_changing(order) | {"loaded_version": version} for version, order in unit.updated.values()]
        await _send(connection, sql.UPDATE_ORDERS, (_json(rows), len(rows)))
    if unit.executions:
        await _send(connection, sql.INSERT_FILLS, (_json([_fill_row(fill) for fill in unit.executions]),))
    await _send(connection, sql.INSERT_EVENTS, (_json(unit.events),))
    await _send(connection, sql.INSERT_OUTBOX, (_json(unit.outbox),))


async def _send(
    connection: Connection, statement: str, values: Sequence[object]
) -> psycopg.AsyncCursor[tuple[object, ...]]:
    return await connection.execute(statement.encode(), values, prepare=True)


def _json(rows: Sequence[object]) -> str:
    return _encoder.encode(rows).decode()


def _own(asker: Principal) -> int | None:
    """The only account that the asker may see, or None for all. An investor without an account sees none (0)."""
    return (asker.account_id or 0) if asker.role == "investor" else None


def _changing(order: Order) -> dict[str, object]:
    return {
        "id": order.id,
        "status": order.status,
        "pending": order.pending,
        "outcome": order.outcome,
        "cum_qty": order.cum_qty,
        "leaves_qty": order.leaves_qty,
        "cum_notional_micros": order.cum_notional_micros,
        "exchange_order_id": order.exchange_order_id,
        "cl_ord_id": order.cl_ord_id,
        "requests": order.requests,
        "venue_seq": order.venue_seq,
        "reason": why_json(order.reason),
        "attempts": order.attempts,
        "next_attempt_us": order.next_attempt_us,
        "version": order.version,
        "account_seq": order.account_seq,
        "updated_us": order.updated_us,
    }


def _whole(order: Order) -> dict[str, object]:
    return _changing(order) | {
        "account_id": order.account_id,
        "order_type": order.order_type,
        "type": order.type,
        "symbol": order.symbol,
        "quantity": order.quantity,
        "amount_micros": order.amount_micros,
        "tif": order.tif,
        "idempotency_key": order.idempotency_key,
        "request_hash": order.request_hash,
        "created_us": order.created_us,
    }


def _fill_row(fill: Execution) -> dict[str, object]:
    return fill.key._asdict() | {
        "account_id": fill.account_id,
        "last_qty": fill.last_qty,
        "last_micros": fill.last_micros,
        "transact_ns": fill.transact_ns,
        "source": fill.source,
    }


def _fill(row: Row) -> Execution:
    order_id, exec_id, venue_seq, account_id, last_qty, last_micros, transact_ns, source = row
    return Execution(
        key=FillKey(order_id, exec_id, venue_seq),
        account_id=account_id,
        last_qty=last_qty,
        last_micros=last_micros,
        transact_ns=transact_ns,
        source=source,
    )


def _order(row: Row) -> Order:
    values = dict(zip(Order.__slots__, row, strict=True))
    pending = values["pending"]
    values |= {
        "status": Status(values["status"]),
        "pending": None if pending is None else Pending(pending),
        "outcome": Outcome(values["outcome"]),
        "reason": why_of(values["reason"]),
    }
    return Order(**values)


def _event(row: Row) -> EventRow:
    return EventRow(**dict(zip(EventRow.__slots__, row, strict=True)))
