"""When made-up history ends, and for whom it is made."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from infra.clock import NS_PER_S
from infra.contracts import Instrument
from infra.process import background
from price_service.domain.bars import MINUTE_NS
from price_service.seed.history import DAYS, DAYS_WITH_MINUTES, MadeUp
from price_service.seed.seed import Seeding, history_before
from price_service.store.records import StoreAway


def utc(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * NS_PER_S  # type: ignore[arg-type, misc]


def listing(symbol: str = "AAPL", close: int = 189_690_000, session: int = 1) -> Instrument:
    return Instrument(symbol, symbol, 10_000, 1, session, close)


def ended(before_ns: int) -> MadeUp:
    made = history_before(listing(), before_ns)
    assert made is not None
    return made


def test_it_ends_with_the_last_session_that_was_over() -> None:
    assert ended(utc(2023, 11, 18, 12)).until_ns == utc(2023, 11, 17, 21)  # a Saturday
    assert ended(utc(2023, 11, 17, 21)).until_ns == utc(2023, 11, 17, 21)
    assert ended(utc(2023, 11, 17, 20, 59, 59)).until_ns == utc(2023, 11, 16, 21)


def test_it_keeps_the_exchange_s_days_and_hours() -> None:
    made = ended(utc(2023, 11, 25, 12))
    assert (len(made.days), made.until_ns) == (DAYS, utc(2023, 11, 24, 18))  # the day after Thanksgiving closes early
    starts = {bar.start_ns for bar in made.minutes}
    assert len(starts) == (DAYS_WITH_MINUTES - 1) * 390 + 210
    assert utc(2023, 11, 23, 15) not in starts
    assert {utc(2023, 11, 3, 13, 30), utc(2023, 11, 6, 14, 30)} <= starts  # New York's clocks went back in between
    assert not {utc(2023, 11, 3, 13, 30) - MINUTE_NS, utc(2023, 11, 6, 14, 30) - MINUTE_NS} & starts
    assert made.days[-1].start_ns == utc(2023, 11, 24, 5)


def test_a_symbol_has_its_own_history_and_always_the_same() -> None:
    at_ns = utc(2023, 11, 18, 12)
    assert ended(at_ns) == ended(at_ns)
    other = history_before(listing("MSFT"), at_ns)
    assert other is not None
    assert [day.close for day in other.days[:-1]] != [day.close for day in ended(at_ns).days[:-1]]


def test_before_the_calendar_there_is_none() -> None:
    assert history_before(listing(), 0) is None


class Listed:
    """A store that is away at first, and learns one symbol's previous close later."""

    def __init__(self) -> None:
        self.questions = 0
        self.saved: list[str] = []
        self.done = asyncio.Event()

    async def unseeded(self) -> list[Instrument]:
        self.questions += 1
        if self.questions == 1:
            raise StoreAway("starting")
        late = listing("LATE", 5_000_000 if self.questions > 3 else 0, session=1_700_000_000)
        return [listing("HAS", session=1_700_000_000), late]

    async def save(self, made: MadeUp, before_ns: int) -> bool:
        assert before_ns == 1_700_000_000 * NS_PER_S
        assert made.until_ns <= before_ns
        self.saved.append(made.symbol)
        if made.symbol == "LATE":
            self.done.set()
        return made.symbol == "LATE"


async def test_each_is_asked_for_once_and_not_before_its_close_is_known() -> None:
    store = Listed()
    async with background(Seeding(store, look_every_s=0.001, rest=0.0).run), asyncio.timeout(10):
        await store.done.wait()
        seen = store.questions
        while store.questions < seen + 3:  # noqa: ASYNC110 - the store is asked again and again
            await asyncio.sleep(0)
    assert store.saved == ["HAS", "LATE"]
