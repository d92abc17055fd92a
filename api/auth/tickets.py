"""Tickets: what a browser shows instead of a bearer token when it opens a stream.

EventSource and WebSocket send no header of the page's own, and a token in an address ends up in logs and histories. So
the page buys, with its token, a ticket that is good once and for a moment. Only its hash is stored, and the address is
cleaned of it before anything else reads it. A stream that was opened with a ticket ends with the token that bought it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import MutableMapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec
from fastapi import Query
from fastapi.openapi.models import HTTPBearer as BearerModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from api.auth.bearer import Bearer
from api.reasons import TICKET_INVALID, TICKETS_UNAVAILABLE, TOKEN_EXPIRED, TOKEN_MISSING, refusal
from infra.cache import CacheDown, Once
from infra.clock import NS_PER_S, Clock
from infra.principal import Principal

TTL_S = 30
RANDOM_BYTES = 32
PARAMETER = "ticket"
TICKET_CHARS_MAX = 64


class Ticket(NamedTuple):
    text: str
    expires_ns: int


class _Kept(msgspec.Struct, frozen=True):
    """What is stored under the hash of a ticket. `until_ns` is when it ends, whatever the store forgets later."""

    until_ns: int
    subject: str
    role: str
    account_id: int | None
    expires_s: int | None


class Tickets:
    """`kept` is shared by all processes of the api, so that any of them takes what another gave."""

    def __init__(self, kept: Once, clock: Clock) -> None:
        self._kept = kept
        self._clock = clock
        self._decode = msgspec.json.Decoder(_Kept).decode

    async def issue(self, asker: Principal) -> Ticket:
        """A new ticket that stands for `asker`. Raises Refusal while the store is away."""
        text = secrets.token_urlsafe(RANDOM_BYTES)
        until_ns = self._clock.now_ns() + TTL_S * NS_PER_S
        kept = _Kept(until_ns, asker.subject, asker.role, asker.account_id, asker.expires_s)
        try:
            await self._kept.put(_key(text), msgspec.json.encode(kept), TTL_S)
        except CacheDown as error:
            raise refusal(TICKETS_UNAVAILABLE, details={"retry_after_s": 1}) from error
        return Ticket(text, until_ns)

    async def redeem(self, text: str) -> Principal:
        """Who bought it; it is used up by that. Raises Refusal, the same for one that is used, late or made up."""
        try:
            found = await self._kept.take(_key(text)) if len(text) <= TICKET_CHARS_MAX else None
        except CacheDown as error:
            raise refusal(TICKETS_UNAVAILABLE, details={"retry_after_s": 1}) from error
        if found is None:
            raise refusal(TICKET_INVALID)
        kept, now_ns = self._decode(found), self._clock.now_ns()
        if now_ns >= kept.until_ns:
            raise refusal(TICKET_INVALID)
        if kept.expires_s is not None and now_ns >= kept.expires_s * NS_PER_S:
            raise refusal(TOKEN_EXPIRED)
        return Principal(kept.subject, kept.role, kept.account_id, kept.expires_s)  # type: ignore[arg-type]


class StreamCaller(SecurityBase):
    """The dependency of stream routes, over HTTP and WebSocket: the header, else a ticket."""

    def __init__(self, bearer: Bearer, tickets: Tickets) -> None:
        self.model = BearerModel(bearerFormat="JWT")
        self.scheme_name = "bearer"
        self._bearer = bearer
        self._tickets = tickets

    async def __call__(
        self,
        connection: HTTPConnection,
        ticket: Annotated[
            str | None, Query(description="From POST /streams/tickets, where no header can be sent; good once.")
        ] = None,
    ) -> Principal:
        if ticket is not None:
            _forget_ticket(connection.scope)
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            return self._bearer.identify(authorization)
        if not ticket:
            raise refusal(TOKEN_MISSING)
        return await self._tickets.redeem(ticket)


def _key(text: str) -> str:
    return "ticket:" + hashlib.sha256(text.encode()).hexdigest()


def _forget_ticket(scope: MutableMapping[str, Any]) -> None:
    """Servers and frameworks put the address into their logs."""
    parts: list[bytes] = scope["query_string"].split(b"&")
    kept = [part for part in parts if unquote_plus(part.partition(b"=")[0].decode("latin-1")) != PARAMETER]
    scope["query_string"] = b"&".join(kept)
