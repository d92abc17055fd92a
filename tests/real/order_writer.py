"""One of two processes that write orders on the same accounts at once: `python -m tests.real.order_writer DSN SEED N`.

Each of N batches places a few orders on random accounts, if they are covered, and fills or cancels orders of either
process. Prints how many orders it placed."""

from __future__ import annotations

import asyncio
import random
import sys

from infra.clock import Ids, SystemClock
from order_service.domain import facts
from order_service.domain.lifecycle import Event
from order_service.domain.order import Order
from order_service.store.orders_pg import opened
from order_service.store.unit import Unit, Want
from order_service.store.watch_pg import PgWatch
from tests.stored_orders import DESK, NOW_US, USD, change, execution, order

ACCOUNTS = (1, 2, 3, 4, 5)
PRICE = 5 * USD


async def write(dsn: str, seed: int, batches: int) -> int:
    chance, ids, placed = random.Random(seed), Ids(SystemClock()), 0
    async with opened(dsn, f"writer {seed}") as store:
        for _ in range(batches):
            known = await PgWatch(store).open_after(None, 100)
            touched = chance.sample(known, min(4, len(known)))
            new = [_new(ids, chance) for _ in range(4)]
            want = Want(
                accounts=frozenset(one.account_id for one in new),
                orders=frozenset(one.id for one in touched),
                positions=frozenset((one.account_id, one.symbol) for one in new),
            )

            def decide(unit: Unit, new: list[Order] = new, touched: list[Order] = touched) -> int:
                for one in touched:
                    _report(unit, one.id, ids, chance)
                return sum(_place(unit, one, ids) for one in new)

            placed += await store.write(DESK, want, decide)
    return placed


def _new(ids: Ids, chance: random.Random) -> Order:
    return order(
        str(ids.uuid7()),
        account_id=chance.choice(ACCOUNTS),
        order_type=chance.choice(("buy", "sell")),
        symbol=chance.choice(("AAPL", "SPY")),
        quantity=chance.randint(1, 9),
        amount_micros=PRICE,
    )


def _place(unit: Unit, new: Order, ids: Ids) -> bool:
    """Covered by what the account has, or not placed."""
    if new.order_type == "sell":
        covered = unit.position(new.account_id, new.symbol).free >= new.quantity
    else:
        covered = unit.accounts[new.account_id].cash.free >= new.quantity * PRICE
    if covered:
        unit.record(new, change(ids))
    return covered


def _report(unit: Unit, order_id: str, ids: Ids, chance: random.Random) -> None:
    known = unit.orders[order_id]
    seq = known.venue_seq + 1
    if chance.random() < 0.3:
        fact = facts.Report(event=Event.CANCELED, venue_seq=seq)
    else:
        unit.executed(execution(known, f"E-{seq}", seq, 1, PRICE))
        fact = facts.Report(event=Event.TRADED, traded_qty=1, traded_notional_micros=PRICE, venue_seq=seq)
    after = facts.apply(known, fact, NOW_US)
    if after is not known:
        unit.record(after, change(ids, "OrderUpdated"))


if __name__ == "__main__":
    print(asyncio.run(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
