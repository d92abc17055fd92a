"""A page of history as a table: CSV, Parquet, or a stream of Apache Arrow. Exact: no float is made on the way.

Columns: `time` (the bucket's start, UTC), `open`, `high`, `low`, `close`, `vwap` (USD, six decimals; null where no
trade set prices), `volume` (shares), `trades`. Parquet and Arrow carry `symbol`, `interval`, `adjusted` and, where bars
were made up, `synthetic_before` as metadata. The same page gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from price_service.domain import text
from price_service.domain.points import Shown
from price_service.history.answers import Page

_HEAD = "time,open,high,low,close,volume,trades,vwap\r\n"
# Micros are integers; the same sixteen bytes with a scale of six are dollars. 32 digits before the point hold every
# price that any corporate action can make.
_MICROS, _USD = pa.decimal128(38, 0), pa.decimal128(38, 6)
_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("time", _TIME, nullable=False),
        *(pa.field(name, _USD) for name in ("open", "high", "low", "close")),
        pa.field("volume", pa.int64(), nullable=False),
        pa.field("trades", pa.int64(), nullable=False),
        pa.field("vwap", _USD),
    ]
)


def csv(page: Page) -> bytes:
    """RFC 4180, with a header line. A price that is not known is an empty field."""
    return (_HEAD + "".join([_line(point) for point in page.points])).encode()


def parquet(page: Page) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(page), sink, compression="zstd")
    return sink.getvalue()


def arrow(page: Page) -> bytes:
    """Arrow's IPC streaming format, one record batch."""
    table, sink = _table(page), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _line(point: Shown) -> str:
    return (
        f"{text.iso_seconds(point.time_ns)},{_price(point.open)},{_price(point.high)},{_price(point.low)},"
        f"{_price(point.close)},{point.volume},{point.trades},{_price(point.vwap)}\r\n"
    )


def _price(micros: int | None) -> str:
    return "" if micros is None else text.decimal(micros)


def _table(page: Page) -> Any:
    columns: list[Sequence[Any]] = list(zip(*page.points, strict=True)) or [()] * len(SCHEMA)
    arrays = [
        pa.array([time_ns // 1000 for time_ns in column], pa.int64()).cast(_TIME)
        if field.type == _TIME
        else _dollars(column)
        if field.type == _USD
        else pa.array(column, field.type)
        for field, column in zip(SCHEMA, columns, strict=True)
    ]
    said = {"symbol": page.symbol, "interval": page.chosen.interval, "adjusted": str(page.adjusted).lower()}
    if page.synthetic_before_ns is not None:
        said["synthetic_before"] = text.iso_seconds(page.synthetic_before_ns)
    return pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(said))


def _dollars(micros: Sequence[int | None]) -> Any:
    whole = pa.array(micros, _MICROS)
    return pa.Array.from_buffers(_USD, len(whole), whole.buffers(), whole.null_count)
