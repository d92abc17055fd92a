"""Histories and search results as JSON. Pure; prices are exact decimals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from price_service.domain import text
from price_service.domain.points import Found, Shown
from price_service.history.ranges import Chosen


class Page(NamedTuple):
    """One answer. `points` ascend; `following` is the cursor of the page before them in time, None when there is none.
    Bars before `synthetic_before_ns` were made up."""

    symbol: str
    chosen: Chosen
    adjusted: bool
    points: Sequence[Shown]
    following: str | None
    synthetic_before_ns: int | None


def history_json(page: Page) -> bytes:
    chosen, window = page.chosen, page.chosen.window
    listed = ",".join([_point(point) for point in page.points])
    synthetic = page.synthetic_before_ns
    return (
        f'{{"symbol":"{page.symbol}","timerange":{_text(chosen.timerange)},"interval":"{chosen.interval}",'
        f'"adjusted":{_truth(page.adjusted)},"from":"{text.iso_seconds(window.from_ns)}",'
        f'"to":"{text.iso_seconds(window.to_ns)}","truncated":{_truth(page.following is not None)},'
        f'"next":{_text(page.following)},'
        f'"syntheticBefore":{_text(None if synthetic is None else text.iso_seconds(synthetic))},"points":[{listed}]}}'
    ).encode()


def search_json(query: str, found: list[Found]) -> bytes:
    return msgspec.json.encode({"q": query, "results": [{"symbol": f.symbol, "name": f.name} for f in found]})


def _point(point: Shown) -> str:
    return (
        f'{{"time":"{text.iso_seconds(point.time_ns)}","open":{_price(point.open)},"high":{_price(point.high)},'
        f'"low":{_price(point.low)},"close":{_price(point.close)},"volume":{point.volume},"trades":{point.trades},'
        f'"vwap":{_price(point.vwap)}}}'
    )


def _price(micros: int | None) -> str:
    return "null" if micros is None else text.decimal(micros)


def _text(word: str | None) -> str:
    """Only for words that need no escape in JSON."""
    return "null" if word is None else f'"{word}"'


def _truth(value: bool) -> str:
    return "true" if value else "false"
