"""/ops/dlq: look at dead letters, send them back, or let them be."""

from __future__ import annotations

import codecs
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query
from pydantic import Field

from api.ops.fields import Asked, Reason, Told, Why, Word, moment, outside_answers
from api.reasons import (
    DEAD_LETTER_NOT_DISCARDED,
    DEAD_LETTER_NOT_FOUND,
    DEAD_LETTER_NOT_PARKED,
    REPLAY_RUNNING,
    REPLAY_SELECTION_INVALID,
    REPLAY_TOO_LONG,
    Code,
    refusal,
)
from infra.dlq.letters import DeadLetter, DeadLetters, Filter, State
from infra.dlq.replay import LETTERS_MAX, Outcome, Replay, ReplayRunning
from infra.principal import Principal

log = structlog.get_logger(__name__)

LIMIT_MAX = 500
IDS_MAX = 300  # as many as fit the largest body that is read
RATE_PER_S_MAX = 1000
REPLAY_S_MAX = 30
VALUE_BYTES_MAX = 65_536
HEADER_BYTES_MAX = 4096
HEADERS_MAX = 100


class Wanted(Asked):
    """Which letters to list. `cursor` is `next` of the page before."""

    topic: Word | None = None
    code: Word | None = None
    state: State | None = None
    order_id: Annotated[UUID | None, Field(strict=False)] = None
    cursor: Annotated[UUID | None, Field(strict=False)] = None
    limit: Annotated[int, Field(strict=False, ge=1, le=LIMIT_MAX)] = 100


class Bytes(Told):
    """Bytes as text where they are readable, else as base64. `cut` when there are more than are shown."""

    text: str | None = None
    base64: str | None = None
    bytes: int
    cut: bool


class HeaderOf(Bytes):
    name: str


class Letter(Told):
    """A dead letter: where it was parked from, why, and what was decided since."""

    id: UUID
    topic: str
    partition: int | None
    offset: int | None
    code: str
    text: str
    consumer: str
    order_id: str | None
    parked_at: datetime | None
    replays: int
    state: State
    state_at: datetime | None
    state_by: str | None
    state_reason: str | None
    dlq_topic: str
    dlq_partition: int
    dlq_offset: int


class Whole(Letter):
    """A dead letter with its record."""

    key: Bytes | None
    value: Bytes | None
    headers: list[HeaderOf]


class Letters(Told):
    letters: list[Letter]
    next: UUID | None


class ReplayBody(Asked):
    """Which letters to send back: these ids, or what is parked of a topic with a code, oldest first."""

    ids: Annotated[list[Annotated[UUID, Field(strict=False)]], Field(min_length=1, max_length=IDS_MAX)] | None = None
    topic: Word | None = None
    code: Word | None = None
    rate_per_s: Annotated[int, Field(ge=1, le=RATE_PER_S_MAX)] = 100
    reason: Reason


class ReplayResult(Told):
    id: UUID
    outcome: Outcome
    state: State | None


class Replays(Told):
    """One result for each letter. `more` when others of that topic and code are still parked."""

    results: list[ReplayResult]
    more: bool


