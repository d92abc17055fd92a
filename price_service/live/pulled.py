"""The end of a client that is written to by a task of its own: where its connection cannot be taken over."""

from __future__ import annotations

import asyncio


class Pulled:
    """A sink for a client that is written to by a task of its own, where its connection cannot be taken over."""

    __slots__ = ("_bytes", "_closed", "_data", "_news")

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._bytes = 0
        self._closed = False
        self._news = asyncio.Event()

    def write(self, data: bytes) -> None:
        if not self._closed:
            self._data.append(data)
            self._bytes += len(data)
            self._news.set()

    def unsent(self) -> int:
        return self._bytes

    def close(self) -> None:
        self._closed = True
        self._news.set()

    def abort(self) -> None:
        self._data.clear()
        self._bytes = 0
        self.close()

    async def pull(self) -> bytes:
        """What was written since the last call; waits until there is something. Empty once closed and taken."""
        await self._news.wait()
        data = b"".join(self._data)
        self._data.clear()
        self._bytes = 0
        if not self._closed:
            self._news.clear()
        return data
