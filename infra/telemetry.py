"""Logs and metrics. Every metric is declared here once: name with its unit, one sentence, its labels."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import cache

import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Tally:
    """Durations of one thread, nearly all of them in the first bucket: added up without a lock, which would cost many
    times as much, and settled with their histogram before it is read."""

    __slots__ = ("_count", "_histogram", "_total_s")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._count = 0
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        if seconds <= _LATENCY_BUCKETS_S[0]:
            self._count += 1
            self._total_s += seconds
        else:
            self._histogram.observe(seconds)

    def settle(self) -> None:
        count, self._count = self._count, 0
        total_s, self._total_s = self._total_s, 0.0
        self._histogram._sum.inc(total_s)
        self._histogram._buckets[0].inc(count)


class _Tallies(Collector):
    """Collectors are read in the order of their registration, so this one stands before the histograms."""

    def __init__(self) -> None:
        self.all: list[Tally] = []

    def collect(self) -> Iterable[Metric]:
        for tally in self.all:
            tally.settle()
        return ()


_TALLIES = _Tallies()
REGISTRY.register(_TALLIES)

MESSAGES = Counter("xgw_messages_total", "Messages handled by a consumer.", ["topic"])
PARKED = Counter("xgw_parked_messages_total", "Messages sent to a dead-letter topic. Any is worth a look.", ["topic"])
DEAD_LETTERS_INDEXED = Counter("xgw_dead_letters_indexed_total", "Records of dead-letter topics read into the index.")
DEAD_LETTERS_REPLAYED = Counter(
    "xgw_dead_letters_replayed_total", "Dead letters that an operator sent back to their topic.", ["topic"]
)
HTTP_SECONDS = Histogram(
    "xgw_http_request_seconds", "Time to the first byte of an answer.", ["route", "status"], buckets=_LATENCY_BUCKETS_S
)
STREAMS = Gauge("xgw_streams", "Open event streams.", ["kind"])
FRAMES = Counter("xgw_stream_frames_total", "Frames handed to clients' streams.", ["kind"])
STREAM_SKIPS = Counter(
    "xgw_stream_skips_total", "Times that a price stream was passed over because its client had not taken enough."
)
STREAMS_STUCK = Counter("xgw_streams_stuck_total", "Price streams ended because their clients took nothing any more.")
LOOP_STALLS = Counter(
    "xgw_loop_stalls_total", "Times that the event loop was held up for more than 20 ms. Rising means overload."
)
TICKS_LOST = Counter(
    "xgw_stream_ticks_lost_total", "Ticks that found a client's queue full; the client was told by a reset."
)
TICKS_STORED = Counter("xgw_ticks_stored_total", "Ticks committed to the store.")
CACHE_SKIPPED = Counter(
    "xgw_cache_writes_skipped_total", "Writes of quotes that the cache did not take; the next one heals it."
)
TICKS_DROPPED = Counter("xgw_ticks_duplicate_total", "Ticks that were stored before. Normal after a restart.")
HOURS_ROLLED = Counter("xgw_hours_rolled_up_total", "Hours made again from minutes that had changed, with their days.")
CHUNKS_DROPPED = Counter("xgw_chunks_dropped_total", "Chunks of a table that grew older than is kept.", ["table"])
SYMBOLS_SEEDED = Counter("xgw_symbols_seeded_total", "Symbols whose earlier bars were made up.")
HEARTBEATS = Counter("xgw_order_heartbeats_total", "Heartbeats due on order streams, by what became of them.", ["end"])
QUOTE_FETCHES = Counter(
    "xgw_quote_fetches_total", "Stale or missing quotes that the venue was asked for, by what came of it.", ["end"]
)
FEED_TICKS = Counter("xgw_feed_ticks_total", "Ticks taken from the venue's feed and sent to the bus.")
FEED_TICKS_MISSING = Counter(
    "xgw_feed_ticks_missing_total", "Ticks that the venue's feed counted and did not send, not even when asked again."
)
FEED_BOOKS = Counter("xgw_feed_books_total", "Books taken from the venue's feed, by what became of them.", ["end"])
TICKS_RESENT = Counter("xgw_ticks_resent_total", "Ticks asked for at the venue and sent to the bus, by why.", ["why"])
GAP_MISSING_TICKS = Gauge("xgw_gap_missing_ticks", "Sequence numbers below the newest that were never stored.")
GAP_REQUESTS = Counter("xgw_gap_requests_total", "Re-requests of missing ticks at the gateway, by their end.", ["end"])
GAP_CLOSED = Counter("xgw_gap_ticks_closed_total", "Missing ticks that came after they had been asked for.")
GAP_LOST = Counter("xgw_gap_ticks_lost_total", "Missing ticks given up, since the venue no longer has them.")
ORDERS_PLACED = Counter("xgw_orders_placed_total", "Orders stored.")
ORDERS_REFUSED = Counter("xgw_orders_refused_total", "Orders refused before they were stored.", ["code"])
KEYS_WITHOUT_CACHE = Counter(
    "xgw_idempotency_without_cache_total", "Questions about an Idempotency-Key that the cache did not answer in time."
)
REPORTS_APPLIED = Counter("xgw_reports_applied_total", "Venue reports that changed an order.", ["exec_type"])
REPORTS_IGNORED = Counter("xgw_reports_ignored_total", "Venue reports that changed nothing.", ["why"])
CHASED = Counter("xgw_orders_chased_total", "Orders with something unknown that were looked at, by step.", ["step"])
BREAKS_FOUND = Counter("xgw_breaks_found_total", "Differences to the exchange's side that were listed.", ["kind"])
SENDS = Counter("xgw_sends_total", "Commands sent to the venue, by outcome.", ["outcome"])
VENUE_BREAKER_OPEN = Gauge(
    "xgw_venue_breaker_open", "1 while the venue is not sent anything because it does not answer."
)
SNAPSHOTS = Counter("xgw_snapshots_total", "Snapshots of the venue's side, by how they ended.", ["end"])
OUTBOX_PUBLISHED = Counter("xgw_outbox_published_total", "Outbox rows acknowledged by Kafka.")
OUTBOX_LAG_SECONDS = Histogram(
    "xgw_outbox_lag_seconds",
    "From an outbox row's commit (polling: from the beginning of its transaction) to Kafka's acknowledgement.",
    buckets=_LATENCY_BUCKETS_S,
)
OUTBOX_OUTSTANDING = Gauge("xgw_outbox_outstanding_rows", "Outbox rows handed to Kafka and not yet acknowledged.")
OUTBOX_PARTITIONS = Gauge("xgw_outbox_partitions", "Partitions of the outbox by time, the default one not counted.")
OUTBOX_STRAY_ROWS = Gauge(
    "xgw_outbox_default_partition_rows", "Outbox rows that found no partition of their time. Should be 0."
)
RELAY_INTERRUPTIONS = Counter("xgw_relay_interruptions_total", "Streams of the relay that were lost and opened anew.")
SLOT_REPAIRS = Counter(
    "xgw_slot_repairs_total", "Slots that were missing or lost and were made anew; rows are published again."
)
SLOT_LAG_BYTES = Gauge("xgw_slot_lag_bytes", "WAL that the relay's slot still holds. Rising means the relay is stuck.")


@cache
def tallied(route: str, status: str) -> Tally:
    """What adds to HTTP_SECONDS for the event loop."""
    tally = Tally(HTTP_SECONDS.labels(route, status))
    _TALLIES.all.append(tally)
    return tally


def configure_logging(process: str, level: str) -> None:
    """One JSON object per line on stdout, for our own and for the libraries' logs."""
    numeric = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _named(process),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(numeric, logging.WARNING))


def _named(process: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    return add
