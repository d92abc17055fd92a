"""Who asks. Every use case and store method that touches an account takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["investor", "back_office", "operator", "system"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. An investor is bound to one account; the other roles see every account.

    `expires_s` (Unix seconds, None for never) is how long the proof is good: a stream ends then. It does not say who.
    """

    subject: str
    role: Role
    account_id: int | None = None
    expires_s: int | None = field(default=None, compare=False)

    def may_see(self, account_id: int) -> bool:
        return self.role != "investor" or self.account_id == account_id


def on_streams(principal: Callable[..., Any]) -> Callable[..., Any]:
    """`principal` as a route of streams depends on it: where the api offers that, a ticket will do as well, since a
    browser's EventSource and WebSocket send no header."""
    return getattr(principal, "on_streams", principal)


def system(process: str) -> Principal:
    """One of our own processes acting on a report or a timer, never on a client's request."""
    return Principal(process, "system")
