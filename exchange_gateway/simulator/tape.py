"""Tapes on disk: recorded days to replay, and a command that writes a synthetic one in the same form.

python -m exchange_gateway.simulator.tape OUT.parquet --symbols 500 --rows 100000 --seed 1
"""

from __future__ import annotations

import argparse
import csv
import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exchange_gateway.simulator.columns import MICROS_PER_E4, Columns, Listing, Tape, rows_of, windowed
from exchange_gateway.simulator.synthetic import listings, synthetic_day

__all__ = ["find_tape", "recorded", "rows_of", "synthetic", "write_synthetic"]

RECORDED = Path("tape") / "ticks_2013-10-08.parquet"
NEW_YORK = ZoneInfo("America/New_York")
BATCH_ROWS = 2048
_COLUMNS = [
    "ts_event",
    "symbol",
    "kind",
    "price_e4",
    "size",
    "exch",
    "cond",
    "bid_e4",
    "bid_sz",
    "ask_e4",
    "ask_sz",
]
_SCHEMA = pa.schema(
    [
        ("ts_event", pa.int64()),
        ("seq", pa.uint32()),
        ("symbol", pa.string()),
        ("kind", pa.string()),
        ("price_e4", pa.int32()),
        ("size", pa.int32()),
        ("exch", pa.string()),
        ("cond", pa.uint32()),
        ("side", pa.string()),
        ("bid_e4", pa.int32()),
        ("bid_sz", pa.int32()),
        ("ask_e4", pa.int32()),
        ("ask_sz", pa.int32()),
        ("bid_ex", pa.string()),
        ("ask_ex", pa.string()),
        ("src", pa.string()),
    ]
)


class TapeError(Exception):
    """The tape cannot be played; the text names the file and what is wrong."""


def find_tape(given: str, folders: list[Path]) -> Path | None:
    """The tape to replay: the one that was asked for, else the recorded day in the first folder that has it."""
    if given:
        if not Path(given).is_file():
            raise TapeError(f"XGW_TAPE={given}: there is no such file")
        return Path(given)
    return next((folder / RECORDED for folder in folders if (folder / RECORDED).is_file()), None)


def recorded(path: Path, reference: Path | None, start: str, rows_max: int) -> Tape:
    """A recorded day from `start` (New York time, `HH:MM`) on. `reference` has names and previous closes."""
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise TapeError(f"{path} cannot be read: {error}") from error
    missing = set(_COLUMNS) - set(file.schema_arrow.names)
    if missing or not file.metadata.num_rows:
        raise TapeError(f"{path} has no rows" if not missing else f"{path} lacks the columns {sorted(missing)}")
    first_ns = next(file.iter_batches(1, columns=["ts_event"]))["ts_event"][0].as_py()
    day = datetime.datetime.fromtimestamp(first_ns / 1e9, NEW_YORK).date()
    from_ns = _start_ns(day, start)
    file.close()
    if next(windowed(_read(path, from_ns), from_ns, 1), None) is None:
        raise TapeError(f"{path} has no ticks at or after {start} New York time; set XGW_TAPE_START")
    return Tape(
        label=str(path),
        listings=_listings(path, reference, day),
        play=lambda: windowed(_read(path, from_ns), from_ns, rows_max),
    )


def synthetic(symbols: int, rows: int, seed: int, rows_max: int = 0) -> Tape:
    """A day made from a seed."""
    return Tape(
        label=f"synthetic, {symbols} symbols, seed {seed}",
        listings=listings(symbols, rows, seed),
        play=lambda: windowed(synthetic_day(symbols, rows, seed), 0, rows_max),
    )


def write_synthetic(target: Path, symbols: int, rows: int, seed: int) -> None:
    """Write a synthetic day to a file that is replayed as a recorded one is."""
    seq = 0
    with pq.ParquetWriter(target, _SCHEMA) as writer:
        for columns in synthetic_day(symbols, rows, seed):
            writer.write_table(_table(columns, seq))
            seq += len(columns)


def _start_ns(day: datetime.date, start: str) -> int:
    try:
        at = datetime.time.fromisoformat(start)
    except ValueError as error:
        raise TapeError(f"XGW_TAPE_START={start!r} is not a time of day such as 09:30") from error
    return int(datetime.datetime.combine(day, at, NEW_YORK).timestamp()) * 1_000_000_000