def routes(letters: DeadLetters, replay: Replay, operator: Callable[..., Any]) -> APIRouter:
    router = APIRouter(prefix="/ops/dlq", tags=["ops"])

    @router.get("", summary="Dead letters, newest first")
    async def listed(wanted: Annotated[Wanted, Query()], _: Principal = Depends(operator)) -> Letters:
        order_id, before = (None if v is None else str(v) for v in (wanted.order_id, wanted.cursor))
        limit = wanted.limit
        asked = Filter(
            topic=wanted.topic,
            code=wanted.code,
            state=wanted.state,
            order_id=order_id,
            before=before,
            limit=limit + 1,
        )
        with outside_answers():
            found = await letters.page(asked)
        following = UUID(found[limit - 1].id) if len(found) > limit else None
        return Letters(letters=[Letter(**_shown(letter)) for letter in found[:limit]], next=following)

    @router.post("/replays", summary="Send dead letters back to their topics")
    async def replays(body: ReplayBody, asker: Principal = Depends(operator)) -> Replays:
        """Answers when all were tried; the pauses between them are half a minute at most. What is not parked any more
        is not sent, so the same request can be repeated."""
        with outside_answers():
            chosen, more = await _chosen(letters, body)
            log.info("dead_letters_replay", by=asker.subject, reason=body.reason, letters=len(chosen))
            try:
                results = await replay(asker, chosen, body.rate_per_s, body.reason)
            except ReplayRunning:
                raise refusal(REPLAY_RUNNING, details={"retry_after_s": REPLAY_S_MAX}) from None
        told = [ReplayResult(id=UUID(r.letter_id), outcome=r.outcome, state=r.state) for r in results]
        return Replays(results=told, more=more)

    @router.get("/{letter_id}", summary="One dead letter with its record")
    async def one(letter_id: UUID, _: Principal = Depends(operator)) -> Whole:
        with outside_answers():
            found = await letters.find(str(letter_id))
        if found is None:
            raise refusal(DEAD_LETTER_NOT_FOUND, field="letter_id")
        return _whole(found)

    @router.post("/{letter_id}/discard", summary="Let a dead letter be; it can be restored")
    async def discard(letter_id: UUID, body: Why, asker: Principal = Depends(operator)) -> Letter:
        return await changed(asker, letter_id, ("parked", "discarded"), body.reason, DEAD_LETTER_NOT_PARKED)

    @router.post("/{letter_id}/restore", summary="Take a discard back")
    async def restore(letter_id: UUID, body: Why, asker: Principal = Depends(operator)) -> Letter:
        return await changed(asker, letter_id, ("discarded", "parked"), body.reason, DEAD_LETTER_NOT_DISCARDED)

    async def changed(
        asker: Principal, letter_id: UUID, states: tuple[State, State], reason: str, refused: Code
    ) -> Letter:
        before, after = states
        with outside_answers():
            marked = await letters.mark(asker, str(letter_id), before, after, reason)
            found = marked or await letters.find(str(letter_id))
        if found is None:
            raise refusal(DEAD_LETTER_NOT_FOUND, field="letter_id")
        if marked is None:
            raise refusal(refused, details={"state": found.state, "by": found.state_by})
        log.info("dead_letter_marked", letter=found.id, state=found.state, by=asker.subject, reason=reason)
        return Letter(**_shown(found))

    return router


async def _chosen(letters: DeadLetters, body: ReplayBody) -> tuple[list[str], bool]:
    """The ids to replay, in the order in which they were parked, and whether others of that cause are left."""
    cause = (body.topic, body.code)
    if any(cause) if body.ids is not None else not all(cause):
        raise refusal(REPLAY_SELECTION_INVALID)
    letters_max = min(LETTERS_MAX, REPLAY_S_MAX * body.rate_per_s)
    if body.ids is None:
        wanted = Filter(topic=body.topic, code=body.code, state="parked", oldest_first=True, limit=letters_max + 1)
        found = await letters.page(wanted)
        return [letter.id for letter in found[:letters_max]], len(found) > letters_max
    ids = tuple(dict.fromkeys(str(letter_id) for letter_id in body.ids))
    if len(ids) > letters_max:
        details = {"letters": len(ids), "rate_per_s": body.rate_per_s, "seconds_max": REPLAY_S_MAX}
        raise refusal(REPLAY_TOO_LONG, field="ids", details=details)
    known = [letter.id for letter in await letters.page(Filter(ids=ids, oldest_first=True, limit=len(ids)))]
    return list(dict.fromkeys([*known, *ids])), False


def _shown(letter: DeadLetter) -> dict[str, Any]:
    names = Letter.model_fields.keys() - {"parked_at", "state_at"}
    values = {name: getattr(letter, name) for name in names}
    return values | {"parked_at": moment(letter.parked_us), "state_at": moment(letter.state_us)}


def _whole(letter: DeadLetter) -> Whole:
    record = letter.record
    assert record is not None, "a letter is found with its record"
    headers = [HeaderOf(name=name, **as_bytes(value, HEADER_BYTES_MAX)) for name, value in record.headers[:HEADERS_MAX]]
    key = None if record.key is None else Bytes(**as_bytes(record.key, HEADER_BYTES_MAX))
    value = None if record.value is None else Bytes(**as_bytes(record.value, VALUE_BYTES_MAX))
    return Whole(**_shown(letter), key=key, value=value, headers=headers)


def as_bytes(raw: bytes, bytes_max: int) -> dict[str, Any]:
    """Readable text, else base64; never more than `bytes_max` of it."""
    head, cut = raw[:bytes_max], len(raw) > bytes_max
    try:
        # What a cut leaves of a character at the end is left out.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=not cut)
    except UnicodeDecodeError:
        text = "\0"
    readable = all(character.isprintable() or character in "\t\r\n" for character in text)
    told = {"text": text} if readable else {"base64": b64encode(head).decode()}
    return {**told, "bytes": len(raw), "cut": cut}
