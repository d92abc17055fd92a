"""What would happen to an order, as JSON: its cost, its fee, what it would reserve, and every check."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from order_service.domain import ledger, risk
from order_service.domain.fees import fee_micros
from order_service.domain.money import text_of
from order_service.domain.reasons import Fault
from order_service.placing.place import Asked
from order_service.store.refusals import refusal

_encoder = msgspec.json.Encoder()


class CheckJson(msgspec.Struct, frozen=True, gc=False):
    code: str
    passed: bool
    text: str
    details: dict[str, Any]


class PreviewJson(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """`estimated_cost` is the price of all shares in USD, of a sell what they bring, without the fee; null where no
    price is known. `reserved` is what the order would hold back until it ends."""

    accepted: bool
    estimated_cost: Raw | None
    fee: Raw
    reserved: dict[str, Raw]
    checks: list[CheckJson]


def preview_bytes(asked: Asked) -> bytes:
    order, question = asked.order, asked.question
    found = risk.every(question)
    price = risk.price_micros(question.ticket, question.quote)
    held = ledger.reserved(order)
    return _encoder.encode(
        PreviewJson(
            accepted=all(fault is None for _, fault in found),
            estimated_cost=None if price is None else _number(order.quantity * price),
            fee=_number(fee_micros(order.quantity, order.fee_per_share_micros, order.fee_min_micros)),
            reserved={"cash": _number(held.cash_micros), "shares": Raw(str(held.shares).encode())},
            checks=[_check(check, fault) for check, fault in found],
        )
    )


def _check(check: risk.Check, fault: Fault | None) -> CheckJson:
    if fault is None:
        return CheckJson(check.code.code, True, check.holds, {})
    refused = refusal(fault)
    return CheckJson(check.code.code, False, refused.text, refused.details)


def _number(micros: int) -> Raw:
    return Raw(text_of(micros).encode())
