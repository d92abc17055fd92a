"""Streams that another process of the api has open: a change of one is asked of it by letter, and answered."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from infra.mailbox import Mailbox, MailboxDown
from infra.principal import Principal
from infra.refusal import Refusal
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.live.open_streams import PROCESS_CHARS, Change, OpenStreams, owner_of

log = structlog.get_logger(__name__)

ANSWER_S = 2.0
# Changes of one process that wait for their answers; more mean that nobody answers.
ASKED_MAX = 1_000
ADDRESS = "price-streams:"


class _Ask(msgspec.Struct, frozen=True, tag="ask"):
    """`change` None: end the stream."""

    number: int
    reply_to: str
    owner: str
    stream_id: str
    change: Change | None


class _Refused(msgspec.Struct, frozen=True):
    code: str
    text: str
    field: str | None
    details: dict[str, str | int]


class _Answer(msgspec.Struct, frozen=True, tag="answer"):
    number: int
    symbols: list[str]
    refused: _Refused | None = None


class AllStreams:
    """The streams of all processes, as a route may change them."""

    def __init__(self, here: OpenStreams, mailbox: Mailbox, answer_s: float = ANSWER_S) -> None:
        self._here = here
        self._mailbox = mailbox
        self._answer_s = answer_s
        self._asked: dict[int, asyncio.Future[_Answer]] = {}
        self._number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._decode = msgspec.json.Decoder(_Ask | _Answer).decode

    async def run(self, stop: asyncio.Event) -> None:
        """Read what other processes ask and answer, until `stop`."""
        await self._mailbox.read(ADDRESS + self._here.process, self._taken, stop)

    async def change(self, asker: Principal, stream_id: str, change: Change) -> list[str]:
        """What the stream follows from now on. Raises Refusal."""
        owner = owner_of(asker)
        if self._is_here(stream_id):
            return self._here.change(owner, stream_id, change)
        return await self._elsewhere(owner, stream_id, change)

    async def end(self, asker: Principal, stream_id: str) -> None:
        """Raises Refusal."""
        owner = owner_of(asker)
        if self._is_here(stream_id):
            self._here.end(owner, stream_id)
        else:
            await self._elsewhere(owner, stream_id, None)

    def _is_here(self, stream_id: str) -> bool:
        return stream_id[:PROCESS_CHARS] == self._here.process

    async def _elsewhere(self, owner: str, stream_id: str, change: Change | None) -> list[str]:
        if len(self._asked) >= ASKED_MAX:
            raise refusal(reasons.STREAM_UNREACHABLE, retry_after_s=1)
        self._number += 1
        ask = _Ask(self._number, self._here.process, owner, stream_id, change)
        waiting: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._asked[ask.number] = waiting
        try:
            async with asyncio.timeout(self._answer_s):
                address = ADDRESS + stream_id[:PROCESS_CHARS]
                if not await self._mailbox.send(address, msgspec.json.encode(ask)):
                    raise refusal(reasons.STREAM_UNKNOWN)
                answer = await waiting
        except (MailboxDown, TimeoutError) as error:
            raise refusal(reasons.STREAM_UNREACHABLE, retry_after_s=1) from error
        finally:
            del self._asked[ask.number]
        if (refused := answer.refused) is not None:
            raise Refusal(refused.code, refused.text, refused.field, refused.details)
        return answer.symbols

    def _taken(self, letter: bytes) -> None:
        try:
            found = self._decode(letter)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("letter_about_streams_malformed", error=str(error))
            return
        if isinstance(found, _Answer):
            waiting = self._asked.get(found.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(found)
            return
        answering = asyncio.ensure_future(self._answer(found))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _answer(self, ask: _Ask) -> None:
        try:
            answer = _Answer(ask.number, self._done(ask))
        except Refusal as refused:
            said = _Refused(refused.code, refused.text, refused.field, refused.details)
            answer = _Answer(ask.number, [], said)
        try:
            await self._mailbox.send(ADDRESS + ask.reply_to, msgspec.json.encode(answer))
        except MailboxDown as error:
            log.warning("answer_about_a_stream_lost", error=str(error))

    def _done(self, ask: _Ask) -> list[str]:
        if ask.change is not None:
            return self._here.change(ask.owner, ask.stream_id, ask.change)
        self._here.end(ask.owner, ask.stream_id)
        return []
