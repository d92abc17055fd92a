"""The twin of the Redis mailbox."""

from __future__ import annotations

import asyncio

from infra.mailbox import Taken


class MemoryMailbox:
    """One object is the way between all who hold it."""

    def __init__(self) -> None:
        self._readers: dict[str, list[Taken]] = {}

    async def send(self, address: str, letter: bytes) -> bool:
        readers = self._readers.get(address, [])
        for taken in readers:
            # As over a wire: the sender goes on before the letter is read.
            asyncio.get_running_loop().call_soon(taken, letter)
        return bool(readers)

    async def read(self, address: str, taken: Taken, stop: asyncio.Event) -> None:
        self._readers.setdefault(address, []).append(taken)
        try:
            await stop.wait()
        finally:
            self._readers[address].remove(taken)
            if not self._readers[address]:
                del self._readers[address]

    async def close(self) -> None:
        return None
