"""What a page of history looks like on the wire: adjusted prices, JSON, CSV, Parquet, Arrow, and which one is sent."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import NS_PER_S
from infra.refusal import Refusal
from price_service.domain.points import Action, Point, Shown
from price_service.history.adjust import shown
from price_service.history.answers import Page, history_json
from price_service.history.formats import FORMATS, format_of
from price_service.history.moments import midnight_ns
from price_service.history.ranges import choose

NOW = 1_711_899_020 * NS_PER_S
SPLIT = Action(date(2024, 3, 1), "split", 1, 2)
DIVIDEND = Action(date(2024, 3, 20), "dividend", 99, 100)


def point(at: date, price: int = 100_000_001, volume: int = 7) -> Point:
    return Point(midnight_ns(at), price, price, price, price, volume, 1, price * volume)


def page(
    points: list[Shown], adjusted: bool = False, following: str | None = None, synthetic_before_ns: int | None = None
) -> Page:
    return Page("BRK.B", choose({"timerange": "1d"}, NOW), adjusted, points, following, synthetic_before_ns)


POINTS = [
    Shown(NOW - 60 * NS_PER_S, 1, 580_250_000, 10_000, 5_000_000, 3, 2, 3),
    Shown(NOW, None, None, None, None, 0, 0, None),
    Shown(NOW + 60 * NS_PER_S, 10**13, 10**13, 10**20, 10**13, 2**62, 2**40, 10**13),
]


def test_prices_before_an_ex_date_are_compared_with_those_after_it() -> None:
    days = [date(2024, 2, 29), SPLIT.ex_date, date(2024, 3, 19), DIVIDEND.ex_date]
    found = shown([point(day) for day in days], [SPLIT, DIVIDEND])
    assert [p.close for p in found] == [49_500_000, 99_000_001, 99_000_001, 100_000_001]
    assert [p.volume for p in found] == [14, 7, 7, 7]
    assert [p.vwap for p in found] == [49_500_000, 99_000_001, 99_000_001, 100_000_001]
    assert shown([point(day) for day in days]) == [
        Shown(p.time_ns, p.open, p.high, p.low, p.close, p.volume, p.trades, p.open) for p in map(point, days)
    ]


actions = st.lists(
    st.builds(
        Action,
        st.dates(date(2024, 1, 1), date(2024, 1, 12)),
        st.sampled_from(["split", "dividend"]),
        st.integers(1, 10**6),
        st.integers(1, 10**6),
    ),
    max_size=6,
)


@given(actions, st.lists(st.integers(0, 12 * 24), max_size=8, unique=True).map(sorted), st.integers(1, 10**13))
def test_adjusting_is_exact_and_rounds_once(found: list[Action], hours: list[int], price: int) -> None:
    first = midnight_ns(date(2024, 1, 1))
    points = [Point(first + h * 3600 * NS_PER_S, price, price, price, price, 10, 1, price * 10) for h in hours]
    for before, after in zip(points, shown(points, found), strict=True):
        day = datetime.fromtimestamp(before.time_ns // NS_PER_S, UTC) - timedelta(hours=5)
        later = [action for action in found if action.ex_date > day.date()]
        ratio = size = Fraction(1)
        for action in later:
            ratio *= Fraction(action.price_numerator, action.price_denominator)
            size *= Fraction(action.price_denominator, action.price_numerator) if action.kind == "split" else 1
        half = Fraction(1, 2)
        assert after.open == after.vwap == (price * ratio + half).__floor__()
        assert after.volume == (10 * size + half).__floor__()


def test_json_is_exact_and_unknown_prices_are_null() -> None:
    found = json.loads(history_json(page(POINTS, following="abc", synthetic_before_ns=NOW)), parse_float=str)
    assert found["points"][0] == {
        "time": "2024-03-31T15:29:20Z",
        "open": "0.000001",
        "high": "580.25",
        "low": "0.01",
        "close": "5.00",
        "volume": 3,
        "trades": 2,
        "vwap": "0.000003",
    }
    assert found["points"][1]["vwap"] is None
    del found["points"]
    assert found == {
        "symbol": "BRK.B",
        "timerange": "1d",
        "interval": "1m",
        "adjusted": False,
        "from": "2024-03-28T04:00:00Z",
        "to": "2024-03-31T15:31:00Z",
        "truncated": True,
        "next": "abc",
        "syntheticBefore": "2024-03-31T15:30:20Z",
    }


def test_csv_is_exact_and_unknown_prices_are_empty() -> None:
    raw = FORMATS["csv"].write(page(POINTS)).decode()
    assert raw.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(raw)))
    assert list(rows[0].values()) == [
        "2024-03-31T15:29:20Z",
        "0.000001",
        "580.25",
        "0.01",
        "5.00",
        "3",
        "2",
        "0.000003",
    ]
    assert rows[1]["open"] == rows[1]["vwap"] == ""
    assert FORMATS["csv"].write(page([])) == b"time,open,high,low,close,volume,trades,vwap\r\n"


def read(form: str, raw: bytes) -> Any:
    return pq.read_table(io.BytesIO(raw)) if form == "parquet" else pa.ipc.open_stream(raw).read_all()


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_tables_are_exact(form: str) -> None:
    written = page(POINTS, adjusted=True, synthetic_before_ns=NOW)
    table = read(form, FORMATS[form].write(written))
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("time", "timestamp[us, tz=UTC]"),
        *((name, "decimal128(38, 6)") for name in ("open", "high", "low", "close")),
        ("volume", "int64"),
        ("trades", "int64"),
        ("vwap", "decimal128(38, 6)"),
    ]
    rows = table.to_pylist()
    assert rows[0]["time"] == datetime(2024, 3, 31, 15, 29, 20, tzinfo=UTC)
    assert [rows[0][name] for name in ("open", "high", "vwap")] == [
        Decimal("0.000001"),
        Decimal("580.25"),
        Decimal("0.000003"),
    ]
    assert rows[1]["open"] is rows[1]["vwap"] is None
    assert (rows[2]["low"], rows[2]["volume"]) == (Decimal(10**14), 2**62)
    assert {key: value for key, value in table.schema.metadata.items() if b":" not in key} == {
        b"symbol": b"BRK.B",
        b"interval": b"1m",
        b"adjusted": b"true",
        b"synthetic_before": b"2024-03-31T15:30:20Z",
    }
    assert read(form, FORMATS[form].write(page([]))).num_rows == 0


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_page_gives_the_same_bytes(form: str) -> None:
    assert FORMATS[form].write(page(POINTS)) == FORMATS[form].write(page(list(POINTS)))


@pytest.mark.parametrize(
    ("wanted", "accept", "form"),
    [
        (None, None, "json"),
        (None, "*/*", "json"),
        (None, "text/html,application/xhtml+xml,*/*;q=0.8", "json"),
        (None, "text/csv", "csv"),
        (None, "text/*;q=0.5, application/vnd.apache.parquet;q=0.4", "csv"),
        (None, "application/json;q=0, */*", "csv"),
        (None, "APPLICATION/VND.APACHE.ARROW.STREAM", "arrow"),
        (None, "application/vnd.apache.parquet; q=1.0", "parquet"),
        ("csv", "application/json", "csv"),
    ],
)
def test_the_format_is_what_was_asked_for(wanted: str | None, accept: str | None, form: str) -> None:
    assert format_of(wanted, accept) is FORMATS[form]


@pytest.mark.parametrize(
    ("wanted", "accept", "code"),
    [("xml", None, "unknown_format"), ("", None, "unknown_format"), (None, "image/png", "format_not_acceptable")],
)
def test_a_format_we_do_not_have_is_refused(wanted: str | None, accept: str | None, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        format_of(wanted, accept)
    assert refused.value.code == code


@given(st.text(max_size=200))
def test_any_accept_header_is_answered_or_refused(accept: str) -> None:
    found: object
    try:
        found = format_of(None, accept)
    except Refusal as refused:
        found = refused.code
    assert found in (*FORMATS.values(), "format_not_acceptable")
