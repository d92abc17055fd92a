"""Who asks. Every use case and store method that touches an account takes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["investor", "back_office", "operator", "system"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. An investor is bound to one account; the other roles see every account."""

    subject: str
    role: Role
    account_id: int | None = None

    def may_see(self, account_id: int) -> bool:
        return self.role != "investor" or self.account_id == account_id


def system(process: str) -> Principal:
    """One of our own processes acting on a report or a timer, never on a client's request."""
    return Principal(process, "system")
