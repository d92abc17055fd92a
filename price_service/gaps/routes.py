"""What is missing, on the worker's internal port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response

from infra.contracts import encode


def routes(shown: Callable[[], list[dict[str, Any]]]) -> APIRouter:
    router = APIRouter(tags=["gaps"])

    @router.get("/gaps")
    async def gaps() -> Response:
        """Missing ticks of this worker's symbols: open, lost at the venue, or stuck on their way here."""
        return Response(encode(shown()), media_type="application/json")

    return router
