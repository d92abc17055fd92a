"""Tapes: what the synthetic one looks like, that its file replays as it was made, how a recorded one is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exchange_gateway.simulator.columns import Columns, Listing, Rows, rows_of
from exchange_gateway.simulator.synthetic import OPEN_NS, symbol_names, synthetic_day, volume_shares
from exchange_gateway.simulator.tape import TapeError, find_tape, main, recorded, synthetic, write_synthetic

SYMBOLS, ROWS = 500, 400_000


@cache
def day() -> Columns:
    """One synthetic day in one piece."""
    return joined(synthetic_day(SYMBOLS, ROWS, seed=1))


def joined(parts: Iterable[Columns]) -> Columns:
    listed = list(parts)
    arrays = {
        name: np.concatenate([getattr(p, name) for p in listed])
        for name in Columns.__slots__
        if name not in ("symbols", "venues")
    }
    return Columns(**arrays, symbols=listed[0].symbols, venues=listed[0].venues)


def all_rows(parts: Iterable[Columns]) -> Rows:
    pieces = [rows_of(p) for p in parts]
    return Rows(*(list(itertools.chain(*columns)) for columns in zip(*pieces, strict=True)))


class TestSyntheticDay:
    def test_rows_are_as_many_as_asked_in_time_order_within_the_day(self) -> None:
        assert len(day()) == ROWS
        assert (np.diff(day().ts_event) >= 0).all()
        assert day().ts_event[0] == OPEN_NS
        assert day().ts_event[-1] - OPEN_NS <= 6.5 * 3600 * 1e9

    def test_the_same_seed_gives_the_same_day_and_another_seed_another(self) -> None:
        again, other = (joined(synthetic_day(20, 20_000, seed)) for seed in (1, 2))
        first = joined(synthetic_day(20, 20_000, 1))
        assert (first.price_e4 == again.price_e4).all()
        assert (first.ts_event == again.ts_event).all()
        assert not (first.price_e4 == other.price_e4).all()

    def test_volume_is_skewed_as_in_the_real_market(self) -> None:
        dollars = np.bincount(day().symbol, day().price_e4.astype(float) * day().size, SYMBOLS)
        ranked = np.sort(dollars)[::-1].cumsum() / dollars.sum()
        assert ranked[4] == pytest.approx(0.41, abs=0.05)
        assert ranked[49] == pytest.approx(0.82, abs=0.04)
        assert volume_shares(SYMBOLS).sum() == pytest.approx(1)

    def test_activity_is_u_shaped_with_an_opening_burst(self) -> None:
        minute = (day().ts_event - OPEN_NS) // 60_000_000_000
        rows = np.bincount(minute, minlength=390)
        assert rows[0] > 2 * rows[5]
        first, noon, last = rows[:30].sum(), rows[180:210].sum(), rows[360:390].sum()
        assert 1.5 < first / noon < 3
        assert 2 < last / noon < 4
        per_ms = np.bincount((day().ts_event - OPEN_NS) // 1_000_000)
        assert per_ms[2000:-2000].max() > 5, "ticks come in bursts"

    def test_quotes_are_as_narrow_and_as_locked_as_real_ones(self) -> None:
        quotes = ~day().is_trade
        spread = (day().ask_e4 - day().bid_e4)[quotes] / 100
        assert quotes.mean() == pytest.approx(0.61, abs=0.02)
        assert (spread == 0).mean() == pytest.approx(0.04, abs=0.01)
        assert spread.min() == 0, "never crossed"
        price = day().bid_e4[quotes] / 10_000
        assert spread[price < 40].mean() < spread[price > 150].mean()
        assert (day().bid_sz[quotes] % 100 == 0).all()

    def test_prints_are_mostly_inside_the_quote_and_mostly_round_lots(self) -> None:
        rows = all_rows([day().cut(0, 100_000)])
        standing: dict[str, tuple[int, int]] = {}
        outside = trades = odd = 0
        for i, symbol in enumerate(rows.symbol):
            if rows.is_trade[i]:
                bid, ask = standing[symbol]
                trades += 1
                outside += not bid <= rows.price[i] <= ask
                odd += rows.size[i] < 100
                assert bool(rows.cond[i] & 0x8000_0000) == (rows.size[i] < 100)
            else:
                standing[symbol] = (rows.bid[i], rows.ask[i])
        assert 0.025 < outside / trades < 0.045
        assert 0.1 < odd / trades < 0.2

    def test_every_symbol_opens_trades_and_closes(self) -> None:
        assert set(day().symbol[:SYMBOLS]) == set(range(SYMBOLS))
        assert set(day().cond[-SYMBOLS:] & 0x80) == {0x80}
        assert set(day().symbol[day().is_trade]) == set(range(SYMBOLS))
        assert day().price_e4[day().is_trade].min() >= 100
        assert (day().price_e4 % 100 == 0).all(), "whole cents"

    @pytest.mark.parametrize(("symbols", "rows"), [(1, 1), (6, 3), (6, 35), (6, 36), (500, 700)])
    def test_small_days(self, symbols: int, rows: int) -> None:
        small = joined(synthetic_day(symbols, rows, 1))
        assert len(small) == rows
        assert (np.diff(small.ts_event) >= 0).all()

    def test_symbol_names_are_different(self) -> None:
        assert len(set(symbol_names(10_000))) == 10_000
        with pytest.raises(ValueError, match="symbols"):
            symbol_names(10_001)


class TestFiles:
    def test_a_written_day_is_replayed_as_it_was_made(self, tmp_path: Path) -> None:
        write_synthetic(tmp_path / "t.parquet", symbols=8, rows=10_000, seed=3)
        tape = recorded(tmp_path / "t.parquet", None, "09:30", 0)
        assert all_rows(tape.play()) == all_rows(synthetic_day(8, 10_000, 3))
        assert all_rows(tape.play()) == all_rows(tape.play())
        assert set(tape.listings) == set(symbol_names(8))

    def test_the_command_writes_the_columns_of_a_recorded_tape(self, tmp_path: Path) -> None:
        target = tmp_path / "t.parquet"
        main([str(target), "--symbols", "3", "--rows", "500", "--seed", "9"])
        table = pq.read_table(target)
        assert table.num_rows == 500
        assert table["seq"].to_pylist() == list(range(500))
        trade = next(r for r in table.to_pylist() if r["kind"] == "T")
        assert trade["bid_e4"] is None
        assert trade["price_e4"] % 100 == 0

    def test_start_and_length_of_a_pass(self, tmp_path: Path) -> None:
        write_synthetic(tmp_path / "t.parquet", symbols=8, rows=10_000, seed=3)
        tape = recorded(tmp_path / "t.parquet", None, "12:00", 700)
        rows = all_rows(tape.play())
        assert len(rows.ts_ns) == 700
        assert rows.ts_ns[0] >= OPEN_NS + 150 * 60_000_000_000
        everything = all_rows(synthetic_day(8, 10_000, 3)).ts_ns
        assert rows.ts_ns[0] == next(t for t in everything if t >= OPEN_NS + 150 * 60_000_000_000)
        assert len(all_rows(synthetic(8, 10_000, 3, rows_max=50).play()).ts_ns) == 50

    def test_names_and_previous_closes(self, tmp_path: Path) -> None:
        write_synthetic(tmp_path / "t.parquet", symbols=2, rows=1000, seed=3)
        one, two = sorted(symbol_names(2))
        (tmp_path / "instruments.csv").write_text(f"symbol,name\n{one},One Inc.\n")
        (tmp_path / "prior_close.csv").write_text(
            "symbol,session_date,prior_close_date,prior_close_unadjusted\n"
            f"{one},2013-10-08,2013-10-07,48.73\n{one},2013-10-09,2013-10-08,47.7\n"
        )
        tape = recorded(tmp_path / "t.parquet", tmp_path, "09:30", 0)
        rows = all_rows(tape.play())
        first = next(rows.price[i] for i, s in enumerate(rows.symbol) if s == two and rows.is_trade[i])
        assert tape.listings == {one: Listing("One Inc.", 48_730_000), two: Listing(two, first)}

    def test_what_cannot_be_played_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TapeError, match="no such file"):
            find_tape(str(tmp_path / "none.parquet"), [])
        assert find_tape("", [tmp_path]) is None
        garbage = tmp_path / "garbage.parquet"
        garbage.write_bytes(b"no parquet")
        with pytest.raises(TapeError, match="cannot be read"):
            recorded(garbage, None, "09:30", 0)
        pq.write_table(pa.table({"ts_event": [1]}), tmp_path / "other.parquet")
        with pytest.raises(TapeError, match="lacks the columns"):
            recorded(tmp_path / "other.parquet", None, "09:30", 0)
        write_synthetic(tmp_path / "t.parquet", symbols=2, rows=10, seed=3)
        with pytest.raises(TapeError, match="time of day"):
            recorded(tmp_path / "t.parquet", None, "half past nine", 0)
        with pytest.raises(TapeError, match="no ticks"):
            recorded(tmp_path / "t.parquet", None, "17:00", 0)
