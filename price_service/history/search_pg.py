"""Search by PostgreSQL's pg_trgm, in the order of `domain.likeness.RANKS`.

One branch per rank, each with conditions that a trigram index of its own answers; a symbol's best rank counts.
"""

from __future__ import annotations

from datetime import datetime

from price_service.domain import likeness
from price_service.domain.points import Found
from price_service.store.days_pg import Connection

# For the transaction. The planner does not know how dear a comparison by trigrams is, and would read all names.
SETTINGS = f"""
    SELECT set_config('enable_seqscan', 'off', true),
        set_config('pg_trgm.similarity_threshold', '{likeness.SYMBOL_LIKENESS_MIN}', true),
        set_config('pg_trgm.word_similarity_threshold', '{likeness.NAME_LIKENESS_MIN}', true)
"""
_BRANCH = "SELECT symbol, name, {rank} AS rank FROM instruments WHERE {condition}"
_SEARCH = """
    WITH hits AS (
        SELECT DISTINCT ON (symbol) symbol, name, rank FROM ({branches}) every ORDER BY symbol, rank
    ), traded AS (
        SELECT symbol, sum(notional_micros) AS notional_micros FROM bars_1d
        WHERE symbol IN (SELECT symbol FROM hits) AND bucket >= %(since)s GROUP BY symbol
    )
    SELECT h.symbol, h.name FROM hits h LEFT JOIN traded t USING (symbol)
    ORDER BY h.rank, t.notional_micros DESC NULLS LAST, h.symbol COLLATE "C" LIMIT %(max)s
"""


async def found(connection: Connection, typed: str, found_max: int, since: datetime) -> list[Found]:
    query, parameters = statement(typed, found_max, since)
    async with connection.pipeline():
        await connection.execute(SETTINGS)
        cursor = await connection.execute(query, parameters)
        return [Found(str(symbol), str(name)) for symbol, name in await cursor.fetchall()]


def statement(typed: str, found_max: int, since: datetime) -> tuple[str, dict[str, object]]:
    """The query for this text, with its parameters."""
    capitals = typed.upper()
    parameters: dict[str, object] = {
        "typed": capitals,
        "begins": f"{_literal(capitals)}%",
        "contains": f"%{_literal(capitals)}%",
        "since": since,
        "max": found_max,
    }
    words = likeness.words(capitals)
    for at, word in enumerate(words):
        parameters |= {f"first{at}": f"{_literal(word)}%", f"later{at}": f"% {_literal(word)}%"}
    named = " AND ".join(
        f"(upper(name) LIKE %(first{at})s OR upper(name) LIKE %(later{at})s)" for at in range(len(words))
    )
    conditions = {
        likeness.EXACT: "symbol = %(typed)s",
        likeness.BEGINS: "symbol LIKE %(begins)s",
        likeness.WORDS: named,
        likeness.LIKE: "symbol %% %(typed)s OR %(typed)s <%% upper(name)",
    }
    if len(capitals) >= likeness.CONTAINED_CHARACTERS_MIN:
        conditions[likeness.CONTAINS] = "upper(name) LIKE %(contains)s"
    branches = " UNION ALL ".join(_BRANCH.format(rank=rank, condition=text) for rank, text in conditions.items())
    return _SEARCH.format(branches=branches), parameters


def _literal(text: str) -> str:
    """For LIKE: nothing in it stands for anything else."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
