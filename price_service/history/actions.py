"""`python -m price_service.history.actions file.csv`: splits and dividends, for prices that are asked for adjusted.

The file is CSV with the header line `symbol,ex_date,kind,price_numerator,price_denominator`. Prices before `ex_date` (a
New York date) are shown times numerator / denominator: a 2-for-1 split is 1,2; a dividend of 0.50 USD after a close of
100 USD is 199,200. All lines are stored or none; a line of the same symbol, date and kind replaces the one before, so a
file may be loaded again.
"""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

from infra.db import engine
from infra.refusal import Refusal
from infra.settings import Infra, SettingsError, load
from price_service.domain.points import Action
from price_service.domain.symbols import symbol_of
from price_service.history.actions_pg import PgActions
from price_service.history.adjust import SPLIT
from price_service.store.records import StoreAway

HEADER = ["symbol", "ex_date", "kind", "price_numerator", "price_denominator"]
KINDS = (SPLIT, "dividend")
FIRST_DATE, LAST_DATE = date(1970, 1, 2), date(2100, 1, 1)
LINES_MAX = 100_000
# What a ratio is made of; how many times larger or smaller it makes a price; how many times smaller a dividend does.
TERM_MAX, SPLIT_TIMES_MAX, DIVIDEND_TIMES_MAX = 10**9, 1000, 100
EXIT_WRONG_FILE, EXIT_SETTINGS, EXIT_NO_STORE = 2, 3, 4


class WrongLine(Exception):
    """What is wrong with a line of the file, and which."""


def parse(lines: Iterable[str]) -> list[tuple[str, Action]]:
    """(symbol, action) of each line. Raises WrongLine for the first that cannot be stored."""
    rows = csv.reader(lines)
    if next(rows, None) != HEADER:
        raise WrongLine(f"line 1: the header must be {','.join(HEADER)}")
    found: dict[tuple[str, date, str], Action] = {}
    for row in rows:
        try:
            symbol, action = _action(row)
        except (ValueError, Refusal) as error:
            raise WrongLine(f"line {rows.line_num}: {error}") from None
        key = (symbol, action.ex_date, action.kind)
        if key in found:
            raise WrongLine(f"line {rows.line_num}: {symbol} has a {action.kind} on {action.ex_date} in a line before")
        found[key] = action
        if len(found) > LINES_MAX:
            raise WrongLine(f"line {rows.line_num}: more than {LINES_MAX} actions")
    return [(symbol, action) for (symbol, _, _), action in found.items()]


def _action(row: list[str]) -> tuple[str, Action]:
    if len(row) != len(HEADER):
        raise ValueError(f"{len(row)} fields instead of {len(HEADER)}")
    raw_symbol, raw_date, kind, *terms = (field.strip() for field in row)
    symbol, ex_date = symbol_of(raw_symbol, "symbol"), date.fromisoformat(raw_date)
    if not FIRST_DATE <= ex_date <= LAST_DATE:
        raise ValueError(f"the date {ex_date} is not between {FIRST_DATE} and {LAST_DATE}")
    if kind not in KINDS:
        raise ValueError(f"the kind must be {' or '.join(KINDS)}")
    numerator, denominator = (_term(term) for term in terms)
    if kind == SPLIT and max(numerator, denominator) > SPLIT_TIMES_MAX * min(numerator, denominator):
        raise ValueError(f"the ratio of a split must be between 1/{SPLIT_TIMES_MAX} and {SPLIT_TIMES_MAX}")
    if kind != SPLIT and not numerator <= denominator <= DIVIDEND_TIMES_MAX * numerator:
        raise ValueError(f"the ratio of a dividend must be between 1/{DIVIDEND_TIMES_MAX} and 1")
    return symbol, Action(ex_date, kind, numerator, denominator)


def _term(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(TERM_MAX)) and 1 <= int(text) <= TERM_MAX:
        return int(text)
    raise ValueError(f"a ratio is made of whole numbers from 1 to {TERM_MAX}")


async def keep(dsn: str, actions: list[tuple[str, Action]]) -> None:
    source = engine(dsn, "corporate-actions", connections_max=1)
    try:
        await PgActions(source).keep_actions(actions)
    finally:
        await source.dispose()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return EXIT_WRONG_FILE
    try:
        with Path(arguments[0]).open(encoding="utf-8-sig", newline="") as file:
            actions = parse(file)
        asyncio.run(keep(load(Infra, environ).dsn("prices"), actions))
    except (OSError, UnicodeDecodeError, csv.Error, WrongLine) as error:
        sys.stderr.write(f"nothing was stored: {arguments[0]}: {error}\n")
        return EXIT_WRONG_FILE
    except SettingsError as error:
        sys.stderr.write(f"nothing was stored: {error}\n")
        return EXIT_SETTINGS
    except StoreAway as error:
        sys.stderr.write(f"the price store does not answer: {error}\n")
        return EXIT_NO_STORE
    sys.stdout.write(f"{len(actions)} corporate actions stored\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
