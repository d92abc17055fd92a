"""Corporate actions into PostgreSQL (database `prices`)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from price_service.domain.points import Action
from price_service.store.days_pg import store_connection

_KEEP = """
    INSERT INTO corporate_actions (symbol, ex_date, kind, price_numerator, price_denominator)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (symbol, ex_date, kind) DO UPDATE
        SET price_numerator = excluded.price_numerator, price_denominator = excluded.price_denominator
"""


class PgActions:
    """Satisfies `ports.ActionStore`."""

    def __init__(self, source: AsyncEngine) -> None:
        self._engine = source

    async def keep_actions(self, actions: Sequence[tuple[str, Action]]) -> None:
        async with store_connection(self._engine) as connection:
            async with connection.cursor() as cursor:
                await cursor.executemany(_KEEP, [(symbol, *action) for symbol, action in actions])
            await connection.commit()
