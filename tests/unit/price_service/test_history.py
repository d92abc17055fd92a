"""History and search as they are asked for and answered, on the twin of the store."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.clock import NS_PER_S, ManualClock
from infra.contracts import Instrument
from infra.direct import Answer, Asked
from infra.refusal import Refusal
from price_service.domain.bars import MINUTE_NS, Bar
from price_service.domain.points import Action
from price_service.history import actions
from price_service.history.routes import History
from price_service.store.memory import MemoryPrices
from price_service.store.records import StoreAway
from tests.unit.price_service.made import SESSION


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


NOW = ns("2024-03-31T15:30:20")


def minute(start_ns: int, price: int, symbol: str = "AAPL") -> Bar:
    return Bar(symbol, start_ns, price, price, price, price, 100, 1, price * 100)


class House:
    """The history of AAPL with a bar in each of the last `minutes` minutes, whose price in USD is its number."""

    def __init__(self, minutes: int = 30) -> None:
        self.store = MemoryPrices()
        self.clock = ManualClock(NOW)
        self.history = History(self.store, self.clock, 8)
        self.store._instruments = {s: Instrument(s, f"{s} Inc.", 10_000, 1, SESSION) for s in ("AAPL", "SPY")}
        self.store.bars["AAPL"] = {}
        self.first_ns = NOW - NOW % MINUTE_NS - minutes * MINUTE_NS
        for at in range(minutes):
            self.trade(at)

    def trade(self, at: int, price: int | None = None) -> None:
        start = self.first_ns + at * MINUTE_NS
        self.store.bars["AAPL"][start] = minute(start, (at + 1 if price is None else price) * 1_000_000)

    async def get(self, query: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.history.of("me", Asked(query, named, b""))

    async def points(self, query: str) -> list[dict[str, Any]]:
        answer = await self.get(query)
        assert answer.status == 200
        found: list[dict[str, Any]] = json.loads(answer.body)["points"]
        return found


@pytest.fixture
def house() -> House:
    return House()


async def test_points_of_a_range(house: House) -> None:
    found = json.loads((await house.get("symbol=aapl&timerange=1d&interval=15m")).body)
    assert (found["symbol"], found["timerange"], found["interval"]) == ("AAPL", "1d", "15m")
    assert [(p["time"], p["open"], p["close"], p["volume"]) for p in found["points"]] == [
        ("2024-03-31T15:00:00Z", 1.0, 15.0, 1500),
        ("2024-03-31T15:15:00Z", 16.0, 30.0, 1500),
    ]
    assert (found["truncated"], found["next"], found["syntheticBefore"]) == (False, None, None)
    some = await house.points("symbol=AAPL&from=2024-03-31T15:05:00Z&to=2024-03-31T15:08:00Z&interval=1m")
    assert [p["close"] for p in some] == [6.0, 7.0, 8.0]


async def test_a_listed_symbol_without_trades_has_an_empty_history(house: House) -> None:
    assert await house.points("symbol=SPY&timerange=max") == []


async def test_made_up_bars_are_said_to_be_made_up(house: House) -> None:
    house.store.synthetic_before_ns["AAPL"] = ns("2024-03-01T00:00:00")
    found = json.loads((await house.get("symbol=AAPL&timerange=1d")).body)
    assert found["syntheticBefore"] == "2024-03-01T00:00:00Z"


async def test_adjusted_prices(house: House) -> None:
    house.store.actions["AAPL"] = [Action(date(2024, 4, 1), "split", 1, 4)]
    query = "symbol=AAPL&timerange=1d&interval=1h"
    assert [p["close"] for p in await house.points(query)] == [30.0]
    assert [p["close"] for p in await house.points(query + "&adjusted=false")] == [30.0]
    (found,) = await house.points(query + "&adjusted=true")
    assert (found["close"], found["volume"], found["vwap"]) == (7.5, 12_000, 3.875)


async def test_a_long_history_is_paged_from_its_newest_points_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("price_service.history.routes.POINTS_MAX", 12)
    pages: list[list[float]] = []
    query, following = "symbol=AAPL&timerange=1d", ""
    for _ in range(3):
        answer = await house.get(query + following)
        found = json.loads(answer.body)
        pages.append([p["close"] for p in found["points"]])
        following = f"&cursor={found['next']}"
        assert found["truncated"] == (found["next"] is not None) == ("Link" in answer.headers)
        # What is traded meanwhile, and what time it becomes, is nothing to the pages that follow.
        house.clock.advance(3600)
        house.trade(60 + len(pages))
        if "Link" in answer.headers:
            target = answer.headers["Link"].removeprefix("</stockPrices?").removesuffix('>; rel="next"')
            assert target == f"symbol=AAPL&cursor={found['next']}"
            assert (await house.get(target)).body == (await house.get(query + following)).body
    assert pages == [[float(n) for n in range(a, b)] for a, b in ((19, 31), (7, 19), (1, 7))]


async def test_a_cursor_keeps_the_format(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("price_service.history.routes.POINTS_MAX", 20)
    answer = await house.get("symbol=AAPL&timerange=1d&format=csv")
    target = answer.headers["Link"].removeprefix("</stockPrices?").removesuffix('>; rel="next"')
    following = await house.get(target)
    assert following.body.count(b"\r\n") == 11
    assert "Link" not in following.headers


ROWS: dict[str, Callable[[bytes], int]] = {
    "json": lambda raw: len(json.loads(raw)["points"]),
    "csv": lambda raw: raw.count(b"\r\n") - 1,
    "parquet": lambda raw: int(pq.read_table(io.BytesIO(raw)).num_rows),
    "arrow": lambda raw: int(pa.ipc.open_stream(raw).read_all().num_rows),
}


@pytest.mark.parametrize(
    ("form", "media_type", "suffix"),
    [
        ("json", "application/json", None),
        ("csv", "text/csv; charset=utf-8; header=present", "csv"),
        ("parquet", "application/vnd.apache.parquet", "parquet"),
        ("arrow", "application/vnd.apache.arrow.stream", "arrows"),
    ],
)
async def test_formats(house: House, form: str, media_type: str, suffix: str | None) -> None:
    answer = await house.get(f"symbol=AAPL&timerange=1d&format={form}")
    assert answer.media_type == media_type
    disposition = None if suffix is None else f'attachment; filename="AAPL-1m.{suffix}"'
    assert answer.headers.get("Content-Disposition") == disposition
    accepted = await house.get("symbol=AAPL&timerange=1d", accept=media_type.split(";")[0])
    assert accepted == answer
    assert answer.headers["Vary"] == "Accept"
    assert ROWS[form](answer.body) == 30


async def test_an_unchanged_history_is_not_sent_twice(house: House) -> None:
    query = "symbol=AAPL&timerange=1d"
    first = await house.get(query)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    house.clock.advance(30)
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await house.get(query, if_none_match=held)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "private, no-cache"
    assert (await house.get(query, if_none_match='"other"')).status == 200
    assert (await house.get(query + "&format=csv", if_none_match=etag)).status == 200
    house.trade(29, 999)
    changed = await house.get(query, if_none_match=etag)
    assert changed.status == 200
    assert changed.headers["ETag"] != etag


async def test_a_range_long_past_may_be_kept_for_some_minutes(house: House) -> None:
    answer = await house.get("symbol=AAPL&from=2024-03-01&to=2024-03-05")
    assert answer.headers["Cache-Control"] == "private, max-age=300"


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
async def test_page_after_page_takes_no_more_memory(form: str) -> None:
    house = House(minutes=400)
    query = f"symbol=AAPL&timerange=1w&interval=1m&format={form}"
    tracemalloc.start()
    try:
        for _ in range(10):  # until the pool has all its threads
            await house.get(query)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        arrow_before = pa.total_allocated_bytes()
        for _ in range(10):
            await house.get(query)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Ten bodies of 8 to 20 kB and their 4,000 points would be ten times as much.
    assert after - before < 60_000
    assert pa.total_allocated_bytes() - arrow_before < 60_000


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("timerange=1d", "symbol_missing", "symbol"),
        ("symbols=AAPL&timerange=1d", "symbol_missing", "symbol"),
        ("symbol=&timerange=1d", "invalid_symbol", "symbol"),
        ("symbol=NOPE&timerange=1d", "unknown_symbol", "symbol"),
        ("symbol=AAPL&interval=1m", "timerange_missing", "timerange"),
        ("symbol=AAPL&timerange=", "unknown_timerange", "timerange"),
        ("symbol=AAPL&timerange=" + "9" * 10_000, "unknown_timerange", "timerange"),
        ("symbol=AAPL&timerange=1d&interval=2m", "unknown_interval", "interval"),
        ("symbol=AAPL&timerange=1d&adjusted=yes", "invalid_adjusted", "adjusted"),
        ("symbol=AAPL&timerange=1d&format=xml", "unknown_format", "format"),
        ("symbol=AAPL&cursor=x", "invalid_cursor", "cursor"),
        ("symbol=AAPL&from=1&to=2", "invalid_time", "from"),
        ("symbol=AAPL&timerange=1d&timerange=1d", "repeated_parameter", "timerange"),
        ("symbol=AAPL&timerange=1d&limit=1", "unknown_parameter", "limit"),
        ("symbol=AAPL&timerange=%FF", "parameter_not_text", "timerange"),
        ("symbol=AAPL&timerange=1d&" + "x" * 70_000, "query_too_long", None),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_its_field(
    house: House, query: str, code: str, field: str | None
) -> None:
    with pytest.raises(Refusal) as refused:
        await house.get(query)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.details["fix"]
    assert len(str(refused.value.details)) < 500


async def test_search_takes_any_text(house: House) -> None:
    answer = await house.history.search("me", "q=inc&limit=1")
    assert json.loads(answer.body) == {"q": "inc", "results": [{"symbol": "AAPL", "name": "AAPL Inc."}]}
    for text in ("%00", "%25", "%F0%9F%92%A9", "'%22;--"):
        assert json.loads((await house.history.search("me", f"q={text}")).body)["results"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "search_text_missing"),
        ("q=%20", "search_text_missing"),
        ("q=" + "x" * 65, "search_text_too_long"),
        *((f"q=a&limit={limit}", "invalid_limit") for limit in ("0", "51", "-1", "1e1", "9" * 5000, "", "٣")),
        ("q=a&q=b", "repeated_parameter"),
        ("q=a&page=2", "unknown_parameter"),
    ],
)
async def test_a_search_that_means_nothing_is_refused(house: House, query: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        await house.history.search("me", query)
    assert refused.value.code == code


async def test_a_store_that_is_away_is_said_so() -> None:
    class Away(MemoryPrices):
        async def points(self, *_: Any) -> Any:
            raise StoreAway("down")

        async def search(self, *_: Any) -> Any:
            raise StoreAway("down")

    history = History(Away(), ManualClock(NOW), 8)
    for asked in (history.of("me", Asked("symbol=AAPL&timerange=1d", {}, b"")), history.search("me", "q=a")):
        with pytest.raises(Refusal) as refused:
            await asked
        assert (refused.value.code, refused.value.details["retry_after_s"]) == ("price_store_unavailable", 1)


async def test_who_asks_for_too_much_at_once_is_refused_and_others_are_not() -> None:
    class Slow(MemoryPrices):
        """Answers once it is told to."""

        def __init__(self) -> None:
            super().__init__()
            self.go = asyncio.Event()

        async def search(self, *_: Any) -> Any:
            await self.go.wait()
            return []

    store = Slow()
    history = History(store, ManualClock(NOW), at_once_max=12)
    asked = [asyncio.create_task(history.search(f"caller {n % 5}", "q=a")) for n in range(30)]
    for _ in range(3):
        await asyncio.sleep(0)
    refused = [task.exception() for task in asked if task.done()]
    assert [error.code for error in refused if isinstance(error, Refusal)] == ["too_many_histories"] * 18
    store.go.set()
    await asyncio.wait(asked)
    assert sum(task.exception() is None for task in asked) == 12
    assert (await history.search("caller 0", "q=a")).status == 200
    store.go.clear()
    mine = [asyncio.create_task(history.search("me", "q=a")) for _ in range(4)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert [task.done() for task in mine] == [False, False, False, True]
    store.go.set()
    await asyncio.wait(mine)


HEADER = "symbol,ex_date,kind,price_numerator,price_denominator"


def test_a_file_of_corporate_actions() -> None:
    found = actions.parse([HEADER, "aapl,2020-08-31,split,1,4", "KO, 2024-06-14 ,dividend,199,200"])
    assert found == [
        ("AAPL", Action(date(2020, 8, 31), "split", 1, 4)),
        ("KO", Action(date(2024, 6, 14), "dividend", 199, 200)),
    ]
    assert actions.parse([HEADER]) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: the header"),
        (["symbol,date"], "line 1: the header"),
        ([HEADER, "AAPL,2020-08-31,split,1"], "line 2: 4 fields"),
        ([HEADER, "KO,2020-08-31,split,1,2", "A B,2020-08-31,split,1,4"], "line 3: invalid_symbol"),
        ([HEADER, "AAPL,31/08/2020,split,1,4"], "line 2: Invalid isoformat"),
        ([HEADER, "AAPL,1920-08-31,split,1,4"], "line 2: the date"),
        ([HEADER, "AAPL,2020-08-31,spinoff,1,4"], "line 2: the kind"),
        ([HEADER, "AAPL,2020-08-31,split,0,4"], "line 2: a ratio"),
        ([HEADER, "AAPL,2020-08-31,split,1.5,4"], "line 2: a ratio"),
        ([HEADER, "AAPL,2020-08-31,split,1,1001"], "line 2: the ratio of a split"),
        ([HEADER, "AAPL,2020-08-31,dividend,5,4"], "line 2: the ratio of a dividend"),
        ([HEADER, "A,2020-08-31,split,1,4", "a,2020-08-31,split,1,3"], "line 3: A has a split"),
    ],
)
def test_a_wrong_line_is_named(lines: list[str], said: str) -> None:
    with pytest.raises(actions.WrongLine, match=said):
        actions.parse(lines)


def test_the_loader_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "actions.csv"
    wrong.write_bytes(b"\xff\xfe")
    for arguments in ([], [str(tmp_path / "missing.csv")], [str(wrong)]):
        assert actions.main(arguments, {}) == actions.EXIT_WRONG_FILE
    assert "nothing was stored" in capsys.readouterr().err
