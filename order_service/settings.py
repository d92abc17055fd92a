"""What the order service may be told from outside."""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings import Infra, setting
from order_service.domain.checks import Limits
from order_service.domain.money import MICROS_PER_UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """Both processes of the order service: its doors in the api and its worker."""

    infra: Infra
    order_quantity_max: int = setting(1_000_000, "Most shares that one order may have.")
    order_notional_max_usd: int = setting(50_000_000, "Most that one LIMIT order may be worth, in USD.")
    order_queue_max: int = setting(5_000, "Requests that may wait for the next batch; further ones are refused.")
    order_batch_max: int = setting(250, "Most requests that one transaction stores.")
    order_reports_max: int = setting(250, "Most reports that one transaction applies.")
    order_stream_queue_max: int = setting(1_000, "Events that may wait for a slow stream client before it is dropped.")

    @property
    def limits(self) -> Limits:
        return Limits(self.order_quantity_max, self.order_notional_max_usd * MICROS_PER_UNIT)
