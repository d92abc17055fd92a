"""What `xgw` prints: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

_encoder = msgspec.json.Encoder(decimal_format="number")

QUOTE_COLUMNS = ("symbol", "price", "bid", "ask", "change", "changePercent", "volume", "time", "stale")
ORDER_COLUMNS = (
    "id",
    "orderType",
    "type",
    "symbol",
    "quantity",
    "amount",
    "timeInForce",
    "status",
    "pending",
    "cumQuantity",
    "averagePrice",
    "createdAt",
)
LETTER_COLUMNS = ("id", "topic", "code", "orderId", "parkedAt", "replays", "state", "text")
REPLAY_COLUMNS = ("id", "outcome", "state")
SWITCH_COLUMNS = ("scope", "mode", "by", "at", "reason")
BREAK_COLUMNS = ("kind", "subject", "orderId", "accountId", "ours", "theirs", "proposal", "state", "note")
DIFFERENCE_COLUMNS = ("orderId", "field", "stored", "rebuilt")


def rows_of(answer: Any) -> list[Mapping[str, Any]]:
    """The rows of an answer: a list, an object that holds one list, or one object."""
    if isinstance(answer, list):
        return [row for row in answer if isinstance(row, dict)]
    if isinstance(answer, dict):
        lists = [value for value in answer.values() if isinstance(value, list)]
        if len(lists) == 1 and "id" not in answer and "symbol" not in answer:
            return rows_of(lists[0])
        return [answer]
    return []


def as_json(answer: Any) -> str:
    """One line. Decimals stay numbers, digit for digit."""
    return _encoder.encode(answer).decode()


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, no_wrap=True)
    for row in rows:
        drawn.add_row(*(cell(row.get(name)) for name in columns))
    return drawn


def fields(row: Mapping[str, Any]) -> Table:
    """One object, a field a line."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    for name, value in row.items():
        drawn.add_row(f"[bold]{name}[/bold]", cell(value))
    return drawn


def cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return as_json(value)
        case _:
            return str(value).replace("[", r"\[")


def console(stderr: bool = False) -> Console:
    """Wide enough for every column when it is not a terminal, so that `grep` sees whole words."""
    found = Console(stderr=stderr, soft_wrap=True)
    return found if found.is_terminal else Console(stderr=stderr, width=240, soft_wrap=True)
