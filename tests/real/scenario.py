"""What the scenario on real servers is made of: a bad venue, many clients, and our side read back for the checks."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import tuple_row

from infra.clock import SystemClock
from infra.db import engine
from infra.dlq.letters import DeadLetter
from infra.dlq.letters import Filter as Letters
from infra.dlq.letters_pg import PgLetters
from infra.principal import system
from order_service.domain.breaks import Break
from order_service.domain.executions import Execution
from order_service.domain.ledger import Book, Transfer
from order_service.domain.order import Order
from order_service.rebuild.compare import differences
from order_service.store.books_pg import PgBooks
from order_service.store.breaks_pg import PgBreaks
from order_service.store.funding import Funds, fund
from order_service.store.orders_pg import add_accounts, opened
from order_service.store.unit import EventRow, LedgerRow
from order_service.store.watch_pg import PgWatch
from tests.flow.walking import Doors, eventually
from tests.simulation.invariants import Ours

PAGE = 500
CASH_MICROS, SHARES = 500_000_000_000_000, 1_000_000
# Refusals after which a careful client comes again.
AGAIN = frozenset({"request_in_flight", "market_unknown"})
LEDGER = """SELECT event_id::text, line, order_id::text, asset, amount, source_account, source_book, target_account,
 target_book FROM ledger"""

RULES: list[dict[str, Any]] = [
    {"kind": "lost_response", "probability": 0.02},
    {"kind": "delayed_acceptance", "probability": 0.01, "delay_s": 1.5},
    {"kind": "delayed_acceptance", "probability": 0.003, "delay_s": 7},
    {"kind": "server_error_before", "probability": 0.01},
    {"kind": "server_error_after", "probability": 0.01, "status": 502},
    {"kind": "too_many_requests", "probability": 0.005},
    {"kind": "slow_drip", "probability": 0.005, "delay_s": 0.001},
    {"kind": "truncated_body", "probability": 0.01},
    {"kind": "garbage_body", "probability": 0.01},
    {"kind": "reset_mid_body", "probability": 0.01},
    {"kind": "lost_response", "probability": 0.05, "on": ["query"]},
    {"kind": "halted_symbol", "probability": 0.001, "delay_s": 3},
    {"kind": "stray_fill", "probability": 0.001, "quantity": 7},
    {"kind": "disconnect", "probability": 0.002},
    {"kind": "bust", "probability": 0.01, "delay_s": 1},
    {"kind": "correct", "probability": 0.01, "delay_s": 0.5},
    {"kind": "overfill", "probability": 0.0005, "delay_s": 0.4, "quantity": 5},
    {"kind": "duplicate_report", "probability": 0.1},
    {"kind": "reordered_reports", "probability": 0.05, "delay_s": 1},
    {"kind": "missing_webhook", "probability": 0.1},
    {"kind": "wrong_quantity", "probability": 0.002},
    {"kind": "missing_frame", "probability": 0.02},
    {"kind": "drop_copy_disconnect", "probability": 0.005},
]
FORGETS = {"kind": "restart_without_memory", "count": 1, "every": 1, "delay_s": 1}


def write_scenario(path: Path) -> Path:
    path.write_text(json.dumps({"rules": RULES}))
    return path


@dataclass(slots=True)
class Told:
    """What clients were told."""

    orders: dict[tuple[int, str], str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)


async def open_accounts(dsn: str, accounts: range, symbols: list[str]) -> None:
    """Accounts with more than they can spend."""
    await add_accounts(dsn, [(number, f"Scenario account {number}") for number in accounts])
    funds = Funds(CASH_MICROS, dict.fromkeys(symbols, SHARES))
    async with opened(dsn, "scenario") as orders:
        books = PgBooks(orders, SystemClock())
        for number in accounts:
            assert await fund(books, system("scenario"), number, funds, "scenario")


class Client:
    """One account's client: places its orders one after the other, cancels and replaces some, sends some twice."""

    def __init__(self, doors: Doors, account: int, quotes: dict[str, Any], seed: int, told: Told) -> None:
        self._http = doors.client("investor", account)
        self._account = account
        self._quotes = quotes
        self._random = random.Random(seed * 1_000 + account)
        self._told = told

    async def trade(self, orders: int, pause_s: float) -> None:
        async with self._http:
            for number in range(orders):
                await self._one(f"s{number}-{self._random.getrandbits(32):08x}")
                await asyncio.sleep(self._random.random() * 2 * pause_s)

    async def _one(self, key: str) -> None:
        chance, body = self._random.random, self._body()
        twice = [self._place(key, body) for _ in range(2 if chance() < 0.05 else 1)]
        order_id = (await asyncio.gather(*twice))[0]
        if order_id is None:
            return
        if chance() < 0.2 and "amount" in body:
            terms = {"quantity": max(1, body["quantity"] + self._random.randint(-50, 50))}
            await self._asked("PATCH", f"/orders/{order_id}", {"json": terms})
        if chance() < 0.2:
            await self._asked("DELETE", f"/orders/{order_id}", {})

    def _body(self) -> dict[str, Any]:
        quote = self._quotes[self._random.choice(sorted(self._quotes))]
        side = self._random.choice(("buy", "sell"))
        body = {"orderType": side, "symbol": quote["symbol"], "quantity": self._random.randint(1, 300)}
        if self._random.random() < 0.15:
            return body | {"type": "MARKET"}
        away = self._random.choice((0.004, 0.0, -0.02)) * (1 if side == "buy" else -1)
        price = float(quote["price"] or quote["ask"] or 100) * (1 + away)
        tif = self._random.choices(("DAY", "GTC", "IOC", "FOK"), (6, 3, 1, 1))[0]
        return body | {"type": "LIMIT", "amount": f"{price:.2f}", "timeInForce": tif}

    async def _place(self, key: str, body: dict[str, Any]) -> str | None:
        answer = await self._asked("POST", "/orders", {"json": body, "headers": {"idempotency-key": key}})
        if answer.status_code != 201:
            self._told.refused[answer.json()["code"]] += 1
            return None
        order_id: str = answer.json()["id"]
        first = self._told.orders.setdefault((self._account, key), order_id)
        if first != order_id:
            self._told.conflicts.append(f"key {key} was answered with {first} and {order_id}")
        return order_id

    async def _asked(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._http.request(method, path, **request)
            assert answer.status_code < 500, answer.text
            assert answer.is_success or answer.json()["code"] not in AGAIN, answer.text
            return answer

        found: httpx.Response = await eventually(f"{method} {path} is answered", ask, 120, 0.2)
        return found


async def ours(dsn: str, told: Told, published: list[Any]) -> Ours:
    """Our side, read from the database."""
    async with opened(dsn, "scenario") as store:
        watch, books, breaks = PgWatch(store), PgBooks(store, SystemClock()), PgBreaks(store)
        orders, histories = await _histories(watch)
        executions = await _executions(dsn, watch)
        listed, found = await breaks.page(None, None, PAGE), []
        while listed:
            found += listed
            listed = await breaks.page(None, listed[-1].id, PAGE)
        return Ours(
            told=dict(told.orders),
            orders=orders,
            histories=histories,
            executions=executions,
            ledger=await _ledger(dsn),
            breaks=found,
            differences=await books.differences(),
            rebuilt=[
                f"{one.order_id} {one.field}"
                for order_id, events in histories.items()
                for one in differences(orders.get(order_id), events)
            ],
            letters=await _letters(dsn),
            published=published,
        )


async def _histories(watch: PgWatch) -> tuple[dict[str, Order], dict[str, list[EventRow]]]:
    orders: dict[str, Order] = {}
    histories: dict[str, list[EventRow]] = {}
    after: str | None = None
    while page := await watch.histories_after(after, PAGE):
        for order, events in page:
            after = order.id if order is not None else events[0].order_id
            histories[after] = events
            if order is not None:
                orders[after] = order
    return orders, histories


async def _executions(dsn: str, watch: PgWatch) -> list[Execution]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("SELECT DISTINCT order_id::text FROM executions ORDER BY 1")
        ids = [str(row[0]) for row in await cursor.fetchall()]
    found: list[Execution] = []
    for start in range(0, len(ids), PAGE):
        found += (await watch.executions_of(ids[start : start + PAGE])).values()
    return found


async def _ledger(dsn: str) -> list[LedgerRow]:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=tuple_row) as connection:
        rows = await (await connection.execute(LEDGER)).fetchall()
    return [
        LedgerRow(
            event_id=event,
            line=line,
            order_id=order_id,
            transfer=Transfer(asset, amount, Book(source, source_book), Book(target, target_book)),
            at_us=0,
        )
        for event, line, order_id, asset, amount, source, source_book, target, target_book in rows
    ]


async def _letters(dsn: str) -> list[DeadLetter]:
    source = engine(dsn, "scenario", connections_max=1)
    try:
        return await PgLetters(source, SystemClock()).page(Letters(limit=PAGE))
    finally:
        await source.dispose()


def shown(breaks: list[Break]) -> Counter[tuple[str, str]]:
    return Counter((one.kind, one.state) for one in breaks)
