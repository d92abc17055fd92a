"""The domain's codes as the one exception that the doors understand."""

from __future__ import annotations

from typing import Any

from infra.refusal import Refusal
from order_service.domain.reasons import Code, Fault


def refusal(fault: Fault) -> Refusal:
    details = dict(fault.details)
    if fault.code.fix:
        details["fix"] = fault.code.fix.format_map(fault.details)
    if fault.code.retry_after_s is not None:
        details["retry_after_s"] = fault.code.retry_after_s
    return Refusal(fault.code.code, fault.code.text.format_map(fault.details), fault.field, details)


def refuse(code: Code, field: str | None = None, **details: Any) -> Refusal:
    return refusal(Fault(code, field, details))
