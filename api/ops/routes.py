"""Routes for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from infra.principal import Principal
from infra.process import Ready


class Health(BaseModel):
    """This process: which doors it opens, and which of their conditions hold."""

    process: str
    roles: list[str]
    ready: bool
    conditions: dict[str, bool]


def router(operator: Any, roles: Sequence[str], ready: Mapping[str, Ready]) -> APIRouter:
    """`operator` is the dependency that admits operators only."""
    routes = APIRouter(prefix="/ops", tags=["ops"])

    @routes.get("/health")
    async def health(_: Principal = Depends(operator)) -> Health:
        """Readiness of this process by name, for the operator who asks what is missing."""
        conditions = {name: is_ready() for name, is_ready in ready.items()}
        return Health(process="api", roles=list(roles), ready=all(conditions.values()), conditions=conditions)

    return routes
