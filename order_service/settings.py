"""What the order service may be told from outside."""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings import Infra, SettingsError, setting
from order_service.domain.doubt import Patience
from order_service.domain.fees import FeeSchedule
from order_service.domain.money import MICROS_PER_UNIT
from order_service.domain.risk import PPM, US_PER_MS, US_PER_S, Rules

PPM_PER_PERCENT = PPM // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """Both processes of the order service: its doors in the api and its worker."""

    infra: Infra
    order_quantity_max: int = setting(1_000_000, "Most shares that one order may have.")
    order_notional_max_usd: int = setting(50_000_000, "Most that one order may be worth, in USD.")
    order_collar_percent: float = setting(
        10.0, "How far beyond the other side's last price a limit may be; a MARKET buy reserves that much more."
    )
    order_quote_stale_s: float = setting(60.0, "Age of a quote from which a MARKET order is not priced by it.")
    order_open_max: int = setting(1_000, "Most open orders of one account.")
    order_per_second_max: int = setting(100, "Most orders that one account may place within a second.")
    order_duplicate_ms: int = setting(
        1_000, "The very same order within this time, without an Idempotency-Key, is refused as a slip; 0: never."
    )
    order_short_selling: bool = setting(False, "Whether an account may sell shares that it does not hold.")
    order_restricted: str = setting("", "Symbols in which no order is taken, separated by commas.")
    order_fee_tiers: str = setting(
        "0:5000,300000:3500,3000000:2000",
        "Fee in micros per share, by the shares that the account traded in earlier sessions (`shares:micros`, rising).",
    )
    order_fee_min_usd: float = setting(1.0, "Least fee of an order that was filled at all, in USD.")
    order_queue_max: int = setting(5_000, "Requests that may wait for the next batch; further ones are refused.")
    order_batch_max: int = setting(250, "Most requests that one transaction stores.")
    order_reports_max: int = setting(250, "Most reports that one transaction applies.")
    order_chase_settle_s: float = setting(
        10.0, "How long after a sending the exchange's word that it has no such order is not believed."
    )
    order_chase_sends_max: int = setting(5, "How often a request is sent to the exchange, the first time included.")
    order_reconcile_grace_s: float = setting(
        10.0, "What changed this shortly before a snapshot of the exchange's side may differ; it is still on its way."
    )
    order_stream_queue_max: int = setting(1_000, "Events that may wait for a slow stream client before it is dropped.")

    def __post_init__(self) -> None:
        _tiers(self.order_fee_tiers)

    @property
    def patience(self) -> Patience:
        return Patience(round(self.order_chase_settle_s * US_PER_S), self.order_chase_sends_max)

    @property
    def reconcile_grace_us(self) -> int:
        return round(self.order_reconcile_grace_s * US_PER_S)

    @property
    def rules(self) -> Rules:
        return Rules(
            quantity_max=self.order_quantity_max,
            notional_max_micros=self.order_notional_max_usd * MICROS_PER_UNIT,
            collar_ppm=round(self.order_collar_percent * PPM_PER_PERCENT),
            stale_us=round(self.order_quote_stale_s * US_PER_S),
            open_orders_max=self.order_open_max,
            orders_per_second_max=self.order_per_second_max,
            duplicate_us=self.order_duplicate_ms * US_PER_MS,
            short_selling=self.order_short_selling,
            restricted=frozenset(word.strip() for word in self.order_restricted.split(",") if word.strip()),
            fees=FeeSchedule(round(self.order_fee_min_usd * MICROS_PER_UNIT), _tiers(self.order_fee_tiers)),
        )


def _tiers(text: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [tier.split(":") for tier in text.split(",")]
        tiers = tuple((int(shares), int(micros)) for shares, micros in pairs)
    except ValueError:
        tiers = ()
    froms = [shares for shares, _ in tiers]
    if not tiers or froms[0] != 0 or froms != sorted(set(froms)) or min(micros for _, micros in tiers) < 0:
        raise SettingsError(f"XGW_ORDER_FEE_TIERS={text!r} is not `0:micros,shares:micros`, rising")
    return tiers
