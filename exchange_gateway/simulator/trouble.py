"""Carries out the misbehaviours that need no socket: what befalls the venue, its fills, and the reports on their way.

The same for the venue behind HTTP and for the one in the same process; they differ in how they wait and what they cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec

import msgspec
import structlog

from exchange_gateway.simulator.chaos import Chaos, Operation, Rule
from exchange_gateway.simulator.desk import Desk, Notify
from exchange_gateway.simulator.messages import NewOrder, Numbered, Report, VenueError
from infra.contracts import encode

log = structlog.get_logger(__name__)

STRAY_MICROS = 1_000_000  # price of a stray fill whose symbol never traded

P = ParamSpec("P")
# Calls something after so many seconds.
Later = Callable[[float, Callable[[], object]], None]


@dataclass(frozen=True, slots=True)
class Levers:
    """What a misbehaviour may pull outside the desk. `forget` is given the seconds that the venue stays away."""

    halt: Callable[[str], None]
    resume: Callable[[str], object]
    disconnect: Callable[[], None]
    forget: Callable[[float], None]


class Trouble:
    """`recorded` stands between the desk and the webhooks."""

    def __init__(self, chaos: Chaos, desk: Desk, levers: Levers, later: Later, webhooks: Notify) -> None:
        self._chaos = chaos
        self._desk = desk
        self._levers = levers
        self._later = later
        self._webhooks = webhooks
        self._acting = False
        self._held: dict[str, list[Numbered]] = {}
        self._last: dict[str, int] = {}  # newest price per symbol, micros

    def before(self, on: Operation, symbols: Sequence[str]) -> bool:
        """A request comes. False when the venue lost its memory over it, so that nobody is left to answer."""
        rule = self._chaos.ask("act", on, symbols)
        if rule is None:
            return True
        symbol = rule.symbol or (symbols[0] if symbols else "")
        if rule.kind == "restart_without_memory":
            self._levers.forget(rule.delay)
            return False
        if rule.kind == "disconnect":
            self._levers.disconnect()
        elif rule.kind == "stray_fill":
            self.later(rule.delay, lambda: self._stray(symbol, rule.quantity))
        else:
            attempt(lambda: self._levers.halt(symbol))
            self.later(rule.delay, lambda: self._levers.resume(symbol))
        return True

    def recorded(self, reports: Sequence[Numbered]) -> None:
        """Notify: reports are recorded, their webhooks may go."""
        for numbered in reports:
            report = numbered.report
            if report.exec_type == "TRADE" and report.symbol:
                self._last[report.symbol] = report.last_micros
                rule = None if self._acting else self._chaos.ask("fill", symbols=(report.symbol,))
                if rule is not None:
                    self._befall(rule, report)
        self._webhooks([sent for numbered in reports for sent in self._mailed(numbered)])

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something to the venue in a while, if it can still be done by then."""
        self._later(seconds, lambda: attempt(act))

    # -- fills ---------------------------------------------------------------------------------------------------------

    def _befall(self, rule: Rule, fill: Report) -> None:
        desk, exec_id, quantity, micros = self._desk, fill.exec_id, fill.last_qty, fill.last_micros
        if rule.kind == "bust":
            self.later(rule.delay, lambda: desk.bust(exec_id))
        elif rule.kind == "overfill":
            self.later(rule.delay, lambda: self._alone(desk.overfill, fill.cl_ord_id, rule.quantity, micros))
        elif quantity > 1 and self._chaos.random.random() < 0.5:
            self.later(rule.delay, lambda: desk.correct(exec_id, quantity - 1, micros))
        else:
            tick = desk.venue.instruments[fill.symbol or ""].tick_micros
            self.later(rule.delay, lambda: desk.correct(exec_id, quantity, micros + tick))

    def _stray(self, symbol: str, quantity: int) -> None:
        random = self._chaos.random
        terms = NewOrder(
            cl_ord_id=f"{random.getrandbits(128):032x}-1",
            symbol=symbol,
            side="BUY" if random.random() < 0.5 else "SELL",
            ord_type="MARKET",
            tif="IOC",
            quantity=quantity,
        )
        self._alone(self._desk.stray, terms, self._last.get(symbol, STRAY_MICROS))

    def _alone(self, act: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> None:
        """Make a fill that no further rule befalls."""
        self._acting = True
        try:
            act(*arguments, **named)
        finally:
            self._acting = False

    # -- webhooks ------------------------------------------------------------------------------------------------------

    def _mailed(self, numbered: Numbered) -> list[Numbered]:
        """What is sent now for this report: nothing, itself, or more."""
        report = numbered.report
        symbols = (report.symbol,) if report.symbol else ()
        order = report.exchange_order_id or report.exec_id
        wrong = self._chaos.ask("trade", symbols=symbols) if report.exec_type == "TRADE" else None
        rule = self._chaos.ask("report", symbols=symbols)
        sent = [numbered, falsified(numbered, wrong.quantity)] if wrong else [numbered]
        if rule is not None and rule.kind == "missing_webhook":
            sent = []
        elif rule is not None and rule.kind == "duplicate_report":
            sent.append(numbered)
        elif rule is not None:
            self._held.setdefault(order, []).extend(sent)
            self._later(rule.delay, lambda: self._webhooks(self._held.pop(order, [])))
            return []
        return [*sent, *self._held.pop(order, [])] if self._held else sent


def through(chaos: Chaos, frames: list[str], is_first: bool) -> tuple[list[str], bool]:
    """The drop-copy frames that get through, and whether the connection holds. The first one of a connection is never
    left out: there a hole would say that the venue has nothing better."""
    sent: list[str] = []
    for i, frame in enumerate(frames):
        rule = chaos.ask("frame")
        if rule is not None and rule.kind == "drop_copy_disconnect":
            return sent, False
        if rule is None or (is_first and not i):
            sent.append(frame)
    return sent, True


def attempt(act: Callable[[], object]) -> None:
    try:
        act()
    except VenueError as error:  # the fill is busted already, the market closed, ...: then it does not happen
        log.info("misbehaviour_impossible", why=str(error))


def falsified(numbered: Numbered, more: int) -> Numbered:
    """The same ExecID with other numbers."""
    report = numbered.report
    wrong = msgspec.structs.replace(report, last_qty=report.last_qty + more, cum_qty=report.cum_qty + more)
    return Numbered(numbered.n, wrong, encode(wrong))
