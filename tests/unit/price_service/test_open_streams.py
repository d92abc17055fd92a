"""Streams are counted, found, changed and ended by their owners, in whichever process they are open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from infra.clock import NS_PER_S, Ids, ManualClock
from infra.expiry import Expiries
from infra.mailbox import Mailbox, MailboxDown, Taken
from infra.mailbox_memory import MemoryMailbox
from infra.principal import Principal
from infra.process import background
from infra.refusal import Refusal
from infra.sse import EXPIRED, FAREWELL
from price_service.live.elsewhere import ADDRESS, AllStreams
from price_service.live.open_streams import Change, OpenStreams, owner_of

CLOCK = ManualClock()
NOW_S = CLOCK.now_ns() // NS_PER_S
ADA = Principal("ada", "investor", 7)
BO = Principal("bo", "investor", 8)


class Stream:
    """An open stream that notes what is done with it."""

    def __init__(self, streams: OpenStreams, principal: Principal, *symbols: str) -> None:
        self.id = streams.new_id()
        self.principal = principal
        self.symbols: Collection[str] = symbols or ("A",)
        self.said: list[bytes] = []
        self._streams = streams

    def change(self, symbols: Collection[str]) -> None:
        self.symbols = symbols

    def end(self, event: bytes) -> None:
        self.said.append(event)
        self._streams.closed(self)


def process(seed: int = 1, clock: ManualClock = CLOCK, streams_max: int = 2) -> OpenStreams:
    return OpenStreams(Ids(clock, seed), Expiries(clock), streams_max, symbols_max=3)


def opened(streams: OpenStreams, principal: Principal = ADA, *symbols: str) -> Stream:
    stream = Stream(streams, principal, *symbols)
    streams.opened(stream)
    return stream


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


async def test_an_account_has_a_limit_of_its_own_and_room_again_when_one_ends() -> None:
    streams = process()
    first = opened(streams)
    opened(streams, Principal("ada's other token", "investor", 7))
    assert code_of(lambda: opened(streams)) == "too_many_streams"
    opened(streams, BO)
    for _ in range(2):
        streams.closed(first)
    opened(streams)
    assert code_of(lambda: opened(streams)) == "too_many_streams"
    assert len(streams) == 3


async def test_it_ends_with_the_proof_and_leaves_nothing_behind() -> None:
    clock = ManualClock()
    expiries = Expiries(clock)
    streams = OpenStreams(Ids(clock, 1), expiries, 9, 9)
    short, long, gone = (opened(streams, Principal("x", "operator", None, NOW_S + s)) for s in (5, 50, 5))
    streams.closed(gone)
    clock.advance(5)
    expiries.look()
    assert (short.said, long.said, gone.said) == ([EXPIRED], [], [])
    streams.closed(long)
    assert (len(streams), streams._count) == (0, {})


@pytest.mark.parametrize(
    ("change", "symbols"),
    [
        (Change(symbols=("C", "B", "C")), ["C", "B"]),
        (Change(add=("C", "A")), ["A", "B", "C"]),
        (Change(remove=("A", "Z")), ["B"]),
        (Change(add=("C",), remove=("A", "B")), ["C"]),
    ],
)
async def test_a_change(change: Change, symbols: list[str]) -> None:
    streams = process()
    stream = opened(streams, ADA, "A", "B")
    assert streams.change(owner_of(ADA), stream.id, change) == symbols
    assert list(stream.symbols) == symbols


async def test_only_its_owner_finds_a_stream_and_only_what_can_be_is_changed() -> None:
    streams = process()
    stream = opened(streams, ADA, "A", "B")
    more = Change(add=("C", "D"))
    assert code_of(lambda: streams.change(owner_of(BO), stream.id, more)) == "stream_not_found"
    assert code_of(lambda: streams.end(owner_of(BO), stream.id)) == "stream_not_found"
    assert code_of(lambda: streams.change(owner_of(ADA), stream.id, more)) == "too_many_symbols"
    assert code_of(lambda: streams.change(owner_of(ADA), stream.id, Change(remove=("A", "B")))) == "stream_of_nothing"
    assert (list(stream.symbols), stream.said) == (["A", "B"], [])
    streams.end(owner_of(ADA), stream.id)
    assert stream.said == [FAREWELL]
    assert code_of(lambda: streams.end(owner_of(ADA), stream.id)) == "stream_not_found"


@contextlib.asynccontextmanager
async def reading(all_streams: AllStreams, mailbox: Mailbox, here: OpenStreams) -> AsyncIterator[None]:
    async with background(all_streams.run), asyncio.timeout(5):
        while not await mailbox.send(ADDRESS + here.process, b"{}"):  # noqa: ASYNC110 - it is another task's progress
            await asyncio.sleep(0)
        yield


async def test_a_change_reaches_the_process_that_has_the_stream_open() -> None:
    mailbox, near, far = MemoryMailbox(), process(1), process(2)
    asking, owning = AllStreams(near, mailbox), AllStreams(far, mailbox)
    stream, own = opened(far, ADA, "A"), opened(near, ADA, "A")
    async with reading(asking, mailbox, near), reading(owning, mailbox, far):
        assert await asking.change(ADA, stream.id, Change(add=("B",))) == ["A", "B"]
        assert await asking.change(ADA, own.id, Change(add=("C",))) == ["A", "C"]
        for asker, change, code in (
            (BO, Change(add=("C",)), "stream_not_found"),
            (ADA, Change(add=("C", "D")), "too_many_symbols"),
            (ADA, Change(remove=("A", "B")), "stream_of_nothing"),
        ):
            with pytest.raises(Refusal) as caught:
                await asking.change(asker, stream.id, change)
            assert caught.value.code == code
        assert caught.value.details["fix"].startswith("End it with DELETE")
        await asking.end(ADA, stream.id)
        assert stream.said == [FAREWELL]
        assert asking._asked == {}


class Mute(MemoryMailbox):
    async def read(self, address: str, taken: Taken, stop: asyncio.Event) -> None:
        await super().read(address, lambda _: None, stop)


class Down(MemoryMailbox):
    async def send(self, address: str, letter: bytes) -> bool:
        raise MailboxDown("away")


async def test_a_process_that_is_gone_silent_or_out_of_reach() -> None:
    near, far = process(1), process(2)
    stream = opened(far)
    nobody = AllStreams(near, MemoryMailbox())
    for elsewhere in (stream.id, "", "x" * 1000, "\0"):
        with pytest.raises(Refusal, match="stream_not_found"):
            await nobody.change(ADA, elsewhere, Change(add=("B",)))
    with pytest.raises(Refusal, match="stream_unreachable"):
        await AllStreams(near, Down()).end(ADA, stream.id)
    mute = Mute()
    owning = AllStreams(far, mute)
    async with reading(owning, mute, far):
        with pytest.raises(Refusal, match="stream_unreachable"):
            await AllStreams(near, mute, answer_s=0.01).change(ADA, stream.id, Change(add=("B",)))
