"""What the price service may read from its environment."""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings import Infra, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    infra: Infra
    prices_batch_messages_max: int = setting(5_000, "Ticks stored in one transaction at most.")
    prices_cache_ms: int = setting(500, "Least time between two writes of quotes to the cache, milliseconds.")
    prices_flush_ms: int = setting(20, "Least time between two flushes of a price stream, milliseconds.")
    prices_stale_after_ms: int = setting(5_000, "Age from which a quote of an open session is stale, milliseconds.")
    prices_stream_symbols_max: int = setting(500, "Symbols in one stream or one request for quotes.")
