"""The plan (what may be confirmed) and the loop around it, on the memory bus and a store in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bus import BusError, Message
from infra.bus_memory import MemoryBus, MemoryProducer
from infra.clock import ManualClock
from infra.contracts import Headers, Topic
from infra.outbox import OutboxRow, record_of
from infra.telemetry import OUTBOX_LAG_SECONDS, OUTBOX_OUTSTANDING, OUTBOX_PUBLISHED, RELAY_INTERRUPTIONS
from outbox_relay import relay as relay_module
from outbox_relay.app import assemble
from outbox_relay.relay import Entry, Progress, Relay, Source, Step
from outbox_relay.source_memory import MemoryReader

TOPIC = "things"
DEADLINE_S = 10.0


def acknowledge(progress: Progress, step: Step) -> None:
    step.done_ns = 1
    progress.settled()


def test_only_the_contiguous_prefix_is_confirmed() -> None:
    progress = Progress()
    first, second, third = [progress.sent(position) for position in (10, 20, 30)]
    acknowledge(progress, second)
    assert (progress.confirmable, progress.outstanding) == (None, 3)
    acknowledge(progress, first)
    assert (progress.confirmable, progress.outstanding) == (20, 1)
    acknowledge(progress, third)
    assert (progress.confirmable, progress.outstanding) == (30, 0)


def test_a_transaction_is_confirmed_whole() -> None:
    progress = Progress()
    rows = [progress.sent(None) for _ in range(3)]
    acknowledge(progress, rows[0])
    acknowledge(progress, rows[1])
    progress.passed(40)
    assert progress.confirmable is None
    acknowledge(progress, rows[2])
    assert progress.confirmable == 40


def test_with_nothing_outstanding_a_place_is_confirmed_at_once() -> None:
    progress = Progress()
    progress.passed(50)
    assert progress.confirmable == 50


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60), st.randoms())
def test_no_order_of_acknowledgements_confirms_too_much_or_too_little(
    shape: list[tuple[bool, int]], random: object
) -> None:
    """Rows with and without a position, places between them, acknowledged in any order."""
    progress, steps, ends = Progress(), [], []
    for number, (positioned, places) in enumerate(shape):
        position = 10 * number + 1 if positioned else None
        steps.append(progress.sent(position))
        ends.append(position)
        for place in range(places):
            progress.passed(10 * number + 2 + place)
            ends[-1] = 10 * number + 2 + place
    order = list(range(len(steps)))
    random.shuffle(order)  # type: ignore[attr-defined]
    done: set[int] = set()
    for number in order:
        acknowledge(progress, steps[number])
        done.add(number)
        prefix = next((i for i in range(len(steps)) if i not in done), len(steps))
        assert progress.confirmable == next((end for end in reversed(ends[:prefix]) if end is not None), None)
        assert progress.outstanding == len(steps) - prefix


class Outbox:
    """Rows in memory."""

    def __init__(self, count: int = 0) -> None:
        self.rows: list[OutboxRow] = []
        self._changed = asyncio.Event()
        self.add(count)

    def add(self, count: int) -> None:
        for i in range(len(self.rows), len(self.rows) + count):
            self.rows.append(
                OutboxRow(f"id-{i}", TOPIC, f"key-{i % 7}", "Thing", f'{{"n":{i},"é":1}}', f"ik-{i}", "tp")
            )
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def unpublished(self, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        return list(enumerate(self.rows[after : after + limit], after + 1))

    async def outbox_changed(self) -> None:
        await self._changed.wait()


class HeldProducer(MemoryProducer):
    """Records are durable only when the test says so."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.held: list[asyncio.Future[None]] = []

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> asyncio.Future[None]:
        super().send(topic, key, value, headers)
        self.held.append(asyncio.get_running_loop().create_future())
        return self.held[-1]

    async def close(self) -> None:
        await super().close()
        for sending in self.held:
            if not sending.done():
                sending.set_exception(BusError("closed"))


class HeldBus(MemoryBus):
    held: HeldProducer

    def producer(self, linger_ms: int = 0) -> MemoryProducer:
        self.held = HeldProducer(self)
        return self.held


def things(kind: type[MemoryBus] = MemoryBus) -> MemoryBus:
    return kind(ManualClock(), [Topic(TOPIC, "key", "Things.", 4)])


async def published(bus: MemoryBus) -> list[Message]:
    return await (await bus.read([TOPIC], "earliest")).batch(100_000, 0)


@contextlib.asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def until(condition: Callable[[], bool]) -> None:
    never = asyncio.Event()
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.001)


async def test_rows_become_records() -> None:
    bus, outbox = things(), Outbox(3)
    reader = MemoryReader(outbox)
    counted = OUTBOX_PUBLISHED._value.get()
    async with running(Relay(bus, reader.open, ManualClock())):
        await until(lambda: reader.confirmed == 3)
        outbox.add(2)
        await until(lambda: reader.confirmed == 5)
    found = {m.header("event-id"): m for m in await published(bus)}
    assert len(found) == 5
    record = found[b"id-4"]
    assert (record.key, record.value) == (b"key-4", '{"n":4,"é":1}'.encode())
    assert record.headers == (
        ("event-id", b"id-4"),
        ("idempotency-key", b"ik-4"),
        ("traceparent", b"tp"),
        ("schema", b"1"),
    )
    assert OUTBOX_PUBLISHED._value.get() == counted + 5


