"""What clients do: a day of orders, decided by the seed before it begins, and careful clients who carry it out.

A client that gets no answer asks again with the same key, as the API's documentation tells it to, until it is answered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Protocol

from infra.principal import Principal
from infra.refusal import Refusal
from order_service.domain import reasons

TICK_MICROS = 10_000
OPENING_MICROS = {"AAPL": 580_000_000, "MSFT": 31_000_000, "IBM": 205_000_000}
SHARES, CASH_MICROS = 100_000, 500_000_000_000_000
ANSWER_S_MAX = 8.0
PAUSE_S = 0.4
# Refusals that say nothing about the request: a careful client comes again.
AGAIN = frozenset(
    code.code for code in (reasons.BUSY, reasons.STORE_UNAVAILABLE, reasons.MARKET_UNKNOWN, reasons.REQUEST_IN_FLIGHT)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One order that somebody wants, and what they do to it afterwards. Seconds from the start of the day.

    `again_s`: the very same request is sent once more, so much later. `ticks` is the limit's distance from the market,
    towards the other side; None is a MARKET order.
    """

    key: str
    account: int
    at_s: float
    side: str
    symbol: str
    quantity: int
    ticks: int | None
    tif: str
    again_s: float | None
    cancel_s: float | None
    replace_s: float | None
    replace_quantity: int
    replace_ticks: int


def day(random: Random, orders: int, accounts: int, length_s: float) -> list[Intent]:
    """`orders` intents with distinct keys; what is asked twice is asked with the same one."""
    made = []
    for number in range(orders):
        quantity = random.randint(1, 400)
        made.append(
            Intent(
                key=f"k{number}-{random.getrandbits(32):08x}",
                account=random.randint(1, accounts),
                at_s=random.random() * length_s,
                side=random.choice(("buy", "sell")),
                symbol=random.choice(sorted(OPENING_MICROS)),
                quantity=quantity,
                ticks=None if random.random() < 0.15 else random.choice((-60, -8, -2, 0, 0, 3, 20)),
                tif=random.choices(("DAY", "GTC", "IOC", "FOK"), (6, 3, 1, 1))[0],
                again_s=random.choice((0.0, 0.01, 3.0)) if random.random() < 0.1 else None,
                cancel_s=random.random() * 6 if random.random() < 0.3 else None,
                replace_s=random.random() * 4 if random.random() < 0.25 else None,
                replace_quantity=max(1, quantity + random.randint(-100, 100)),
                replace_ticks=random.choice((-30, -3, 0, 2)),
            )
        )
    return sorted(made, key=lambda intent: intent.at_s)


@dataclass(slots=True)
class Told:
    """What clients were told. `orders`: the order id of each key; `conflicts`: a key that was answered with two."""

    orders: dict[tuple[int, str], str] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    asked_again: int = 0

    def placed(self, account: int, key: str, order_id: str) -> None:
        first = self.orders.setdefault((account, key), order_id)
        if first != order_id:
            self.conflicts.append(f"key {key} was answered with order {first} and with order {order_id}")


class Door(Protocol):
    """The API, as a client reaches it. None when nobody answers."""

    async def ask(self, request: Callable[[Any], Awaitable[Any]], answer_s: float) -> Any | None: ...


class Clients:
    """Carries out a day. `market` gives the price of a symbol now, micros."""

    def __init__(self, door: Door, market: Callable[[str], int], told: Told, until_s: Callable[[], bool]) -> None:
        self._door = door
        self._market = market
        self._told = told
        self._too_late = until_s

    async def live(self, intents: list[Intent]) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        tasks = []
        for intent in intents:
            await asyncio.sleep(max(0.0, began_s + intent.at_s - loop.time()))
            tasks.append(loop.create_task(self._carry_out(intent)))
        await asyncio.gather(*tasks)

    async def _carry_out(self, intent: Intent) -> None:
        price = None if intent.ticks is None else self._price(intent.symbol, intent.side, intent.ticks)
        twin = None
        if intent.again_s is not None:
            twin = asyncio.ensure_future(self._place(intent, price, intent.again_s))
        order_id = await self._place(intent, price, 0.0)
        followed = [self._replace(intent, order_id, price), self._cancel(intent, order_id)] if order_id else []
        await asyncio.gather(*followed, *([twin] if twin else []))

    async def _place(self, intent: Intent, price: int | None, after_s: float) -> str | None:
        if after_s:
            await asyncio.sleep(after_s)
        asker = Principal(f"client-{intent.account}", "investor", intent.account)
        amount = None if price is None else Decimal(price).scaleb(-6)
        done = await self._answered(
            lambda desk: desk.place(
                asker,
                order_type=intent.side,
                type_="MARKET" if price is None else "LIMIT",
                symbol=intent.symbol,
                quantity=intent.quantity,
                amount=amount,
                tif="DAY" if price is None else intent.tif,
                key=intent.key,
            )
        )
        if done is None:
            return None
        order_id: str = done.order_id
        self._told.placed(intent.account, intent.key, order_id)
        return order_id

    async def _cancel(self, intent: Intent, order_id: str) -> None:
        if intent.cancel_s is not None:
            await asyncio.sleep(intent.cancel_s)
            asker = Principal(f"client-{intent.account}", "investor", intent.account)
            await self._answered(lambda desk: desk.cancel(asker, order_id))

    async def _replace(self, intent: Intent, order_id: str, price: int | None) -> None:
        if intent.replace_s is None or price is None:
            return
        await asyncio.sleep(intent.replace_s)
        asker = Principal(f"client-{intent.account}", "investor", intent.account)
        wanted = Decimal(self._price(intent.symbol, intent.side, intent.replace_ticks)).scaleb(-6)
        await self._answered(
            lambda desk: desk.replace(asker, order_id, quantity=intent.replace_quantity, amount=wanted)
        )

    async def _answered(self, request: Callable[[Any], Awaitable[Any]]) -> Any | None:
        """The answer, however often it must be asked for; None for a refusal."""
        while not self._too_late():
            try:
                answer = await self._door.ask(request, ANSWER_S_MAX)
            except Refusal as refusal:
                if refusal.code not in AGAIN:
                    self._told.refused[refusal.code] += 1
                    return None
                answer = None
            except Exception as error:  # noqa: BLE001 - what a client would see as 500: to be counted, not to end it
                self._told.errors.append(repr(error))
                return None
            if answer is not None:
                return answer
            self._told.asked_again += 1
            await asyncio.sleep(PAUSE_S)
        self._told.errors.append("never answered")
        return None

    def _price(self, symbol: str, side: str, ticks: int) -> int:
        towards = 1 if side == "buy" else -1
        return self._market(symbol) + towards * ticks * TICK_MICROS
