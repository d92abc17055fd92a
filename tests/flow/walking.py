"""The whole way, checked from outside: a tape played once and a thousand orders, on any system that answers HTTP.

What is asked of the system's inside (ticks stored, events published) goes through `Inside`, which each kind of system
answers from its own stores.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from infra.contracts import OrderEvent, cl_ord_id
from infra.principal import Role
from tests.tape_files import TapeFacts

FINAL = {"FILLED", "CANCELED", "REJECTED", "EXPIRED", "FAILED"}
ACCOUNTS = 5


class Inside(Protocol):
    """A system's stores, for checks only."""

    async def tick_counts(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        """(symbol, session) → (rows, distinct sequence numbers, highest sequence number)."""
        ...

    async def order_events(self) -> list[OrderEvent]:
        """Everything on `order-events`, duplicates included."""
        ...


@dataclass(frozen=True, slots=True)
class Doors:
    """How to reach a running system."""

    api_url: str
    venue_url: str
    venue_key: str
    token: Callable[[Role, int | None], str]
    inside: Inside

    def client(self, role: Role = "back_office", account: int | None = None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.token(role, account)}"}
        return httpx.AsyncClient(base_url=self.api_url, headers=headers, timeout=20, trust_env=False)

    def venue(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.venue_key}"}
        return httpx.AsyncClient(base_url=self.venue_url, headers=headers, timeout=20, trust_env=False)


async def eventually(what: str, check: Callable[[], Awaitable[Any]], deadline_s: float, every_s: float = 0.1) -> Any:
    """The first true answer of `check`; fails with the last answer when the deadline passes."""
    until, answer = time.monotonic() + deadline_s, None
    while time.monotonic() < until:
        try:
            if answer := await check():
                return answer
        except (httpx.HTTPError, AssertionError) as error:
            answer = error
        await asyncio.sleep(every_s)
    raise AssertionError(f"not within {deadline_s} s: {what} (last: {answer!r})")


@dataclass(slots=True)
class PriceWatcher:
    """One SSE client: the newest quote per symbol that it was sent."""

    doors: Doors
    symbols: list[str]
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def run(self) -> None:
        """Reconnects as a browser would, until cancelled."""
        while True:
            try:
                await self._stream()
            except httpx.HTTPError:
                await asyncio.sleep(0.2)

    async def _stream(self) -> None:
        query = {"symbols": ",".join(self.symbols)}
        async with (
            self.doors.client("investor", 1) as client,
            client.stream("GET", "/stockPrices/stream", params=query, timeout=None) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    data = json.loads(line[5:])
                    for quote in data if isinstance(data, list) else [data]:
                        if "symbol" in quote:
                            self.quotes[quote["symbol"]] = quote


@dataclass(slots=True)
class Placed:
    """What clients were told: order ids that the API accepted, and how many requests it refused."""

    accepted: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


async def place_orders(doors: Doors, count: int, seed: int, workers: int = 8, pause_s: float = 0.0) -> Placed:
    """`count` orders of mixed kinds from five accounts; about a fifth are cancelled at once.

    Every POST has its own Idempotency-Key and is repeated with it until it is answered, as a careful client does.
    """
    chooser, placed = random.Random(seed), Placed()
    async with doors.client("investor", 1) as reader:
        quotes = {q["symbol"]: q for q in (await reader.get("/stockPrices")).json()["quotes"]}
    held = {account: await _shares(doors, account) for account in range(1, ACCOUNTS + 1)}
    plans = [_plan(chooser, quotes, held, i) for i in range(count)]

    async def work(mine: list[dict[str, Any]]) -> None:
        clients = {a: doors.client("investor", a) for a in range(1, ACCOUNTS + 1)}
        try:
            for plan in mine:
                await _place(clients[plan["account"]], plan, placed)
                await asyncio.sleep(pause_s)
        finally:
            for client in clients.values():
                await client.aclose()

    async with asyncio.TaskGroup() as group:
        for i in range(workers):
            group.create_task(work(plans[i::workers]))
    return placed


async def _shares(doors: Doors, account: int) -> dict[str, int]:
    async with doors.client("investor", account) as client:
        answer = await client.get("/positions")
    assert answer.status_code == 200, answer.text
    return {position["symbol"]: position["available"] for position in answer.json()["positions"]}


def _plan(
    chooser: random.Random, quotes: dict[str, Any], held: dict[int, dict[str, int]], number: int
) -> dict[str, Any]:
    """Nobody sells what they do not have: that would be refused."""
    quote, account = quotes[chooser.choice(sorted(quotes))], 1 + number % ACCOUNTS
    side, quantity = chooser.choice(["buy", "sell"]), chooser.randint(1, 100)
    left = held[account].get(quote["symbol"], 0)
    if side == "sell" and left < quantity:
        side = "buy"
    elif side == "sell":
        held[account][quote["symbol"]] = left - quantity
    kind = chooser.choices(["crossing", "resting", "far", "market"], [4, 3, 2, 2])[0]
    body: dict[str, Any] = {"orderType": side, "symbol": quote["symbol"], "quantity": quantity}
    if kind == "market":
        body["type"] = "MARKET"
    else:
        away = {"crossing": 0.005, "resting": 0.0, "far": -0.03}[kind] * (1 if side == "buy" else -1)
        price = float(quote["price"] or quote["ask"] or 100)
        body |= {"type": "LIMIT", "amount": f"{price * (1 + away):.2f}"}
        body["timeInForce"] = chooser.choices(["DAY", "GTC", "IOC", "FOK"], [5, 3, 1, 1])[0]
    return {
        "account": account,
        "key": f"walk-{number}-{chooser.getrandbits(48):x}",
        "body": body,
        "cancel": chooser.random() < 0.2,
    }


async def _place(client: httpx.AsyncClient, plan: dict[str, Any], placed: Placed) -> None:
    async def post() -> httpx.Response:
        answer = await client.post("/orders", json=plan["body"], headers={"idempotency-key": plan["key"]})
        assert answer.status_code < 500, answer.text
        # The first try may have died with the server that handled it: its key is known for a while.
        assert answer.status_code == 201 or answer.json()["code"] != "request_in_flight", answer.text
        return answer

    answer: httpx.Response = await eventually("POST /orders is answered", post, 60)
    if answer.status_code != 201:
        placed.refused[answer.json()["code"]] += 1
        return
    order = answer.json()
    placed.accepted.append(order["id"])
    if plan["cancel"]:
        await eventually("DELETE /orders/{id} is answered", lambda: _cancel(client, order["id"]), 60)


async def _cancel(client: httpx.AsyncClient, order_id: str) -> httpx.Response:
    answer = await client.delete(f"/orders/{order_id}")
    assert answer.status_code < 500, answer.text
    return answer


async def all_orders(doors: Doors) -> dict[str, dict[str, Any]]:
    """Every order of every account, through the paged list."""
    found: dict[str, dict[str, Any]] = {}
    async with doors.client() as client:
        cursor: str | None = None
        while True:
            query = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            answer = await client.get("/orders", params=query)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found |= {order["id"]: order for order in page["orders"]}
            cursor = page.get("next")
            if not cursor:
                return found


async def cancel_what_rests(doors: Doors, deadline_s: float) -> dict[str, dict[str, Any]]:
    """Cancel until every order is final; returns them."""
    clients = {a: doors.client("investor", a) for a in range(1, ACCOUNTS + 1)}

    async def settled() -> dict[str, dict[str, Any]]:
        orders = await all_orders(doors)
        live = [o for o in orders.values() if o["status"] not in FINAL]
        for order in live:
            if order["pending"] is None:
                await _cancel(clients[order["accountId"]], order["id"])
        assert not live, (len(live), live[:3])
        return orders

    try:
        found: dict[str, dict[str, Any]] = await eventually("every order is final", settled, deadline_s, 0.5)
    finally:
        for client in clients.values():
            await client.aclose()
    return found


async def venue_pages(doors: Doors, path: str, items: str) -> list[dict[str, Any]]:
    """All pages of one of the venue's lists; checks the total that it promised."""
    found: list[dict[str, Any]] = []
    async with doors.venue() as client:
        after: Any = 0
        while after is not None:
            answer = await client.get(path, params={"after": after, "limit": 500})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page[items]
            after = page["next"]
    assert len(found) == page["total"]
    return found


async def check_books(doors: Doors, placed: Placed, orders: dict[str, dict[str, Any]]) -> None:
    """Nothing lost, nothing doubled: ours and the venue's orders and fills are the same."""
    assert set(placed.accepted) == set(orders), "an accepted order is missing, or one exists that nobody was told of"
    assert len(placed.accepted) == len(set(placed.accepted))
    at_venue = {o["cl_ord_id"].partition("-")[0]: o for o in await venue_pages(doors, "/orders", "orders")}
    fills = await venue_pages(doors, "/executions", "reports")
    assert len({(f["session"], f["exec_id"]) for f in fills}) == len(fills)
    filled: Counter[str] = Counter()
    notional: Counter[str] = Counter()
    for fill in fills:
        filled[fill["cl_ord_id"].partition("-")[0]] += fill["last_qty"]
        notional[fill["cl_ord_id"].partition("-")[0]] += fill["last_qty"] * fill["last_micros"]
    for order_id, order in orders.items():
        digits = cl_ord_id(order_id, 1).partition("-")[0]
        assert order["cumQuantity"] == filled[digits], order
        if order["cumQuantity"]:
            average = notional[digits] / filled[digits] / 1_000_000
            assert abs(float(order["averagePrice"]) - average) < 1e-6, order
        if digits in at_venue:
            assert order["status"] == at_venue[digits]["order_status"], (order, at_venue[digits])
        else:
            assert order["outcome"] in ("unsent", "confirmed"), order
            assert not order["cumQuantity"], order


async def check_events(doors: Doors, orders: dict[str, dict[str, Any]]) -> None:
    """Exactly one distinct event id for each change of each order, versions and account sequences without holes."""
    events = {event.event_id: event for event in await doors.inside.order_events()}
    versions: dict[str, list[int]] = {}
    sequences: dict[int, list[int]] = {}
    for event in events.values():
        versions.setdefault(event.order_id, []).append(event.version)
        sequences.setdefault(event.account_id, []).append(event.account_seq)
    for order_id, order in orders.items():
        assert sorted(versions[order_id]) == list(range(1, order["version"] + 1)), order_id
    for account_id, found in sequences.items():
        assert sorted(found) == list(range(1, len(found) + 1)), account_id


async def check_ticks_contiguous(doors: Doors) -> dict[tuple[str, int], tuple[int, int, int]]:
    """No tick twice, no hole: rows = distinct sequence numbers = the highest one."""
    counts = await doors.inside.tick_counts()
    for place, (rows, distinct, highest) in counts.items():
        assert rows == distinct == highest, place
    return counts


async def check_prices(doors: Doors, expected: TapeFacts, watcher: PriceWatcher) -> None:
    """Last prices, bids and asks by GET and by the stream equal the tape's last ones."""

    async def right() -> bool:
        async with doors.client() as client:
            quotes = {q["symbol"]: q for q in (await client.get("/stockPrices")).json()["quotes"]}
        for symbol, micros in expected.last_trade_micros.items():
            bid, ask = expected.last_bid_ask_micros[symbol]
            for seen in (quotes[symbol], watcher.quotes[symbol]):
                assert [_micros(seen[k]) for k in ("price", "bid", "ask")] == [micros, bid, ask], (symbol, seen)
        return True

    await eventually("the final prices are served and streamed", right, 30)


def _micros(value: float | None) -> int:
    return round((value or 0) * 1_000_000)


async def all_quoted(doors: Doors, expected: TapeFacts) -> None:
    async def quoted() -> bool:
        async with doors.client() as client:
            quotes = {q["symbol"]: q for q in (await client.get("/stockPrices")).json()["quotes"]}
        return set(quotes) == set(expected.rows) and all(q["price"] for q in quotes.values())

    await eventually("every symbol has a price", quoted, 60)


async def walk(doors: Doors, expected: TapeFacts, orders: int, play_s: float) -> None:
    """The scenario: watch, trade while the tape plays, let it end, compare everything."""
    await all_quoted(doors, expected)
    watcher = PriceWatcher(doors, sorted(expected.rows))
    watching = asyncio.create_task(watcher.run())
    try:
        placed = await place_orders(doors, orders, seed=7)
        # On a slow machine the tape may end before the last orders come; a quiet symbol has no fresh quote.
        assert set(placed.refused) <= {"market_closed", "quote_stale", "quote_missing"}, placed.refused
        await eventually("the tape was played to its end", lambda: played(doors, expected), play_s, 0.5)
        await eventually("every tick is stored", lambda: stored(doors, expected), 60, 0.5)
        await check_prices(doors, expected, watcher)
    finally:
        watching.cancel()
    final = await cancel_what_rests(doors, 60)
    assert len(final) == len(placed.accepted) > 0
    await check_ticks_contiguous(doors)
    await check_books(doors, placed, final)
    await eventually("every change is on order-events", lambda: _events_checked(doors, final), 30, 0.5)


async def _events_checked(doors: Doors, orders: dict[str, dict[str, Any]]) -> bool:
    await check_events(doors, orders)
    return True


async def played(doors: Doors, expected: TapeFacts) -> bool:
    async with doors.venue() as client:
        sessions = (await client.get("/market-data/sessions")).json()
    return any(not s["open"] and s["symbols"] == expected.rows for s in sessions)


async def stored(doors: Doors, expected: TapeFacts) -> bool:
    counts = await doors.inside.tick_counts()
    assert {symbol: rows for (symbol, _), (rows, _, _) in counts.items()} == expected.rows, counts
    return True
