"""Kill switches: which one holds, and what a reader makes of the topic `switches`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from infra.bus import BusError, Message, Offsets
from infra.bus_memory import MemoryBus
from infra.clock import ManualClock
from infra.contracts import SWITCHES, Switch, SwitchMode, encode
from infra.process import background
from infra.switches import Switchboard, Switches

DEADLINE_S = 10.0
POLL_S = 0.01


def switch(scope: str, mode: SwitchMode = "cancel_only") -> Switch:
    return Switch(scope=scope, mode=mode, reason="a test", by="operator-1", at_ns=1)


def said(scope: str, value: bytes | None) -> Message:
    return Message(SWITCHES, 0, 0, scope.encode(), value, (), 0)


def view(*switches: Switch) -> Switches:
    return Switches().merged(said(s.scope, encode(s)) for s in switches)


def set_on(bus: MemoryBus, *switches: Switch) -> None:
    for each in switches:
        bus.append(SWITCHES, each.scope.encode(), encode(each), ())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_the_strictest_that_fits_holds() -> None:
    everything = switch("global", "reduce_only")
    apple = switch("symbol:AAPL", "cancel_only")
    mine = switch("account:7", "cancel_only")
    switches = view(everything, apple, mine)
    assert switches.strictest("MSFT", 8) == everything
    assert switches.strictest("AAPL", 8) == apple
    assert switches.strictest("MSFT", 7) == mine
    assert view(apple, mine).strictest("MSFT", 8) is None
    assert view(switch("account:77"), switch("symbol:AAPLX")).strictest("AAPL", 7) is None


def test_a_lifted_switch_is_gone_and_the_old_view_stays_as_it_was() -> None:
    before = view(switch("global"), switch("symbol:A"))
    after = before.merged([said("global", None), said("symbol:A", encode(switch("symbol:A", "normal")))])
    assert (set(before.on), set(after.on)) == ({"global", "symbol:A"}, set())


@pytest.mark.parametrize(
    "value",
    [b"{", b'{"scope":"global"}', encode(switch("symbol:A")), encode(switch("global")).replace(b"cancel", b"x")],
)
def test_what_cannot_be_read_changes_nothing(value: bytes) -> None:
    before = view(switch("global", "reduce_only"))
    assert before.merged([said("global", value)]) == before


async def test_it_follows_the_topic() -> None:
    bus = MemoryBus(ManualClock())
    board = Switchboard(bus, POLL_S)
    async with background(board.run):
        await until(board.ready)
        assert board.view == Switches()
        set_on(bus, switch("symbol:A"))
        await until(lambda: board.view.strictest("A", 1) is not None)
        bus.append(SWITCHES, b"symbol:A", None, ())
        await until(lambda: board.view == Switches())


async def test_it_is_ready_only_when_it_has_read_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = MemoryBus(ManualClock())
    monkeypatch.setattr("infra.switches.MESSAGES_MAX", 1)
    board = Switchboard(bus, POLL_S)
    set_on(bus, switch("global", "reduce_only"), switch("global", "normal"), switch("symbol:A"))
    seen = []

    def is_ready() -> bool:
        seen.append((board.ready(), board.view))
        return board.ready()

    async with background(board.run):
        await until(is_ready)
    assert set(board.view.on) == {"symbol:A"}
    assert all(shown == Switches() for ready, shown in seen if not ready), "a switch of the past was shown"


async def test_what_is_known_holds_while_the_bus_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading anew, the view never goes through the states of the past."""
    monkeypatch.setattr("infra.bus.RETRY_S", 0.001)
    bus = Breaking(ManualClock())
    board = Switchboard(bus, POLL_S)
    set_on(bus, switch("global", "normal"), switch("global", "reduce_only"))
    async with background(board.run):
        await until(board.ready)
        held = board.view
        bus.away = True
        bus.wake()
        await until(lambda: bus.refused > 2)
        set_on(bus, switch("global", "cancel_only"))
        asked = bus.refused
        await until(lambda: bus.refused > asked + 2)
        assert (board.view, board.ready()) == (held, True)
        bus.away = False
        await until(lambda: board.view != held)
        newest = board.view.strictest("A", 1)
        assert newest is not None
        assert newest.mode == "cancel_only"


class Breaking(MemoryBus):
    """A bus that can be away: nothing can be asked then, and what reads is cut off."""

    away = False
    refused = 0

    async def wait_for_change(self, topics: Iterable[str], timeout_s: float) -> None:
        self._answer()
        await super().wait_for_change(topics, timeout_s)
        self._answer()

    async def ends(self, topics: object) -> Offsets:
        self._answer()
        return await super().ends(topics)  # type: ignore[arg-type]

    def _answer(self) -> None:
        if self.away:
            self.refused += 1
            raise BusError("away")
