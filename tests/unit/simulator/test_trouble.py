"""What befalls fills and reports on their way. Prices in cents; the book stands at 999 bid 1000 / 1001 ask 1000."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

import msgspec
import pytest

from exchange_gateway.simulator.chaos import Chaos, Rule
from exchange_gateway.simulator.desk import Desk
from exchange_gateway.simulator.drop_copy import DropCopy
from exchange_gateway.simulator.messages import Numbered, Report
from exchange_gateway.simulator.trouble import Levers, Trouble, through
from exchange_gateway.simulator.venue import Venue
from infra.clock import ManualClock
from tests.unit.simulator.made import CENT, LISTED, NOW, SESSION, brief, terms


class Troubled:
    """A desk on which rules are in force, what its webhooks would say, and the levers that were pulled."""

    def __init__(self, *rules: Rule) -> None:
        self.sent: list[Numbered] = []
        self.pulled: list[str] = []
        self.waiting: list[tuple[float, int, Callable[[], object]]] = []
        self.order_of_waiting = itertools.count()
        self.desk = Desk(Venue(), DropCopy(), None, self.sent.extend, ManualClock(NOW))
        self.chaos = Chaos(Random(1), ManualClock(), rules)
        levers = Levers(
            halt=self.desk.halt,
            resume=self.desk.resume,
            disconnect=lambda: self.pulled.append("disconnect"),
            forget=lambda seconds: self.pulled.append(f"forget {seconds}"),
        )
        self.trouble = Trouble(self.chaos, self.desk, levers, self.later, self.sent.extend)
        self.desk.notify = self.trouble.recorded
        self.desk.assign_session(SESSION, NOW)
        self.desk.open(LISTED, NOW)
        self.desk.venue.quote("AAA", 999 * CENT, 1000, 1001 * CENT, 1000, NOW)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self.waiting, (seconds, next(self.order_of_waiting), act))

    def wait(self) -> None:
        while self.waiting:
            heapq.heappop(self.waiting)[2]()

    def order(self, words: str, cl_ord_id: str) -> None:
        assert self.trouble.before("submit", ["AAA"])
        assert isinstance(self.desk.submit([terms(words, cl_ord_id)])[0], list)

    def webhooks(self) -> list[str]:
        return brief([numbered.report for numbered in self.sent])

    def drop_copy(self) -> list[str]:
        frames = self.desk.drop_copy.read(0, 1000)[1]
        return brief([msgspec.json.decode(msgspec.json.decode(f, type=_Frame).report, type=Report) for f in frames])


class _Frame(msgspec.Struct):
    report: msgspec.Raw


def test_duplicate_report() -> None:
    made = Troubled(Rule(kind="duplicate_report", every=2))
    made.order("BUY 10 @ 1001", "a")
    assert made.webhooks() == ["NEW a", "TRADE a 10@1001", "TRADE a 10@1001"]
    assert made.sent[1] == made.sent[2]
    assert made.drop_copy() == ["NEW a", "TRADE a 10@1001"]


def test_reordered_reports() -> None:
    made = Troubled(Rule(kind="reordered_reports", count=1))
    made.order("BUY 10 @ 1001", "a")
    assert made.webhooks() == ["TRADE a 10@1001", "NEW a"]
    made.wait()
    assert len(made.sent) == 2, "it is sent once"


def test_a_held_report_goes_out_although_no_other_follows() -> None:
    made = Troubled(Rule(kind="reordered_reports"))
    made.order("BUY 10 @ 990", "a")
    assert made.webhooks() == []
    made.wait()
    assert made.webhooks() == ["NEW a"]


def test_missing_webhook() -> None:
    made = Troubled(Rule(kind="missing_webhook", every=2))
    made.order("BUY 10 @ 1001", "a")
    assert made.webhooks() == ["NEW a"]
    assert made.drop_copy() == ["NEW a", "TRADE a 10@1001"], "the truth stays in the drop copy"


def test_wrong_quantity() -> None:
    made = Troubled(Rule(kind="wrong_quantity", quantity=3))
    made.order("BUY 10 @ 1001", "a")
    assert made.webhooks() == ["NEW a", "TRADE a 10@1001", "TRADE a 13@1001"]
    right, wrong = (numbered.report for numbered in made.sent[1:])
    assert right.exec_id == wrong.exec_id
    assert b'"last_qty":13' in made.sent[2].body
    assert made.drop_copy() == ["NEW a", "TRADE a 10@1001"]


def test_missing_frame() -> None:
    chaos = Chaos(Random(1), ManualClock(), [Rule(kind="missing_frame", every=2)])
    assert through(chaos, ["1", "2", "3", "4"], is_first=True) == (["1", "3"], True)


def test_the_first_frame_of_a_connection_is_never_missing() -> None:
    chaos = Chaos(Random(1), ManualClock(), [Rule(kind="missing_frame")])
    assert through(chaos, ["1", "2"], is_first=True) == (["1"], True)
    assert through(chaos, ["3"], is_first=False) == ([], True)


def test_drop_copy_disconnect() -> None:
    chaos = Chaos(Random(1), ManualClock(), [Rule(kind="drop_copy_disconnect", every=3)])
    assert through(chaos, ["1", "2", "3", "4"], is_first=True) == (["1", "2"], False)


def test_bust() -> None:
    made = Troubled(Rule(kind="bust", count=1))
    made.order("BUY 10 @ 1001", "a")
    made.wait()
    assert made.drop_copy() == ["NEW a", "TRADE a 10@1001", "TRADE_CANCEL a 10@1001", "CANCELED a busted"]


def test_correct() -> None:
    made = Troubled(Rule(kind="correct"))
    for n in range(20):
        made.order("BUY 10 @ 1001", f"a-{n}")
    made.wait()
    corrected = {words.split()[-1] for words in made.drop_copy() if words.startswith("TRADE_CORRECT")}
    assert corrected == {"9@1001", "10@1002"}, "sometimes the quantity, sometimes the price"


def test_overfill() -> None:
    made = Troubled(Rule(kind="overfill", quantity=4))
    made.order("BUY 10 @ 1001", "a")
    made.wait()
    assert made.drop_copy() == ["NEW a", "TRADE a 10@1001", "TRADE a 4@1001"], "and no overfill of the overfill"
    found = made.desk.venue.find("a")
    assert found
    assert (found.cum_qty, found.status) == (14, "FILLED")


def test_what_befalls_one_fill_may_find_it_gone() -> None:
    made = Troubled(Rule(kind="bust", count=1, delay_s=5))
    made.order("BUY 10 @ 1001", "a")
    made.desk.bust(f"{SESSION}-2")
    made.wait()
    assert sum(words.startswith("TRADE_CANCEL") for words in made.drop_copy()) == 1


def test_stray_fill() -> None:
    made = Troubled(Rule(kind="stray_fill", count=1, quantity=7))
    made.order("BUY 10 @ 1001", "a")
    made.wait()
    kind, cl_ord_id, fill = made.drop_copy()[-1].split()
    assert (kind, fill) == ("TRADE", "7@1001")
    assert cl_ord_id != "a"
    assert len(cl_ord_id) == 34, "it looks like an id of ours"


def test_halted_symbol() -> None:
    made = Troubled(Rule(kind="halted_symbol", count=1, delay_s=3))
    made.order("BUY 10 @ 1001", "a")
    assert made.drop_copy() == ["REJECTED a halted"]
    assert [seconds for seconds, _, _ in made.waiting] == [3]
    made.wait()
    made.order("BUY 10 @ 990", "b")
    assert made.drop_copy()[-1] == "NEW b"


def test_disconnect() -> None:
    made = Troubled(Rule(kind="disconnect", count=1))
    made.order("BUY 10 @ 990", "a")
    assert made.pulled == ["disconnect"]


def test_restart_without_memory_leaves_nobody_to_answer() -> None:
    made = Troubled(Rule(kind="restart_without_memory", count=1, delay_s=2))
    assert not made.trouble.before("submit", ["AAA"])
    assert made.pulled == ["forget 2"]


@pytest.mark.parametrize("kind", ["duplicate_report", "bust", "stray_fill"])
def test_rules_for_a_symbol_leave_the_others_alone(kind: str) -> None:
    made = Troubled(Rule(kind=kind, symbol="BBB"))  # type: ignore[arg-type]
    made.order("BUY 10 @ 1001", "a")
    made.wait()
    assert made.webhooks() == made.drop_copy() == ["NEW a", "TRADE a 10@1001"]
