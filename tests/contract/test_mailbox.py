"""Letters between processes: the twin in memory and Redis pass the same tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from infra.mailbox import Mailbox, MailboxDown, RedisMailbox
from infra.mailbox_memory import MemoryMailbox
from infra.settings import Infra


@contextlib.asynccontextmanager
async def reader(mailbox: Mailbox, address: str) -> AsyncIterator[asyncio.Queue[bytes]]:
    """Reads inside the block, from the moment that a letter arrives."""
    letters: asyncio.Queue[bytes] = asyncio.Queue()
    stop = asyncio.Event()
    reading = asyncio.create_task(mailbox.read(address, letters.put_nowait, stop))
    async with asyncio.timeout(10):
        while not await mailbox.send(address, b"anyone?"):  # noqa: ASYNC110 - the reader is another task
            await asyncio.sleep(0.01)
        while await letters.get() != b"anyone?":
            pass
    try:
        yield letters
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await reading


class MailboxContract:
    async def test_letters_arrive_in_order_and_nowhere_else(self, mailbox: Mailbox, name: str) -> None:
        async with reader(mailbox, name) as mine, reader(mailbox, name + "-other") as other:
            for number in range(50):
                assert await mailbox.send(name, b"%d\0\xff" % number)
            async with asyncio.timeout(10):
                assert [await mine.get() for _ in range(50)] == [b"%d\0\xff" % number for number in range(50)]
            assert other.empty()

    async def test_the_sender_is_told_when_nobody_reads(self, mailbox: Mailbox, name: str) -> None:
        assert not await mailbox.send(name, b"lost")
        async with reader(mailbox, name) as letters:
            assert await mailbox.send(name, b"found")
            async with asyncio.timeout(10):
                assert await letters.get() == b"found"
        async with asyncio.timeout(10):
            while await mailbox.send(name, b"late"):  # noqa: ASYNC110 - the end of a reader reaches the server later
                await asyncio.sleep(0.01)

    @pytest.fixture
    def name(self) -> str:
        return f"test-{uuid4()}"


class TestMemory(MailboxContract):
    @pytest.fixture
    async def mailbox(self) -> Mailbox:
        return MemoryMailbox()


@pytest.mark.real
class TestRedis(MailboxContract):
    @pytest.fixture
    async def mailbox(self, servers: Infra) -> AsyncIterator[Mailbox]:
        mailbox = RedisMailbox(servers.redis_url)
        yield mailbox
        await mailbox.close()


async def test_a_server_that_is_away_is_named_so_and_reading_goes_on_trying(unused_tcp_port: int) -> None:
    mailbox, stop = RedisMailbox(f"redis://127.0.0.1:{unused_tcp_port}/0"), asyncio.Event()
    with pytest.raises(MailboxDown):
        await mailbox.send("x", b"")
    reading = asyncio.create_task(mailbox.read("x", lambda _: None, stop))
    done, _ = await asyncio.wait({reading}, timeout=0.2)
    assert not done
    stop.set()
    async with asyncio.timeout(10):
        await reading
    await mailbox.close()
