"""What columns of ticks add up to: parts of days and of bars, in any order of the ticks. Pure."""

from __future__ import annotations

import numpy as np

from price_service.domain.bars import MINUTE_NS, Bar
from price_service.domain.conditions import prices_set
from price_service.domain.days import Day
from price_service.store.columns import Columns, Numbers, groups

_INT64_MAX = (1 << 63) - 1


def day_parts(columns: Columns) -> list[Day]:
    """For each of `columns.days`, a day that has taken these ticks alone; which numbers, is told by nobody here."""
    parts = [Day(symbol, session, 0) for symbol, session in columns.days]
    order = np.lexsort((columns.q, columns.day))
    found = groups(columns.day[order])
    newest = order[found.last]
    received = np.maximum.reduceat(columns.received_ms[order], found.first)
    rows = zip(found.common, columns.q[newest].tolist(), columns.t[newest].tolist(), received.tolist(), strict=True)
    for place, q, at_ns, received_ms in rows:
        part = parts[place]
        part.time_q, part.time_ns, part.received_ms = q, at_ns, received_ms
    _quotes(columns, parts)
    _trades(columns, parts)
    return parts


def _quotes(columns: Columns, parts: list[Day]) -> None:
    if not len(columns.quotes):
        return
    q, day = columns.q[columns.quotes], columns.day[columns.quotes]
    order = np.lexsort((q, day))
    found = groups(day[order])
    newest = order[found.last]
    fields = (column[newest].tolist() for column in (q, columns.b, columns.bz, columns.a, columns.az))
    for place, *values in zip(found.common, *fields, strict=True):
        part = parts[place]
        part.quote_q, part.bid, part.bid_size, part.ask, part.ask_size = values


def _trades(columns: Columns, parts: list[Day]) -> None:
    if not len(columns.trades):
        return
    q, day, sets = columns.q[columns.trades], columns.day[columns.trades], prices_set(columns.c)
    order = np.lexsort((q, day))
    found = groups(day[order])
    for place, volume in zip(found.common, np.add.reduceat(columns.z[order], found.first).tolist(), strict=True):
        parts[place].volume = volume
    silent = order[~sets[order]]
    found = groups(day[silent])
    newest = silent[found.last]
    fields = (column[newest].tolist() for column in (q, columns.p, columns.z))
    for place, *values in zip(found.common, *fields, strict=True):
        part = parts[place]
        part.print_q, part.print_price, part.print_size = values
    heard = order[sets[order]]
    if not len(heard):
        return
    found, prices = groups(day[heard]), columns.p[heard]
    newest, oldest = heard[found.last], heard[found.first]
    high, low = np.maximum.reduceat(prices, found.first), np.minimum.reduceat(prices, found.first)
    fields = (c[newest].tolist() for c in (q, columns.p, columns.z))
    more = (c[oldest].tolist() for c in (q, columns.p))
    for place, *values in zip(found.common, *fields, *more, high.tolist(), low.tolist(), strict=True):
        part = parts[place]
        part.price_q, part.price, part.size, part.open_q, part.open, part.high, part.low = values


def bar_parts(columns: Columns) -> list[Bar]:
    """A bar for each symbol and minute that has trades, and for each session once more where two share a minute."""
    if not len(columns.trades):
        return []
    t, q, day = (column[columns.trades] for column in (columns.t, columns.q, columns.day))
    minute = t // MINUTE_NS
    # Within a bar by (time, sequence); the session is the same for all of a day.
    order = np.lexsort((q, t, minute, day))
    days, minutes = day[order], minute[order]
    borders = np.flatnonzero((days[1:] != days[:-1]) | (minutes[1:] != minutes[:-1])) + 1
    first = np.concatenate(([0], borders))
    group = np.zeros(len(order), np.int64)
    group[borders] = 1
    group = np.cumsum(group)
    parts = [
        Bar(columns.days[place][0], at * MINUTE_NS)
        for place, at in zip(days[first].tolist(), minutes[first].tolist(), strict=True)
    ]
    size, notional = columns.z[order], _products(columns.p[order], columns.z[order])
    counts = np.diff(np.append(first, len(order)))
    sums = (np.add.reduceat(size, first), counts, np.add.reduceat(notional, first))
    for part, *values in zip(parts, *(column.tolist() for column in sums), strict=True):
        part.volume, part.trades, part.notional_micros = values
    _prices(columns, parts, order, group, t, q)
    return parts


def _prices(columns: Columns, parts: list[Bar], order: Numbers, group: Numbers, t: Numbers, q: Numbers) -> None:
    sets = prices_set(columns.c)[order]
    heard, found = order[sets], groups(group[sets])
    if not len(heard):
        return
    prices = columns.p[heard]
    high, low = np.maximum.reduceat(prices, found.first), np.minimum.reduceat(prices, found.first)
    session = columns.session[columns.trades]
    one = (column[heard[found.first]].tolist() for column in (columns.p, t, session, q))
    other = (column[heard[found.last]].tolist() for column in (columns.p, t, session, q))
    for place, *values in zip(found.common, *one, *other, high.tolist(), low.tolist(), strict=True):
        part = parts[place]
        part.open, part.first_ns, part.first_session, part.first_q = values[:4]
        part.close, part.last_ns, part.last_session, part.last_q = values[4:8]
        part.high, part.low = values[8:]


def _products(prices: Numbers, sizes: Numbers) -> Numbers:
    """Price × size, in Python's numbers of any length where 64 bits could not hold the sum of all."""
    if int(prices.max()) * int(sizes.max()) * len(prices) > _INT64_MAX:
        return prices.astype(object) * sizes.astype(object)  # type: ignore[no-any-return]
    return prices * sizes
