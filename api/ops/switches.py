"""/ops/switches: stop trading of everything, of a symbol or of an account, and let it go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from fastapi import APIRouter, Depends

from api.ops.fields import Reason, Told, Why, moment, outside_answers
from api.reasons import SWITCH_SCOPE_INVALID, refusal
from infra.contracts import Switch, SwitchMode
from infra.principal import Principal
from infra.switches import SCOPE, SwitchStore

log = structlog.get_logger(__name__)


class SwitchBody(Why):
    mode: SwitchMode


class SwitchTold(Told):
    """The last word on a scope. Mode `normal` is a switch that was lifted."""

    scope: str
    mode: SwitchMode
    reason: Reason
    by: str
    at: datetime | None


class SwitchesTold(Told):
    switches: list[SwitchTold]


def routes(store: SwitchStore, operator: Callable[..., Any]) -> APIRouter:
    router = APIRouter(prefix="/ops/switches", tags=["ops"])

    @router.get("", summary="The last word on every scope")
    async def listed(_: Principal = Depends(operator)) -> SwitchesTold:
        with outside_answers():
            return SwitchesTold(switches=[_told(switch) for switch in await store.all()])

    @router.put("/{scope}", summary="Set or lift a kill switch")
    async def put(scope: str, body: SwitchBody, asker: Principal = Depends(operator)) -> SwitchTold:
        """`cancel_only` lets no order through but cancels, `reduce_only` only what makes a position smaller, `normal`
        everything. The strictest of the switches that fit an order holds, from a moment after this answer."""
        if not SCOPE.fullmatch(scope):
            raise refusal(SWITCH_SCOPE_INVALID, field="scope")
        with outside_answers():
            switch = await store.set(asker, scope, body.mode, body.reason)
        log.warning("switch_set", scope=scope, mode=body.mode, by=asker.subject, reason=body.reason)
        return _told(switch)

    return router


def _told(switch: Switch) -> SwitchTold:
    at = moment(switch.at_ns // 1000)
    return SwitchTold(scope=switch.scope, mode=switch.mode, reason=switch.reason, by=switch.by, at=at)
