"""A client's end for tests, and a framing that can be read back."""

from __future__ import annotations

from collections.abc import Sequence

from price_service.live.followers import Item


class Kept:
    """Keeps what is written; while `room` is 0 it takes nothing, so that it counts as unsent."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.ends: list[str] = []
        self.is_taking = True
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        (self.taken if self.is_taking else self._waiting).append(data)

    def unsent(self) -> int:
        return sum(map(len, self._waiting))

    def close(self) -> None:
        self.ends.append("closed")

    def abort(self) -> None:
        self.ends.append("aborted")

    def take(self, writes: int | None = None) -> None:
        """What waits, or the first of it."""
        ready = self._waiting[:writes]
        del self._waiting[:writes]
        self.taken += ready

    def read(self) -> list[str]:
        """What was taken since the last call, one text per write."""
        taken, self.taken = self.taken, []
        return [data.decode() for data in taken]


class Words:
    """`A=1`, several joined by blanks."""

    beat = b"beat"

    def frame(self, key: str, item: Item) -> bytes:
        return b"%b=%b" % (key.encode(), item.json)

    def chunk(self, frames: Sequence[bytes]) -> bytes:
        assert frames
        return b" ".join(frames)


WORDS = Words()


def items(**values: int) -> dict[str, Item]:
    return {key: Item(b"%d" % value, str(value)) for key, value in values.items()}