async def test_a_new_relay_goes_on_where_the_last_one_stopped() -> None:
    bus, outbox = things(), Outbox(10)
    reader = MemoryReader(outbox)
    for expected in (10, 20):
        async with running(Relay(bus, reader.open, ManualClock())):
            await until(lambda expected=expected: reader.confirmed == expected)  # type: ignore[misc]
        outbox.add(10)
    assert [m.header("event-id") for m in await published(bus)].count(b"id-5") == 1


async def test_a_slow_bus_stops_the_reading() -> None:
    bus, outbox = things(HeldBus), Outbox(1000)
    assert isinstance(bus, HeldBus)
    given: list[int] = []
    reader = MemoryReader(outbox)

    class Small:
        """Gives five entries at a time."""

        def __init__(self, inner: Source) -> None:
            self.inner = inner

        async def entries(self, wait_s: float) -> list[Entry]:
            fresh = [Entry(record_of(row), n) for n, row in outbox.unpublished(len(given), 5)]
            given.extend(entry.position or 0 for entry in fresh)
            await asyncio.sleep(0)
            return fresh

        async def confirm(self, position: int) -> None:
            await self.inner.confirm(position)

    @contextlib.asynccontextmanager
    async def opened(stop: asyncio.Event) -> AsyncIterator[Source | None]:
        async with reader.open(stop) as source:
            assert source is not None
            yield Small(source)

    async with running(Relay(bus, opened, ManualClock(), unacknowledged_max=20)):
        await until(lambda: len(given) == 20)
        bus.held.held[1].set_result(None)
        await until(bus.held.held[1].done)
        assert (len(given), reader.confirmed) == (20, 0)
        bus.held.held[0].set_result(None)
        await until(lambda: len(given) == 25)
        assert reader.confirmed == 2


async def test_what_was_not_acknowledged_is_sent_again_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S_FIRST", 0.001)
    bus, outbox = things(HeldBus), Outbox(10)
    assert isinstance(bus, HeldBus)
    reader = MemoryReader(outbox)
    async with running(Relay(bus, reader.open, ManualClock())):
        await until(lambda: hasattr(bus, "held") and len(bus.held.held) == 10)
        first = bus.held
        for i in (0, 1, 5):
            first.held[i].set_result(None)
        await until(lambda: reader.confirmed == 2)
        first.held[2].set_exception(BusError("refused"))
        await until(lambda: bus.held is not first and len(bus.held.held) == 8)
        for sending in bus.held.held:
            sending.set_result(None)
        await until(lambda: reader.confirmed == 10)
    for key in {m.key for m in await published(bus)}:
        seen = [m.header("event-id") or b"" for m in await published(bus) if m.key == key]
        assert list(dict.fromkeys(seen)) == sorted(set(seen))


async def test_lost_connections_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S_FIRST", 0.001)
    bus, reader = things(), MemoryReader(Outbox(3))
    attempts: list[int] = []
    interruptions = RELAY_INTERRUPTIONS._value.get()

    @contextlib.asynccontextmanager
    async def opened(stop: asyncio.Event) -> AsyncIterator[Source | None]:
        attempts.append(1)
        if len(attempts) < 4:
            raise ConnectionError("refused")
        async with reader.open(stop) as source:
            yield source

    relay = Relay(bus, opened, ManualClock())
    service = assemble([relay], {})
    assert not service.ready["streaming"]()
    async with running(relay):
        await until(lambda: reader.confirmed == 3)
        assert service.ready["streaming"]()
    assert len(attempts) == 4
    assert RELAY_INTERRUPTIONS._value.get() == interruptions + 3
    assert not service.ready["streaming"]()


async def test_what_cannot_be_understood_ends_the_process() -> None:
    @contextlib.asynccontextmanager
    async def opened(stop: asyncio.Event) -> AsyncIterator[Source | None]:
        raise ValueError("not ours")
        yield

    with pytest.raises(ValueError, match="not ours"):
        await Relay(things(), opened, ManualClock()).run(asyncio.Event())


async def test_what_was_handed_over_before_a_stop_is_confirmed() -> None:
    bus, outbox = things(), Outbox(100)
    reader = MemoryReader(outbox)
    relay = Relay(bus, reader.open, ManualClock())
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    await until(lambda: relay.streaming)
    stop.set()
    await asyncio.wait_for(task, DEADLINE_S)
    assert len(await published(bus)) == reader.confirmed


async def test_the_lag_is_measured_to_the_acknowledgement() -> None:
    bus, clock = things(), ManualClock()
    written_ns = clock.now_ns() - 2_500_000_000
    source = OneRow(Entry(record_of(OutboxRow("id", TOPIC, "key", "Thing", "{}", "", "")), 1, written_ns))
    lag_s = OUTBOX_LAG_SECONDS._sum.get()

    @contextlib.asynccontextmanager
    async def opened(stop: asyncio.Event) -> AsyncIterator[Source | None]:
        yield source

    async with running(Relay(bus, opened, clock)):
        await until(lambda: source.confirmed == 1)
    assert OUTBOX_LAG_SECONDS._sum.get() == pytest.approx(lag_s + 2.5)
    assert OUTBOX_OUTSTANDING._value.get() == 0


class OneRow:
    def __init__(self, entry: Entry) -> None:
        self.left = [entry]
        self.confirmed = 0

    async def entries(self, wait_s: float) -> list[Entry]:
        given, self.left = self.left, []
        await asyncio.sleep(0)
        return given

    async def confirm(self, position: int) -> None:
        self.confirmed = position
