"""A synthetic trading day from a seed, for machines without recorded data. It reproduces the statistics that matter:

U-shaped activity with an opening burst and bursts of milliseconds, a skew over symbols like the real one (top 1 % make
41 % of dollar volume, top 10 % make 82 %), spreads that grow with the price, about 4 % locked quotes, 3-4 % of prints
outside the spread, 15 % odd lots. Made in chunks; the same seed gives the same day, chunk size included.

Prices walk in floating point cents *before* they exist; every price that leaves is a whole number of cents.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from exchange_gateway.simulator.columns import Columns, Ints, Listing

Floats = NDArray[np.float64]

OPEN = datetime.datetime(2013, 10, 8, 9, 30, tzinfo=ZoneInfo("America/New_York"))
OPEN_NS = int(OPEN.timestamp()) * 1_000_000_000
DAY_MINUTES = 390
NS_PER_MS = 1_000_000
CHUNK_ROWS = 4096
SYMBOLS_MAX = 10_000
E4_PER_CENT = 100
CENTS_MICROS = 10_000

# Condition flag bits, as in the recorded tape.
REGULAR, ISO, OPENING, CLOSING, ODD_LOT = 0x1, 0x20, 0x40, 0x80, 0x8000_0000

# Thousands of rows per half hour of a recorded day (six symbols), 09:30 to 16:00.
_HALF_HOURS = (164, 135, 115, 105, 98, 90, 83, 83, 88, 97, 110, 135, 227)
# Share of dollar volume made by the most traded share of symbols.
_SKEW_SYMBOLS, _SKEW_VOLUME = (0.002, 0.01, 0.1, 1.0), (0.16, 0.41, 0.82, 1.0)
_VENUES = ["", "D", "Q", "P", "N", "B", "K", "Z", "X", "J", "Y"]  # places 1 on; 0 is "none"
_VENUE_SHARES = (0.30, 0.22, 0.16, 0.12, 0.06, 0.05, 0.04, 0.02, 0.02, 0.01)
_QUOTE_SHARE, _LOCKED_SHARE, _OUTSIDE_SHARE, _ODD_LOT_SHARE, _ISO_SHARE = 0.61, 0.04, 0.035, 0.15, 0.4
_DAY_VOLATILITY = 0.015
_AUCTION_SHARE = 0.05
_SPREAD_BPS = 1.5
_QUOTE_LOTS = 3.0  # median size of a quote
# The most traded symbols bear names that people try first, at prices (cents) of the recorded day.
WELL_KNOWN = {"SPY": 166_00, "AAPL": 580_00, "BAC": 13_90, "IBM": 180_00, "GOOG": 570_00, "AIG": 48_50}


def symbol_names(count: int) -> list[str]:
    """The well-known ones, then pronounceable four-letter symbols; the same for every seed."""
    if not 1 <= count <= SYMBOLS_MAX:
        raise ValueError(f"between 1 and {SYMBOLS_MAX} symbols")
    known = list(WELL_KNOWN)[:count]
    syllables = [a + b for a in "BCDFGHJKLMNPRSTVWXYZ" for b in "AEIOU"]
    places = [(i * 7919) % SYMBOLS_MAX for i in range(count - len(known))]
    return known + [syllables[p // 100] + syllables[p % 100] for p in places]


def volume_shares(count: int) -> Floats:
    """Each symbol's share of dollar volume, the greatest first."""
    edges = np.arange(count + 1) / count
    made = np.interp(np.log(np.maximum(edges, 1e-9)), np.log(_SKEW_SYMBOLS), _SKEW_VOLUME)
    made[0] = 0.0
    shares: Floats = np.maximum(np.diff(made), 1e-9)
    shares /= shares.sum()
    return shares


@dataclass(slots=True)
class _Market:
    """Where every symbol stands between two chunks. Prices in cents."""

    random: np.random.Generator
    names: list[str]
    rows: int
    mid: Floats
    bid: Ints
    ask: Ints
    trade_cdf: Floats = field(init=False)
    quote_cdf: Floats = field(init=False)
    sigma: Floats = field(init=False)

    def __post_init__(self) -> None:
        trades = volume_shares(len(self.names)) / self.mid
        trades /= trades.sum()
        quotes = trades**0.7
        quotes /= quotes.sum()
        self.trade_cdf, self.quote_cdf = trades.cumsum(), quotes.cumsum()
        quotes_a_day = np.maximum(quotes * self.rows * _QUOTE_SHARE, 50)
        self.sigma = self.mid * _DAY_VOLATILITY / np.sqrt(quotes_a_day)


