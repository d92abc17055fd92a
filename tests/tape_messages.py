"""A tape's rows as messages of `prices`, numbered as a venue numbers them: per symbol from 1, in the file's order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.tape_files import MICROS_PER_E4

ROWS_AT_A_TIME = 65_536
_COLUMNS = ["ts_event", "symbol", "kind", "price_e4", "size", "cond", "exch", "bid_e4", "bid_sz", "ask_e4", "ask_sz"]

Sent = tuple[bytes, bytes]


def messages(tape: Path, session: int) -> Iterator[list[Sent]]:
    """Key and value of every row, some ten thousand at a time."""
    numbers: dict[str, int] = {}
    with pq.ParquetFile(tape) as file:
        for rows in file.iter_batches(ROWS_AT_A_TIME, columns=_COLUMNS):
            yield [
                _message(row, session, numbers) for row in zip(*(rows[c].to_pylist() for c in _COLUMNS), strict=True)
            ]


def _message(row: tuple[Any, ...], session: int, numbers: dict[str, int]) -> Sent:
    at_ns, symbol, kind, price, size, cond, exch, bid, bid_size, ask, ask_size = row
    q = numbers[symbol] = numbers.get(symbol, 0) + 1
    head = f'"s":"{symbol}","d":{session},"q":{q},"t":{at_ns}'
    if kind == "T":
        body = f'"p":{price * MICROS_PER_E4},"z":{size},"c":{cond},"x":"{exch or ""}"'
    else:
        bid, ask = (bid or 0) * MICROS_PER_E4, (ask or 0) * MICROS_PER_E4
        body = f'"b":{bid},"bz":{bid_size or 0},"a":{ask},"az":{ask_size or 0}'
    return symbol.encode(), f'{{"k":"{kind}",{head},{body}}}'.encode()
