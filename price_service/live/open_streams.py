"""The streams that are open in this process: whose they are, how many one client may have, and how they are changed.

A stream's id names its process first, so that any process knows where to send a change (`elsewhere.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Protocol

import msgspec

from infra.clock import Ids
from infra.expiry import Expiries
from infra.principal import Principal
from infra.sse import EXPIRED, FAREWELL
from price_service.domain import reasons
from price_service.domain.reasons import refusal

PROCESS_CHARS = 12
_PROCESS_BITS = PROCESS_CHARS * 4
_STREAM_BITS = 80


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Other symbols for a stream: either all of them, or some more and some less."""

    symbols: tuple[str, ...] | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def of(self, held: Collection[str]) -> list[str]:
        """What a stream of `held` follows afterwards. May be empty."""
        if self.symbols is not None:
            return list(dict.fromkeys(self.symbols))
        gone = set(self.remove)
        return [symbol for symbol in dict.fromkeys([*held, *self.add]) if symbol not in gone]


class Controlled(Protocol):
    """An open stream, as far as it is changed and ended from outside."""

    @property
    def id(self) -> str: ...

    @property
    def principal(self) -> Principal: ...

    @property
    def symbols(self) -> Collection[str]: ...

    def change(self, symbols: Collection[str]) -> None:
        """Follow these from now on, and say so on the stream. Raises Refusal, and then nothing has changed."""
        ...

    def end(self, event: bytes) -> None:
        """Say a last thing and close. May call `OpenStreams.closed` before it returns, or later."""
        ...


class OpenStreams:
    """`streams_max` is per account of an investor, per subject of everyone else, in this process."""

    def __init__(self, ids: Ids, expiries: Expiries, streams_max: int, symbols_max: int) -> None:
        self._random = ids.random
        self._expiries = expiries
        self._streams_max = streams_max
        self._symbols_max = symbols_max
        self._open: dict[str, Controlled] = {}
        # By the second at which they end. One entry among the expiries for all of a second: most have equal tokens.
        self._ending: dict[int, set[Controlled]] = {}
        self._count: dict[str, int] = {}
        self.process = f"{self._random.getrandbits(_PROCESS_BITS):0{PROCESS_CHARS}x}"

    def __len__(self) -> int:
        return len(self._open)

    def new_id(self) -> str:
        return f"{self.process}{self._random.getrandbits(_STREAM_BITS):020x}"

    def opened(self, stream: Controlled) -> None:
        """Before its first byte; it ends when its owner's proof does. Raises Refusal: too many."""
        owner = owner_of(stream.principal)
        count = self._count.get(owner, 0)
        if count >= self._streams_max:
            raise refusal(reasons.STREAMS_TOO_MANY, max=self._streams_max)
        self._count[owner] = count + 1
        self._open[stream.id] = stream
        if (expires_s := stream.principal.expires_s) is not None:
            if expires_s not in self._ending:
                self._ending[expires_s] = set()
                self._expiries.at(expires_s, partial(self._expired, expires_s))
            self._ending[expires_s].add(stream)

    def closed(self, stream: Controlled) -> None:
        """However it ended; again is harmless."""
        if self._open.pop(stream.id, None) is None:
            return
        if (expires_s := stream.principal.expires_s) is not None:
            self._ending.get(expires_s, set()).discard(stream)
        owner = owner_of(stream.principal)
        self._count[owner] -= 1
        if not self._count[owner]:
            del self._count[owner]

    def change(self, owner: str, stream_id: str, change: Change) -> list[str]:
        """What the stream follows from now on. Raises Refusal."""
        stream = self._of(owner, stream_id)
        symbols = change.of(stream.symbols)
        if not symbols:
            raise refusal(reasons.STREAM_OF_NOTHING, "symbols")
        if len(symbols) > self._symbols_max:
            raise refusal(reasons.SYMBOLS_TOO_MANY, "symbols", max=self._symbols_max)
        stream.change(symbols)
        return symbols

    def end(self, owner: str, stream_id: str) -> None:
        """Raises Refusal."""
        self._of(owner, stream_id).end(FAREWELL)

    def _of(self, owner: str, stream_id: str) -> Controlled:
        stream = self._open.get(stream_id)
        # To everyone but its owner a stream is one that does not exist.
        if stream is None or owner_of(stream.principal) != owner:
            raise refusal(reasons.STREAM_UNKNOWN)
        return stream

    def _expired(self, expires_s: int) -> None:
        for stream in self._ending.pop(expires_s, set()):
            stream.end(EXPIRED)


def owner_of(asker: Principal) -> str:
    """Whose streams are counted, and may be changed, together."""
    return f"account:{asker.account_id}" if asker.account_id is not None else f"{asker.role}:{asker.subject}"