def _opened(symbols: int, rows: int, seed: int) -> _Market:
    random = np.random.default_rng(seed)
    mid = np.clip(np.exp(random.normal(np.log(5000), 0.7, symbols)), 800, 60_000)
    known = list(WELL_KNOWN.values())[:symbols]
    mid[: len(known)] = known
    spread = _spreads(random, mid)
    bid = np.floor(mid - spread / 2).astype(np.int64)
    return _Market(random, symbol_names(symbols), rows, mid, bid, bid + spread)


def listings(symbols: int, rows: int, seed: int) -> dict[str, Listing]:
    """Names, and previous closes near the first prices."""
    market = _opened(symbols, rows, seed)
    closes = (market.bid * CENTS_MICROS).tolist()
    return {
        name: Listing(f"{name.capitalize()} Industries (synthetic)", close)
        for name, close in zip(market.names, closes, strict=True)
    }


def synthetic_day(symbols: int, rows: int, seed: int) -> Iterator[Columns]:
    """`rows` rows: every symbol's opening quote and print, the day, closing prints (these three when there is room)."""
    market = _opened(symbols, rows, seed)
    auctions = rows >= 6 * symbols
    ends = 3 * symbols if auctions else min(symbols, rows)
    body = rows - ends
    yield _opening_quotes(market, min(symbols, rows))
    if auctions:
        yield _auction(market, OPEN_NS + 1000 * NS_PER_MS, OPENING)
    for start in range(0, body, CHUNK_ROWS):
        count = min(CHUNK_ROWS, body - start)
        yield _chunk(market, start / body, (start + count) / body, count)
    if auctions:
        yield _auction(market, OPEN_NS + DAY_MINUTES * 60_000 * NS_PER_MS, CLOSING)


def _opening_quotes(market: _Market, count: int) -> Columns:
    zeros = np.zeros(count, np.int64)
    sizes = _lots(market.random, 2 * count, _QUOTE_LOTS)
    return Columns(
        ts_event=OPEN_NS + np.arange(count) * 1000 // max(count, 1) * NS_PER_MS,
        symbol=np.arange(count),
        is_trade=np.zeros(count, np.bool_),
        price_e4=zeros,
        size=zeros,
        exch=zeros,
        cond=zeros,
        bid_e4=market.bid[:count] * E4_PER_CENT,
        bid_sz=sizes[:count],
        ask_e4=market.ask[:count] * E4_PER_CENT,
        ask_sz=sizes[count:],
        symbols=market.names,
        venues=_VENUES,
    )


def _auction(market: _Market, at_ns: int, cond: int) -> Columns:
    """One print per symbol at its bid, as large as some hundredths of its day."""
    count = len(market.names)
    trades = np.diff(market.trade_cdf, prepend=0.0) * market.rows * (1 - _QUOTE_SHARE)
    zeros = np.zeros(count, np.int64)
    return Columns(
        ts_event=np.full(count, at_ns),
        symbol=np.arange(count),
        is_trade=np.ones(count, np.bool_),
        price_e4=market.bid * E4_PER_CENT,
        size=100 * np.maximum(1, np.rint(trades * _AUCTION_SHARE)).astype(np.int64),
        exch=np.full(count, _VENUES.index("N")),
        cond=np.full(count, REGULAR | cond),
        bid_e4=zeros,
        bid_sz=zeros,
        ask_e4=zeros,
        ask_sz=zeros,
        symbols=market.names,
        venues=_VENUES,
    )


def _chunk(market: _Market, day_from: float, day_to: float, count: int) -> Columns:
    """`count` rows of the day between two quantiles of its activity."""
    random = market.random
    is_quote = random.random(count) < _QUOTE_SHARE
    drawn = random.random(count)
    cdfs = np.where(is_quote, np.searchsorted(market.quote_cdf, drawn), np.searchsorted(market.trade_cdf, drawn))
    symbol = np.minimum(cdfs, len(market.names) - 1)
    bid, ask = _walk(market, symbol, is_quote)
    price, size, cond = _prints(random, bid, ask)
    sizes = _lots(random, 2 * count, _QUOTE_LOTS)
    venue = np.searchsorted(np.cumsum(_VENUE_SHARES), random.random(count) * sum(_VENUE_SHARES)) + 1
    is_trade = ~is_quote
    return Columns(
        ts_event=_times(random, day_from, day_to, count),
        symbol=symbol,
        is_trade=is_trade,
        price_e4=np.where(is_trade, price * E4_PER_CENT, 0),
        size=np.where(is_trade, size, 0),
        exch=np.where(is_trade, np.minimum(venue, len(_VENUES) - 1), 0),
        cond=np.where(is_trade, cond, 0),
        bid_e4=np.where(is_quote, bid * E4_PER_CENT, 0),
        bid_sz=np.where(is_quote, sizes[:count], 0),
        ask_e4=np.where(is_quote, ask * E4_PER_CENT, 0),
        ask_sz=np.where(is_quote, sizes[count:], 0),
        symbols=market.names,
        venues=_VENUES,
    )


