"""Five thousand clients connect to one api process at the same moment and ask. Everyone is answered or refused for a
reason of theirs; it costs a bounded amount of memory, which is there again for the next five thousand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.stack.stack import Stack
from tests.flow.walking import eventually
from tests.real.system import running

CLIENTS = 5_000
# Of the client: a socket each, and its own files. The api has the same limit from its supervisor.
FILES_MIN = 12_000
ANSWERED_S = 60
# What an open connection, its request and its answer may take of the api at most.
KB_PER_CLIENT = 25
SYMBOL = "AAPL"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


class Client(asyncio.Protocol):
    """One connection and one question on it at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, target: str, token: str | None) -> None:
        assert self.transport is not None
        said = f"Authorization: Bearer {token}\r\n" if token else ""
        self.transport.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n{said}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        status, length = _STATUS.match(head), _LENGTH.search(head + b"\r\n")
        if end and status and length and len(body) >= int(length[1]) and not self.answer.done():
            self.answer.set_result(int(status[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("closed before it answered"))


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as the clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MIN, hard), hard))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= FILES_MIN, "the limit of open files is too low (ulimit -n)"
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[list[Client]]:
    """All at the same moment. Closed, and seen to be closed, afterwards."""
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(*(loop.create_connection(Client, "127.0.0.1", port) for _ in range(CLIENTS)))
    clients = [client for _, client in made]
    try:
        yield clients
    finally:
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
        await asyncio.gather(*(client.answer for client in clients), return_exceptions=True)


def held(pid: int, what: str) -> int:
    """kB of memory by a line of /proc (VmRSS, VmHWM)."""
    return int(re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def status_of(port: int, target: str, token: str) -> int:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(Client, "127.0.0.1", port)
    client.ask(target, token)
    async with asyncio.timeout(ANSWERED_S):
        status = await client.answer
    transport.close()
    return status


async def wave(stack: Stack, targets: list[str], token: str) -> Counter[int]:
    """Status → how many of the clients got it, one in five of them without a token."""
    port = stack.settings.infra.api_port
    async with connected(port) as clients:
        assert await status_of(port, targets[0], token) == 200, "another client is answered while they wait"
        for number, client in enumerate(clients):
            client.ask(targets[number % len(targets)], None if number % 5 == 4 else token)
        async with asyncio.timeout(ANSWERED_S):
            return Counter(await asyncio.gather(*(client.answer for client in clients)))


@pytest.mark.real
@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("files")
async def test_five_thousand_at_once_are_answered_and_forgotten() -> None:
    with running({}) as (stack, doors):
        token, port, pid = doors.token("investor", 1), stack.settings.infra.api_port, stack.pid("api")
        quote = f"/stockPrices?symbol={SYMBOL}"

        async def quoted() -> bool:
            return await status_of(port, quote, token) == 200

        await eventually("the first quote", quoted, 60)
        history = [f"/stockPrices?symbol={SYMBOL}&timerange={timerange}" for timerange in ("1d", "1m", "max")]
        assert [await status_of(port, target, token) for target in history] == [200] * 3
        before_kb, before_files = held(pid, "VmRSS"), open_files(pid)
        peaks_kb: list[int] = []
        for targets in ([quote], [quote, *history, "/stockPrices/search?q=a"], history, history):
            found = await wave(stack, targets, token)
            print(targets, dict(found), "peak kB", held(pid, "VmHWM") - before_kb)
            assert found.total() == CLIENTS
            assert found[401] == CLIENTS // 5
            assert set(found) <= {200, 401, 429}
            assert found[200]
            peaks_kb.append(held(pid, "VmHWM") - before_kb)

            async def forgotten() -> bool:
                return open_files(pid) <= before_files + 20

            await eventually("every connection is closed", forgotten, 30)
            assert await status_of(port, quote, token) == 200
        assert peaks_kb[-1] <= CLIENTS * KB_PER_CLIENT
        assert peaks_kb[-1] <= 1.2 * peaks_kb[-2], "the same again takes more memory"
        assert stack.pid("api") == pid
