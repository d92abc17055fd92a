"""Group commit: batches form by themselves, answers find their callers, poison fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.process import background
from infra.refusal import Refusal
from order_service.placing.writer import Writer
from order_service.store.ports import ConflictError
from tests.unit.order_service.house import GOOD, house


class Commits:
    """Answers n with n * 10; holds each batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.begun = asyncio.Event()

    async def __call__(self, commands: Sequence[int]) -> list[int]:
        self.batches.append(list(commands))
        self.begun.set()
        await self.free.wait()
        if -1 in commands:
            raise RuntimeError("poison")
        if -2 in commands:
            raise Refusal("store_unavailable", "Away.")
        return [command * 10 for command in commands]


@asynccontextmanager
async def running(commits: Commits, queue_max: int = 100, batch_max: int = 50) -> AsyncIterator[Writer[int, int]]:
    writer: Writer[int, int] = Writer(commits, queue_max, batch_max)
    async with background(writer.run):
        yield writer


async def test_a_lone_command_is_a_batch_of_one() -> None:
    commits = Commits()
    async with running(commits) as writer:
        assert await writer.submit(1) == 10
        assert await writer.submit(2) == 20
    assert commits.batches == [[1], [2]]


async def test_what_queues_during_a_commit_is_the_next_batch() -> None:
    commits = Commits()
    commits.free.clear()
    async with running(commits, batch_max=3) as writer:
        answers = asyncio.gather(*(writer.submit(i) for i in range(6)))
        await commits.begun.wait()
        commits.free.set()
        assert await answers == [0, 10, 20, 30, 40, 50]
    assert [command for batch in commits.batches for command in batch] == list(range(6))
    assert max(map(len, commits.batches)) == 3


async def test_poison_fails_alone() -> None:
    commits = Commits()
    async with running(commits) as writer:
        results = await asyncio.gather(*(writer.submit(i) for i in (1, 2, -1, 3)), return_exceptions=True)
    assert [results[i] for i in (0, 1, 3)] == [10, 20, 30]
    assert isinstance(results[2], RuntimeError)


async def test_a_refusal_of_the_batch_is_everybodys() -> None:
    async with running(Commits()) as writer:
        results = await asyncio.gather(writer.submit(1), writer.submit(-2), return_exceptions=True)
    assert all(isinstance(result, Refusal) for result in results)
    assert results[0] is not results[1]


async def test_the_queue_is_bounded() -> None:
    commits = Commits()
    commits.free.clear()
    async with running(commits, queue_max=2, batch_max=1) as writer:
        first = asyncio.ensure_future(writer.submit(1))
        await commits.begun.wait()
        waiting = [asyncio.ensure_future(writer.submit(i)) for i in (2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="orders_busy"):
            await writer.submit(4)
        commits.free.set()
        assert await asyncio.gather(first, *waiting) == [10, 20, 30]


async def test_a_client_that_leaves_does_not_undo_its_command() -> None:
    commits = Commits()
    commits.free.clear()
    async with running(commits) as writer:
        leaving = asyncio.ensure_future(writer.submit(1))
        await commits.begun.wait()
        leaving.cancel()
        commits.free.set()
        assert await writer.submit(2) == 20
    assert commits.batches == [[1], [2]]


async def test_what_was_accepted_before_the_stop_is_committed() -> None:
    commits = Commits()
    commits.free.clear()
    async with running(commits, batch_max=1) as writer:
        answers = asyncio.gather(*(writer.submit(i) for i in (1, 2, 3)))
        await commits.begun.wait()
        commits.free.set()
    assert await answers == [10, 20, 30]
    with pytest.raises(Refusal):
        await writer.submit(4)


async def test_a_lost_race_is_decided_again_on_fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as home:
        write, lost = home.store.write, [ConflictError("somebody was first")]

        async def contested(*args: Any) -> Any:
            if lost:
                raise lost.pop()
            return await write(*args)

        monkeypatch.setattr(home.store, "write", contested)
        async with home.client() as client:
            assert (await client.post("/orders", json=GOOD)).status_code == 201
    assert not lost
    assert len(home.store.orders) == 1
