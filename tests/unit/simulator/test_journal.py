"""The venue's memory: what was answered is there again after a restart, whatever the last write left behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.journal import Journal, JournalError
from exchange_gateway.simulator.journal_reader import read_all
from exchange_gateway.simulator.messages import Cancel, Numbered, Replace, VenueError
from exchange_gateway.simulator.venue import Venue
from infra.clock import ManualClock
from tests.unit.simulator.made import CENT, LISTED, NOW, SESSION, terms


class House:
    """A desk on a folder. `killed` leaves the folder as a SIGKILL would: nothing is closed in order."""

    def __init__(self, folder: Path, sessions_kept: int = 3, age_min_s: int = 0) -> None:
        self.journal = Journal(folder, sessions_kept, age_min_s)
        self.venue, self.drop_copy = Venue(), DropCopy()
        self.journal.restore(self.venue, self.drop_copy)
        self.sent: list[Numbered] = []
        self.desk = Desk(self.venue, self.drop_copy, self.journal, self.sent.extend, ManualClock(NOW))
        self.desk.end_broken_session(NOW)

    def open(self, session: int) -> House:
        self.desk.assign_session(session, session * 1_000_000_000)
        self.desk.open(LISTED, NOW)
        self.quote(999, 100, 1001, 100)
        return self

    def quote(self, bid: int, bid_size: int, ask: int, ask_size: int) -> None:
        made = self.venue.quote("AAA", bid * CENT, bid_size, ask * CENT, ask_size, NOW)
        if made:
            self.desk.market(made, NOW)

    def order(self, words: str, cl_ord_id: str) -> list[bytes] | VenueError:
        return self.desk.submit([terms(words, cl_ord_id)])[0]

    def killed(self) -> None:
        self.journal.close()


def remembered(house: House) -> tuple[object, ...]:
    """Everything that a client can ask for."""
    venue = house.venue
    orders = [(o.state(), o.reports, o.ids, o.stamp) for o in venue.page(0, 10_000)]
    return orders, venue.executions_page(0, 10_000), house.drop_copy.read(0, 10_000), venue.last_n, venue.last_number


def trade_a_while(house: House) -> None:
    house.order("BUY 200 @ 1001", "day")
    house.order("BUY 10 @ 1000 GTC", "gtc")
    house.order("SELL 20 @ 1000", "hit")
    house.desk.replace("gtc", Replace(cl_ord_id="gtc-2", quantity=40, limit_micros=None))
    house.desk.cancel("hit", Cancel(cl_ord_id="hit-2"))
    house.desk.cancel("never", Cancel(cl_ord_id="x"))
    house.order("BUY 1 MARKET", "refused-or-not")
    house.quote(998, 5, 1001, 30)


def test_everything_is_there_again(tmp_path: Path) -> None:
    first = House(tmp_path).open(SESSION)
    trade_a_while(first)
    before = remembered(first)
    first.killed()
    again = Journal(tmp_path, 3, 0)
    venue, drop_copy = Venue(), DropCopy()
    again.restore(venue, drop_copy)
    second = House.__new__(House)
    second.venue, second.drop_copy = venue, drop_copy
    assert remembered(second) == before
    assert venue.session == SESSION
    again.close()


def test_after_a_crash_day_orders_expire_gtc_orders_rest_and_ids_stay_used(tmp_path: Path) -> None:
    first = House(tmp_path).open(SESSION)
    trade_a_while(first)
    last = first.drop_copy.last_n
    first.killed()
    second = House(tmp_path)
    _, told = second.drop_copy.read(last, 100)
    assert len(told) == 1
    assert '"exec_type":"EXPIRED"' in told[0]
    assert f'"exec_id":"{SESSION}-{last + 1}"' in told[0]
    second.open(SESSION + 1)
    answer = second.order("SELL 40 @ 1000 IOC", "seller")
    assert isinstance(answer, list)
    assert b'"last_micros":10000000' in answer[1]
    refused = second.order("BUY 1 @ 1000", "hit-2")
    assert isinstance(refused, VenueError)
    assert refused.code == "duplicate_cl_ord_id"


def test_a_venue_that_was_ended_between_two_starts_remembers_its_session(tmp_path: Path) -> None:
    House(tmp_path).open(SESSION).killed()
    second = House(tmp_path)
    assert second.venue.session == SESSION
    with pytest.raises(AssertionError):
        second.desk.assign_session(SESSION, NOW)


def test_cut_at_any_byte_the_rest_is_a_consistent_prefix(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    house = House(folder).open(SESSION)
    trade_a_while(house)
    house.killed()
    path = folder / f"{SESSION}.jsonl"
    data = path.read_bytes()
    _, frames = house.drop_copy.read(0, 1000)
    for cut in {*range(0, len(data), 97), *(i + d for i, b in enumerate(data) if b == 10 for d in (0, 1, 2))}:
        torn = tmp_path / f"cut-{cut}"
        torn.mkdir()
        (torn / path.name).write_bytes(data[:cut])
        journal, venue, drop_copy = Journal(torn, 3, 0), Venue(), DropCopy()
        journal.restore(venue, drop_copy)
        _, kept = drop_copy.read(0, 1000)
        assert kept == frames[: len(kept)]
        for order in venue.page(0, 1000):
            assert [n for n, _ in order.reports] == sorted(n for n, _ in order.reports)
            assert order.venue_seq == len(order.reports)
            assert order.status is not None
        journal.close()


def test_old_sessions_are_dropped_and_what_lives_is_carried_over(tmp_path: Path) -> None:
    house = House(tmp_path, sessions_kept=2).open(SESSION)
    house.order("BUY 10 @ 990 GTC", "gtc")
    house.order("BUY 10 @ 1001", "ended")
    for n in range(1, 5):
        house.desk.close(NOW)
        house.open(SESSION + n)
        house.order("BUY 1 @ 1001", f"filled-{n}")
        if n == 3:
            house.desk.replace("gtc", Replace(cl_ord_id="gtc-2", quantity=8, limit_micros=None))
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == [f"{SESSION + 3}.jsonl", f"{SESSION + 4}.jsonl"]
    assert house.venue.find("ended") is None
    assert {o.cl_ord_id for o in house.venue.page(0, 100)} == {"gtc-2", "filled-3", "filled-4"}
    before = remembered(house)
    _, frames = house.drop_copy.read(0, 1)
    assert frames[0].startswith('{"gap":{"from":1,"to":')
    house.killed()
    assert remembered(House(tmp_path, sessions_kept=2)) == before


def test_young_sessions_are_kept_however_many(tmp_path: Path) -> None:
    house = House(tmp_path, sessions_kept=1, age_min_s=10).open(SESSION)
    for second in range(1, 21):
        house.desk.close(NOW)
        house.open(SESSION + second)
    assert len(list(tmp_path.glob("*.jsonl"))) == 11
    house.killed()


def test_a_crash_while_a_segment_begins_loses_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, sessions_kept=1).open(SESSION)
    house.order("BUY 10 @ 990 GTC", "gtc")
    house.desk.close(NOW)
    house.killed()
    old = (tmp_path / f"{SESSION}.jsonl").read_bytes()
    again = House(tmp_path, sessions_kept=1).open(SESSION + 1)
    before = remembered(again)
    again.killed()
    new = tmp_path / f"{SESSION + 1}.jsonl"
    begun = new.read_bytes()
    for cut in (0, 5, begun.index(b"\n") + 1, begun.index(b"\n") + 20):
        (tmp_path / f"{SESSION}.jsonl").write_bytes(old)
        new.write_bytes(begun[:cut])
        back = House(tmp_path, sessions_kept=1)
        assert remembered(back)[:2] == before[:2], "the drop copy may reach back further than before"
        back.killed()


def test_damage_in_the_middle_is_told_with_the_file(tmp_path: Path) -> None:
    house = House(tmp_path).open(SESSION)
    house.order("BUY 10 @ 990", "a")
    house.killed()
    path = tmp_path / f"{SESSION}.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"submit"', b'"kind":"sub'))
    with pytest.raises(JournalError, match=path.name):
        House(tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    house = House(tmp_path)
    with pytest.raises(JournalError, match="in use"):
        House(tmp_path)
    house.killed()
    House(tmp_path).killed()


def test_after_a_failed_write_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path).open(SESSION)

    def half(_: int, data: bytes) -> int:
        return len(data) // 2

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(JournalError, match="full"):
        house.order("BUY 10 @ 990", "a")
    monkeypatch.undo()
    with pytest.raises(VenueError) as refused:
        house.order("BUY 10 @ 990", "b")
    assert refused.value.status == 503
    assert not house.sent, "what is not recorded is not told"


def test_a_batch_is_one_write_and_every_order_has_its_own_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path).open(SESSION)
    writes: list[int] = []
    write = os.write

    def counted(file: int, data: bytes) -> int:
        writes.append(len(data))
        return write(file, data)

    monkeypatch.setattr(os, "write", counted)
    unreadable = VenueError(400, "malformed", "no")
    answers: Sequence[list[bytes] | VenueError] = house.desk.submit(
        [terms("BUY 1 @ 990", "a"), unreadable, terms("BUY 1 @ 990", "a"), terms("BUY 1 @ 1001", "b")]
    )
    assert len(writes) == 1
    assert [a.code if isinstance(a, VenueError) else len(a) for a in answers] == [
        1,
        "malformed",
        "duplicate_cl_ord_id",
        2,
    ]


def life_of(house: House) -> list[str]:
    return [numbered.report.exec_id for numbered in house.sent]


def test_a_venue_that_forgets_keeps_its_journal_aside_and_never_a_session_twice(tmp_path: Path) -> None:
    first = House(tmp_path).open(SESSION)
    trade_a_while(first)
    first.desk.forget()
    assert first.desk.venue.total() == first.desk.drop_copy.last_n == 0
    with pytest.raises(AssertionError):
        first.desk.assign_session(SESSION, NOW)
    first.venue = first.desk.venue
    first.open(SESSION + 1)
    assert isinstance(first.order("BUY 5 @ 1001", "day"), list), "the ClOrdID is free again"
    first.killed()
    assert (tmp_path / f"forgotten-{SESSION}" / f"{SESSION}.jsonl").exists()
    second = House(tmp_path)
    assert second.venue.session == SESSION + 1
    assert second.venue.total() == 1
    assert [r.exec_id for entry in read_all(tmp_path) for r in entry.reports] == life_of(first)
    second.killed()


def test_killed_while_it_forgets_the_venue_has_forgotten(tmp_path: Path) -> None:
    house = House(tmp_path).open(SESSION)
    trade_a_while(house)
    house.desk.close(NOW)
    house.open(SESSION + 1)
    house.killed()
    aside = tmp_path / f"forgotten-{SESSION + 1}"
    aside.mkdir()
    (tmp_path / f"{SESSION}.jsonl").rename(aside / f"{SESSION}.jsonl")
    second = House(tmp_path)
    assert second.venue.total() == 0
    assert second.venue.session == SESSION + 1
    assert sorted(path.name for path in aside.iterdir()) == [f"{SESSION}.jsonl", f"{SESSION + 1}.jsonl"]
    second.killed()


def test_a_checker_reads_every_report_once_also_of_carried_orders(tmp_path: Path) -> None:
    house = House(tmp_path, sessions_kept=1).open(SESSION)
    house.order("BUY 10 @ 990 GTC", "gtc")
    house.desk.close(NOW)
    house.open(SESSION + 1)
    house.desk.cancel("gtc", Cancel(cl_ord_id="out"))
    found = list(read_all(tmp_path))
    assert [entry.kind for entry in found] == ["carried", "open", "cancel"]
    assert [entry.terms is not None for entry in found] == [True, False, False]
    assert [r.exec_type for entry in found for r in entry.reports] == ["NEW", "CANCELED"]
    house.killed()


def test_busts_corrections_and_strays_are_there_again(tmp_path: Path) -> None:
    first = House(tmp_path).open(SESSION)
    first.order("BUY 60 @ 1001", "a")
    first.order("BUY 60 @ 1001", "b")
    fills = [n.report.exec_id for n in first.sent if n.report.exec_type == "TRADE"]
    first.desk.bust(fills[0])
    first.desk.correct(fills[1], 30, 1001 * CENT)
    first.desk.overfill("a", 2, 1001 * CENT)
    first.desk.stray(terms("SELL 7 MARKET", "stray"), 1001 * CENT)
    first.desk.halt("AAA")
    before = remembered(first)
    first.killed()
    journal, venue, drop_copy = Journal(tmp_path, 3, 0), Venue(), DropCopy()
    journal.restore(venue, drop_copy)
    again = House.__new__(House)
    again.venue, again.drop_copy = venue, drop_copy
    assert remembered(again) == before
    journal.close()


def test_before_its_first_session_nothing_is_taken_and_nothing_recorded(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.desk.assign_session(SESSION, NOW)
    with pytest.raises(VenueError) as refused:
        house.order("BUY 10 @ 990", "a")
    assert (refused.value.status, refused.value.code) == (503, "unavailable")
    assert house.venue.find("a") is None
    house.killed()
