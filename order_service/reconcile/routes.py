"""/ops/breaks: the differences between the exchange's side and ours, and what was decided about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast, get_args
from uuid import UUID

import msgspec
import structlog
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from infra.principal import Principal
from order_service.domain import reasons
from order_service.domain.breaks import Break, State
from order_service.store.order_json import time_text
from order_service.store.ports import Breaks
from order_service.store.refusals import refuse

log = structlog.get_logger(__name__)
LIMIT_DEFAULT = 100
LIMIT_MAX = 500
STATES = get_args(State)
_encoder = msgspec.json.Encoder()
_Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")
]


class Accept(BaseModel):
    """Why the difference may stay."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: _Reason


def routes(breaks: Breaks, operator: Callable[..., Any]) -> APIRouter:
    router = APIRouter(prefix="/ops/breaks", tags=["ops"])

    @router.get("", summary="List differences to the exchange's side")
    async def listed(
        _: Principal = Depends(operator),
        state: Annotated[str | None, Query(description="One of " + ", ".join(STATES) + ".")] = None,
        cursor: Annotated[str | None, Query(description="`next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    ) -> Response:
        """`ages` has, for each state, how many there are and when the oldest was first seen."""
        if state is not None and state not in STATES:
            raise refuse(reasons.PARAMETER_INVALID, "state", name="state", allowed=", ".join(STATES))
        after = None if cursor is None else _id(cursor)
        if cursor is not None and after is None:
            raise refuse(reasons.PARAMETER_INVALID, "cursor", name="cursor", allowed="`next` of a page")
        found = await breaks.page(cast("State | None", state), after, limit + 1)
        page = found[:limit]
        ages = {
            name: {"count": count, "oldestAt": time_text(us)} for name, (count, us) in (await breaks.ages()).items()
        }
        body = {
            "breaks": [_shown(one) for one in page],
            "ages": ages,
            "next": page[-1].id if len(found) > limit else None,
        }
        return Response(_encoder.encode(body), media_type="application/json")

    @router.post("/{break_id}/accept", summary="Close a difference by decision")
    async def accept(break_id: str, body: Accept, asker: Principal = Depends(operator)) -> Response:
        """It is opened again when it is found with other numbers."""
        known = _id(break_id)
        if known is None or not await breaks.mark(asker, known, "accepted", body.reason):
            raise refuse(reasons.BREAK_NOT_FOUND)
        log.warning("break_accepted", break_id=known, by=asker.subject, reason=body.reason)
        return Response(_encoder.encode({"id": known, "state": "accepted"}), media_type="application/json")

    return router


def _id(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _shown(one: Break) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "subject": one.subject,
        "orderId": one.order_id,
        "accountId": one.account_id,
        "state": one.state,
        "ours": one.ours,
        "theirs": one.theirs,
        "proposal": one.proposal,
        "note": one.note,
        "seenAt": time_text(one.seen_us),
    }