def _read(path: Path, from_ns: int) -> Iterator[Columns]:
    with pq.ParquetFile(path, read_dictionary=["symbol", "exch"]) as file:
        groups = [g for g in range(file.num_row_groups) if _ends_after(file, g, from_ns)]
        if not groups:
            return
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=_COLUMNS, use_threads=False):
            yield _columns(batch)


def _ends_after(file: pq.ParquetFile, group: int, from_ns: int) -> bool:
    """Whether a row group may have rows at or after a time; files without statistics are read whole."""
    statistics = file.metadata.row_group(group).column(file.schema_arrow.names.index("ts_event")).statistics
    return statistics is None or not statistics.has_min_max or bool(statistics.max >= from_ns)


def _columns(batch: pa.RecordBatch) -> Columns:
    symbol, symbols = _places(batch["symbol"])
    exch, venues = _places(batch["exch"])
    numbers = {
        name: pc.fill_null(batch[name].cast(pa.int64()), 0).to_numpy()
        for name in ("ts_event", "price_e4", "size", "cond", "bid_e4", "bid_sz", "ask_e4", "ask_sz")
    }
    is_trade = pc.equal(batch["kind"], "T").to_numpy(zero_copy_only=False)
    return Columns(**numbers, symbol=symbol, exch=exch, is_trade=is_trade, symbols=symbols, venues=venues)


def _places(column: Any) -> tuple[Any, list[str]]:
    """Places in a list of names; null is the last place, with the name ""."""
    names = [*column.dictionary.to_pylist(), ""]
    return pc.fill_null(column.indices.cast(pa.int64()), len(names) - 1).to_numpy(), names


def _listings(path: Path, reference: Path | None, day: datetime.date) -> dict[str, Listing]:
    """Every symbol of the tape. Without a known previous close the first print stands for it."""
    table = pq.read_table(path, columns=["symbol", "kind", "price_e4"])
    symbols = sorted(pc.unique(table["symbol"]).to_pylist())
    prints = table.filter(pc.equal(table["kind"], "T")).group_by("symbol", use_threads=False)
    firsts = prints.aggregate([("price_e4", "first")]).to_pylist()
    closes = {row["symbol"]: int(row["price_e4_first"]) * MICROS_PER_E4 for row in firsts}
    closes |= {
        row["symbol"]: int(Decimal(row["prior_close_unadjusted"]) * 1_000_000)
        for row in _csv(reference, "prior_close.csv")
        if row["session_date"] == day.isoformat()
    }
    names = {row["symbol"]: row["name"] for row in _csv(reference, "instruments.csv")}
    return {symbol: Listing(names.get(symbol, symbol), closes.get(symbol, 0)) for symbol in symbols}


def _csv(folder: Path | None, name: str) -> list[dict[str, str]]:
    if folder is None or not (folder / name).is_file():
        return []
    with (folder / name).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _table(columns: Columns, first_seq: int) -> pa.Table:
    """Columns in the form of a recorded file: what a row does not have is null."""
    trade, count = columns.is_trade, len(columns)
    nulls = pa.nulls(count, pa.string())
    exch = pa.array(np.array(columns.venues, dtype=object)[columns.exch], mask=~trade)
    made = {
        "ts_event": columns.ts_event,
        "seq": np.arange(first_seq, first_seq + count),
        "symbol": np.array(columns.symbols, dtype=object)[columns.symbol],
        "kind": np.where(trade, "T", "Q"),
        "exch": exch,
        "side": nulls,
        "bid_ex": nulls,
        "ask_ex": nulls,
        "src": np.full(count, "synthetic"),
    }
    for name, absent in (("price_e4", ~trade), ("size", ~trade), ("cond", ~trade)):
        made[name] = pa.array(getattr(columns, name), mask=absent)
    for name in ("bid_e4", "bid_sz", "ask_e4", "ask_sz"):
        made[name] = pa.array(getattr(columns, name), mask=trade)
    arrays = [pa.array(made[field.name]).cast(field.type) for field in _SCHEMA]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m exchange_gateway.simulator.tape", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    write_synthetic(given.target, given.symbols, given.rows, given.seed)


if __name__ == "__main__":
    main()