def _walk(market: _Market, symbol: Ints, is_quote: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Bid and ask standing at each row, in cents. A quote moves its symbol's mid; a trade sees the quote before it."""
    count = len(symbol)
    order = np.argsort(symbol, kind="stable")
    grouped, quoted = symbol[order], is_quote[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, count]))
    lasts = np.r_[starts[1:], count] - 1

    steps = market.random.standard_normal(count) * market.sigma[grouped] * quoted
    walked = steps.cumsum()
    before = (walked - steps)[starts]
    mid = np.maximum(market.mid[grouped] + walked - before[group], 100.0)
    market.mid[grouped[lasts]] = mid[lasts]

    spread = _spreads(market.random, mid)
    new_bid = np.floor(mid - spread / 2).astype(np.int64)
    new_ask = new_bid + spread
    latest = np.maximum.accumulate(np.where(quoted, np.arange(count), -1))
    here = latest >= starts[group]
    bid = np.where(here, new_bid[latest], market.bid[grouped])
    ask = np.where(here, new_ask[latest], market.ask[grouped])
    market.bid[grouped[lasts]], market.ask[grouped[lasts]] = bid[lasts], ask[lasts]

    back = np.empty(count, np.int64)
    back[order] = np.arange(count)
    return bid[back], ask[back]


def _spreads(random: np.random.Generator, mid: Floats) -> Ints:
    """Whole cents: one, or some basis points of the price, sometimes wider; 0 when the market is locked."""
    wide = np.maximum(1, np.rint(mid * _SPREAD_BPS / 10_000)).astype(np.int64) + random.geometric(0.7, len(mid)) - 1
    spreads: Ints = np.where(random.random(len(mid)) < _LOCKED_SHARE, 0, wide)
    return spreads


def _prints(random: np.random.Generator, bid: Ints, ask: Ints) -> tuple[Ints, Ints, Ints]:
    """Price in cents, size and condition of a trade at each row."""
    count = len(bid)
    bought = random.random(count) < 0.5
    outside = (random.random(count) < _OUTSIDE_SHARE) * random.integers(1, 4, count)
    price = np.maximum(np.where(bought, ask + outside, bid - outside), 1)
    odd = random.random(count) < _ODD_LOT_SHARE
    size = np.where(odd, random.integers(1, 100, count), _lots(random, count))
    cond = np.where(random.random(count) < _ISO_SHARE, ISO, 0) | np.where(odd, ODD_LOT, REGULAR)
    return price, size, cond


def _lots(random: np.random.Generator, count: int, median: float = 1.0) -> Ints:
    """Round lots with a long tail; half of them have at most `median` lots."""
    lots = np.ceil(random.lognormal(np.log(median), 0.9, count))
    sizes: Ints = 100 * lots.astype(np.int64)
    return sizes


def _times(random: np.random.Generator, day_from: float, day_to: float, count: int) -> Ints:
    """Rising times in whole milliseconds. Gamma gaps of shape 0.25 make the bursts of a real feed."""
    gaps = random.gamma(0.25, 1.0, count)
    share = day_from + (day_to - day_from) * gaps.cumsum() / max(gaps.sum(), 1e-12)
    minutes, cdf = _activity()
    millis = 1000 + np.minimum(np.interp(share, cdf, minutes) * 60_000, DAY_MINUTES * 60_000 - 1000)
    times: Ints = OPEN_NS + millis.astype(np.int64) * NS_PER_MS
    return times


def _activity() -> tuple[Floats, Floats]:
    """Minutes since the open, and the share of the day's rows before each."""
    weights = np.interp(np.arange(DAY_MINUTES) / 30, np.arange(13) + 0.5, _HALF_HOURS)
    weights[:3] *= (4.0, 2.0, 1.5)
    weights[-1] *= 2.0
    cdf = np.r_[0.0, weights.cumsum()]
    return np.arange(DAY_MINUTES + 1, dtype=np.float64), cdf / cdf[-1]
