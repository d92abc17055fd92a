"""What the price service may read from its environment."""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings import Infra, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    infra: Infra
    prices_batch_messages_max: int = setting(16_000, "Ticks stored in one transaction at most.")
    gaps_wait_ms: int = setting(3_000, "Age from which missing ticks are asked for again, milliseconds.")
    gaps_requests_max: int = setting(10, "Requests for missing ticks within a second.")
    prices_rollup_ms: int = setting(5_000, "Least time between two roll-ups of hours and days, milliseconds.")
    prices_ticks_kept_days: int = setting(30, "For how long ticks are kept after they were received, days.")
    prices_minutes_kept_days: int = setting(730, "For how long bars of a minute are kept after their last trade, days.")
    prices_compress: bool = setting(
        True, "Have ticks older than a week compressed where TimescaleDB's community edition is found."
    )
    prices_seed_history: bool = setting(
        False, "Make up two years of bars for each listed symbol that has none, so that charts are not empty at first."
    )
    prices_cache_ms: int = setting(500, "Least time between two writes of quotes to the cache, milliseconds.")
    prices_flush_ms: int = setting(20, "Least time between two flushes of a price stream, milliseconds; from 5.")
    prices_unsent_bytes_max: int = setting(
        65_536, "Bytes that a client has not taken, above which it is passed over and gets newer values later."
    )
    prices_stuck_ms: int = setting(
        30_000, "How long a client that is passed over may take nothing at all, milliseconds; then its stream ends."
    )
    prices_stale_after_ms: int = setting(
        5_000, "Least age of a stale quote of an open session; one that seldom ticks may be older, milliseconds."
    )
    prices_reads_per_s: float = setting(
        2_000, "Requests for quotes that each caller may make per second and process; 0 for any number."
    )
    prices_reads_burst_max: int = setting(4_000, "Requests for quotes that a caller who was quiet may make at once.")
    prices_histories_max: int = setting(
        64, "Histories and searches that one process answers or lets wait at one time; each caller's are a quarter."
    )
    prices_fetch_every_ms: int = setting(
        5_000, "Least time between two questions to the venue about one stale or missing quote, milliseconds."
    )
    prices_fetch_wait_ms: int = setting(100, "How long a reader waits for the venue's answer at most, milliseconds.")
    prices_stream_symbols_max: int = setting(500, "Symbols in one stream or one request for quotes.")
    prices_streams_max: int = setting(20, "Streams of prices that one account may have open in one process.")
    prices_socket_messages_max: int = setting(20, "Messages of one WebSocket client that are heard within a second.")
    prices_every_symbols_max: int = setting(10, "Symbols in one stream of every tick.")
    prices_every_ticks_max: int = setting(10_000, "Ticks that may wait for one client of every tick.")
    prices_every_bytes_max: int = setting(1_048_576, "Bytes of ticks that may wait for one client of every tick.")
    prices_replay_ticks_max: int = setting(
        100_000, "Stored ticks of one symbol and session that a resumed stream sends; older ones it names as lost."
    )
