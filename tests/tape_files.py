"""Tapes for tests: a slice of the real day where it is at hand, a synthetic one otherwise."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exchange_gateway.simulator.tape import write_synthetic

REAL_TAPE = Path("tape") / "ticks_2013-10-08.parquet"
OPEN_NY = datetime.datetime(2013, 10, 8, 9, 30, tzinfo=ZoneInfo("America/New_York"))
MICROS_PER_E4 = 100
# How long the first 100,000 ticks of the recorded day take.
SLICE_S = 1_175.0


@dataclass(frozen=True, slots=True)
class TapeFacts:
    """What must be true after the tape was played once, computed from the file alone."""

    rows: dict[str, int]
    last_trade_micros: dict[str, int]
    last_bid_ask_micros: dict[str, tuple[int, int]]


def real_tape() -> Path | None:
    """The recorded day, if this machine has it. Its licence forbids shipping it."""
    folders = [os.environ.get("MARKETDATA_DIR"), str(Path(__file__).parents[2] / "shared" / "marketdata")]
    return next((Path(f) / REAL_TAPE for f in folders if f and (Path(f) / REAL_TAPE).exists()), None)


def write_slice(target: Path, rows: int) -> Path:
    """`rows` ticks from the open of the recorded day, or as many synthetic ones of six symbols."""
    source = real_tape()
    if source is None:
        print("no recorded tape on this machine: a synthetic one is played instead")
        write_synthetic(target, symbols=6, rows=rows, seed=1)
        _hurried(target, SLICE_S)
        return target
    table = pq.read_table(source)
    first = int(np.searchsorted(table["ts_event"].to_numpy(), int(OPEN_NY.timestamp() * 1e9)))
    pq.write_table(table.slice(first, rows), target)
    return target


def _hurried(path: Path, seconds: float) -> None:
    """Let the whole tape last so long: a synthetic day of few rows is spread over all its hours."""
    table = pq.read_table(path)
    times = table["ts_event"].to_numpy()
    passed = (times - times[0]) * (seconds * 1e9 / (times[-1] - times[0]))
    index = table.schema.get_field_index("ts_event")
    hurried = pa.array(times[0] + passed.astype(np.int64), table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), hurried), path)


def facts(path: Path) -> TapeFacts:
    rows: Counter[str] = Counter()
    last: dict[str, int] = {}
    quotes: dict[str, tuple[int, int]] = {}
    for row in _rows(pq.read_table(path)):
        symbol = row["symbol"]
        rows[symbol] += 1
        if row["kind"] == "T":
            if not row["cond"] & EXCLUDED_FROM_LAST:
                last[symbol] = row["price_e4"] * MICROS_PER_E4
        else:
            quotes[symbol] = ((row["bid_e4"] or 0) * MICROS_PER_E4, (row["ask_e4"] or 0) * MICROS_PER_E4)
    return TapeFacts(dict(rows), last, quotes)


# Form-T, outside hours and odd lots do not move the last price: the condition rule, stated a second time on purpose.
EXCLUDED_FROM_LAST = 0x2000 | 0x4000 | 0x8000_0000


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    columns = ["symbol", "kind", "cond", "price_e4", "bid_e4", "ask_e4"]
    return table.select(columns).to_pylist()  # type: ignore[no-any-return]
