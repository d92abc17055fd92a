"""The venue's report in our words: pure, and the same for the answer, the webhook and the drop copy."""

from __future__ import annotations

from exchange_gateway.venue import VenueReport, VenueSide
from infra.contracts import Malformed, Report, ReportSource, Side, order_id_of

_SIDES: dict[VenueSide, Side] = {"BUY": "buy", "SELL": "sell"}


def normalise(report: VenueReport, source: ReportSource, received_ns: int) -> Report:
    return Report(
        kind=report.kind,
        order_id=order_id_for(report.cl_ord_id),
        cl_ord_id=report.cl_ord_id,
        source=source,
        received_ns=received_ns,
        exchange_order_id=report.exchange_order_id,
        exec_id=report.exec_id,
        exec_ref_id=report.exec_ref_id,
        exec_type=report.exec_type,
        order_status=report.order_status,
        last_qty=report.last_qty,
        last_micros=report.last_micros,
        cum_qty=report.cum_qty,
        leaves_qty=report.leaves_qty,
        venue_seq=report.venue_seq,
        transact_ns=report.transact_ns,
        reason=report.reason,
        orig_cl_ord_id=report.orig_cl_ord_id,
        session=report.session,
        symbol=report.symbol,
        side=_SIDES[report.side] if report.side else None,
        quantity=report.quantity,
        limit_micros=report.limit_micros,
    )


def order_id_for(cl_ord_id: str) -> str:
    """The order that a report is about. A ClOrdID that is not of our making stands for itself: its fills are real and
    must reach order_service, which books them to the house suspense account."""
    try:
        return order_id_of(cl_ord_id)
    except Malformed:
        return cl_ord_id


def event_id(report: VenueReport, source: ReportSource) -> str:
    """The same report from the same source always has the same event id, however often it comes."""
    return f"{report.session}-{report.exec_id}-{source}"
