"""Histories and search results as JSON. Pure; prices are exact decimals."""

from __future__ import annotations

import msgspec

from price_service.domain import text
from price_service.domain.points import Found, Point
from price_service.history.ranges import Chosen


def history_json(symbol: str, chosen: Chosen, points: list[Point], truncated: bool) -> bytes:
    """`truncated`: the range has older points than these."""
    listed = ",".join(_point(point) for point in points)
    return (
        f'{{"symbol":"{symbol}","timerange":"{chosen.timerange}","interval":"{chosen.interval}",'
        f'"truncated":{"true" if truncated else "false"},"points":[{listed}]}}'
    ).encode()


def search_json(query: str, found: list[Found]) -> bytes:
    return msgspec.json.encode({"q": query, "results": [{"symbol": f.symbol, "name": f.name} for f in found]})


def _point(point: Point) -> str:
    return (
        f'{{"time":"{text.iso_seconds(point.time_ns)}","open":{_price(point.open)},"high":{_price(point.high)},'
        f'"low":{_price(point.low)},"close":{_price(point.close)},"volume":{point.volume},"trades":{point.trades},'
        f'"vwap":{_price(point.vwap_micros)}}}'
    )


def _price(micros: int | None) -> str:
    return "null" if micros is None else text.decimal(micros)
