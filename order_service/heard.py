"""What a report of the exchange or the gateway says, checked for sense: pure, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from infra.contracts import Malformed, Report, order_id_of
from order_service.domain.executions import ExecKey, Execution, Kind
from order_service.domain.ledger import HOUSE

EXECUTIONS: dict[str, Kind] = {"TRADE": "fill", "TRADE_CANCEL": "bust", "TRADE_CORRECT": "correct"}
_STRANGERS = UUID("b0a7f7a6-5f1c-5a52-8d5e-6b1f0f4b7a60")


@dataclass(frozen=True, slots=True)
class Heard:
    """A report with its order id in our writing, and the number of the request that it answers: 0 when the ClOrdID is
    not of our making. Then the id is derived from it, always the same. `execution` is of account 0 as yet."""

    report: Report
    order_id: str
    request: int
    execution: Execution | None

    @property
    def ours(self) -> bool:
        return self.request > 0


def heard(report: Report) -> Heard:
    """Raises Malformed for a report that contradicts itself or lacks what its kind needs."""
    order_id, request = _about(report)
    execution = None
    if report.kind == "send_outcome":
        if report.outcome is None:
            raise Malformed("a send outcome without outcome")
    elif report.kind == "execution":
        if report.exec_type is None:
            raise Malformed("an execution report without exec_type")
        if kind := EXECUTIONS.get(report.exec_type):
            execution = _execution(report, kind, order_id)
        elif report.exec_type == "REPLACED" and (report.quantity < 1 or report.venue_seq < 1):
            raise Malformed("a replace without quantity or venue_seq")
    return Heard(report, order_id, request, execution)


def known_as(cl_ord_id: str) -> tuple[str, int]:
    """The order id and the number of the request that a ClOrdID names; an id derived from it and 0 when it is not of
    our making."""
    try:
        return order_id_of(cl_ord_id), int(cl_ord_id.rpartition("-")[2])
    except Malformed:
        return str(uuid5(_STRANGERS, cl_ord_id)), 0


def _about(report: Report) -> tuple[str, int]:
    order_id, request = known_as(report.cl_ord_id)
    if request == 0:
        return order_id, 0
    if report.order_id != order_id and _canonical(report.order_id) != order_id:
        raise Malformed(f"{report.cl_ord_id!r} is not a ClOrdID of order {report.order_id}")
    return order_id, request


def _canonical(order_id: str) -> str | None:
    try:
        return str(UUID(order_id))
    except ValueError:
        return None


def _execution(report: Report, kind: Kind, order_id: str) -> Execution:
    if not report.exec_id:
        raise Malformed(f"a {kind} without exec_id")
    if kind != "fill" and not report.exec_ref_id:
        raise Malformed(f"a {kind} that names no exec_ref_id")
    if kind != "bust" and (report.last_qty < 1 or report.last_micros < 1):
        raise Malformed(f"a {kind} of {report.last_qty} at {report.last_micros} micros")
    return Execution(
        key=ExecKey(order_id, report.exec_id, report.venue_seq),
        kind=kind,
        account_id=HOUSE,
        symbol=report.symbol or "",
        side=report.side or "",
        last_qty=report.last_qty,
        last_micros=report.last_micros,
        transact_ns=report.transact_ns,
        source=report.source,
        exec_ref_id=report.exec_ref_id if kind != "fill" else None,
    )
