"""What every index of dead letters does, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from infra.bus import Message
from infra.clock import ManualClock
from infra.contracts import DLQ_SUFFIX, ORDER_STATUS, ORDERS, Headers
from infra.db import engine
from infra.dlq.index import letter_of
from infra.dlq.letters import DeadLetter, DeadLetters, Filter, State
from infra.dlq.letters_memory import MemoryLetters
from infra.dlq.letters_pg import PgLetters, PgTurn
from infra.dlq.park import Park, why
from infra.dlq.replay import LocalTurn, ReplayRunning, Turn
from infra.principal import Principal

OPERATOR = Principal("operator-1", "operator")
NOW_NS = 1_700_000_000_123_456_789
ORDER = "018bcfe5-687b-7000-8000-000000000001"
OTHER_ORDER = "018bcfe5-687b-7000-8000-000000000002"


@pytest.fixture(params=["memory", pytest.param("pg", marks=pytest.mark.real)])
async def letters(request: pytest.FixtureRequest) -> AsyncIterator[DeadLetters]:
    clock = ManualClock(NOW_NS)
    if request.param == "memory":
        yield MemoryLetters(clock)
        return
    source = engine(request.getfixturevalue("orders_db"), "test")
    yield PgLetters(source, clock)
    await source.dispose()


def parked(
    number: int, topic: str = ORDERS, code: str = "malformed", key: bytes | None = ORDER.encode(), **changes: Any
) -> DeadLetter:
    """The letter of the record at offset `number`, as a worker of ours parks it."""
    message = Message(topic, 3, 1000 + number, key, b"\x00value", (("event-id", b"e"),), 1_700_000_000_001)
    headers = message.headers + why(Park(message, code, "expected an int"), "exchange-gateway")
    usual: dict[str, Any] = {"value": message.value, "source": headers, "timestamp_ms": 1_700_000_000_123}
    return letter_of(Message(topic=topic + DLQ_SUFFIX, partition=1, offset=number, key=key, **(usual | changes)))


def shown(letter: DeadLetter) -> DeadLetter:
    return replace(letter, record=None)


async def test_what_was_parked_is_found_whole(letters: DeadLetters) -> None:
    headers: Headers = (("a", b""), ("a", b"\x00\xff"), ("\u00fc", b"twice"), ("a", b"again"))
    usual, bare = parked(1), parked(2, key=None, value=None, source=())
    strange = parked(3, key=b"\x00\xfe", value=b"\xff" * 100_000, source=headers)
    await letters.add([usual, bare, strange])
    for letter in (usual, bare, strange):
        assert await letters.find(letter.id) == letter
    assert await letters.find(parked(4).id) is None


async def test_headers_of_any_bytes_can_be_stored(letters: DeadLetters) -> None:
    """The index may never stop at a record, whoever wrote it."""
    long, binary = b"x" * 100_000, bytes(range(256))
    names = ("kafka_dlt-exception-fqcn", "kafka_dlt-exception-message", "kafka_dlt-original-consumer-group")
    numbers = ("kafka_dlt-original-partition", "kafka_dlt-original-offset")
    odd = [
        parked(1, source=tuple((name, value) for name in (*names, *numbers, "replays")), key=binary, timestamp_ms=-1)
        for value in (b"\x00", binary, b"\xff" * 8, b"\x7f" * 8, b"9" * 18, b"9" * 40)
    ]
    odd = [replace(letter, id=parked(10 + i).id, dlq_offset=10 + i) for i, letter in enumerate(odd)]
    odd.append(parked(30, source=tuple((name, long) for name in names), key=long))
    odd += [parked(31 + i, timestamp_ms=time_ms) for i, time_ms in enumerate((2**62, -(2**62), 2**63 - 1))]
    await letters.add(odd)
    assert {letter.id for letter in await letters.page(Filter())} == {letter.id for letter in odd}


async def test_a_record_that_comes_again_changes_nothing(letters: DeadLetters) -> None:
    first, second = parked(1), parked(2)
    await letters.add([first])
    await letters.mark(OPERATOR, first.id, "parked", "discarded", "a test")
    await letters.add([first, second])
    found = await letters.find(first.id)
    assert found is not None
    assert (found.state, found.state_by) == ("discarded", "operator-1")
    assert [letter.id for letter in await letters.page(Filter())] == [second.id, first.id]


async def test_nothing_to_add(letters: DeadLetters) -> None:
    await letters.add([])
    assert await letters.page(Filter()) == []


async def test_pages_go_on_where_the_last_one_ended(letters: DeadLetters) -> None:
    all_of_them = [parked(number) for number in range(5)]
    await letters.add(all_of_them)
    newest = [shown(letter) for letter in reversed(all_of_them)]
    assert await letters.page(Filter()) == newest
    assert await letters.page(Filter(limit=2)) == newest[:2]
    assert await letters.page(Filter(limit=2, before=newest[1].id)) == newest[2:4]
    assert await letters.page(Filter(before=newest[4].id)) == []
    assert await letters.page(Filter(before=parked(99).id)) == []
    assert await letters.page(Filter(oldest_first=True, limit=3)) == newest[:1:-1]


async def test_filters_narrow(letters: DeadLetters) -> None:
    one = parked(1)
    report = parked(2, topic=ORDER_STATUS)
    other = parked(3, code="handler_error", key=OTHER_ORDER.encode())
    await letters.add([one, report, other])
    await letters.mark(OPERATOR, one.id, "parked", "discarded", "a test")

    async def found(**wanted: Any) -> list[str]:
        return [letter.id for letter in await letters.page(Filter(**wanted))]

    assert await found(topic=ORDERS) == [other.id, one.id]
    assert await found(code="malformed") == [report.id, one.id]
    assert await found(state="parked") == [other.id, report.id]
    assert await found(order_id=ORDER) == [report.id, one.id]
    assert await found(ids=(one.id, other.id, parked(9).id)) == [other.id, one.id]
    assert await found(ids=()) == []
    assert await found(topic=ORDERS, code="malformed", state="discarded", order_id=ORDER) == [one.id]
    assert await found(topic=ORDER_STATUS, before=other.id) == [report.id]


async def test_a_change_of_state_is_signed_and_happens_once(letters: DeadLetters) -> None:
    letter = parked(1)
    await letters.add([letter])
    marked = await letters.mark(OPERATOR, letter.id, "parked", "discarded", "cannot be ∑ helped")
    assert marked == replace(
        shown(letter),
        state="discarded",
        state_us=NOW_NS // 1000,
        state_by="operator-1",
        state_reason="cannot be ∑ helped",
    )
    found = await letters.find(letter.id)
    assert found == replace(marked, record=letter.record)
    changes: tuple[tuple[State, State], ...] = (("parked", "replayed"), ("parked", "discarded"))
    for before, after in changes:
        assert await letters.mark(OPERATOR, letter.id, before, after, "again") is None
    assert await letters.find(letter.id) == found
    assert await letters.mark(OPERATOR, letter.id, "discarded", "parked", "after all") is not None
    assert await letters.mark(OPERATOR, parked(2).id, "parked", "discarded", "no such letter") is None


async def test_orders_wait_while_a_letter_of_theirs_is_parked(letters: DeadLetters) -> None:
    first, again, other = parked(1), parked(2), parked(3, key=OTHER_ORDER.encode())
    elsewhere, nobody = parked(4, topic=ORDER_STATUS), parked(5, key=b"global")
    await letters.add([first, again, other, elsewhere, nobody])
    assert await letters.ids(ORDERS) == {ORDER, OTHER_ORDER}
    await letters.mark(OPERATOR, other.id, "parked", "replayed", "mended")
    await letters.mark(OPERATOR, first.id, "parked", "discarded", "done by hand")
    assert await letters.ids(ORDERS) == {ORDER}
    await letters.mark(OPERATOR, again.id, "parked", "discarded", "done by hand")
    assert await letters.ids(ORDERS) == set()
    assert await letters.ids(ORDER_STATUS) == {ORDER}


# -- whose turn it is --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", pytest.param("pg", marks=pytest.mark.real)])
async def turns(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Turn, Turn]]:
    """What two replays see; on PostgreSQL they are in two processes."""
    if request.param == "memory":
        turn = LocalTurn()
        yield turn, turn
        return
    sources = [engine(request.getfixturevalue("orders_db"), name) for name in ("one", "two")]
    yield PgTurn(sources[0]), PgTurn(sources[1])
    for source in sources:
        await source.dispose()


async def test_one_replay_has_the_turn_until_it_ends(turns: tuple[Turn, Turn]) -> None:
    mine, theirs = turns

    async def refused(turn: Turn) -> None:
        with pytest.raises(ReplayRunning):
            await turn().__aenter__()

    async def failing() -> None:
        async with mine():
            await refused(theirs)
            await refused(mine)
            raise KeyError("however it ends")

    with pytest.raises(KeyError):
        await failing()
    async with theirs():
        await refused(mine)
