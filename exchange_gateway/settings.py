"""What the exchange gateway may read from its environment."""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings import Infra, Secrets, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    infra: Infra
    secrets: Secrets
    venue_timeout_s: float = setting(2.0, "Longest wait for each phase of a request to the venue, seconds.")
    venue_retry_s: float = setting(3.0, "How long a request that never left is tried again in place, seconds.")
    venue_ask_s: float = setting(8.0, "How long the venue is asked about an unclear request in place, seconds.")
    # The HTTP pool is looked through for every request: 32 cost 1.7 times the CPU of 8 per order.
    venue_sends_max: int = setting(8, "Requests to the venue at one time, each on a connection of its own.")
    commands_max: int = setting(256, "Commands that may have been sent past the committed offset of a partition.")
    snapshot_interval_s: float = setting(300.0, "Pause between two snapshots of the venue's side, seconds.")
    webhook_former_secrets: str = setting(
        "", "Keys that the venue's webhooks may still be signed with, besides the present one; separated by spaces."
    )
    feed_depth: bool = setting(True, "Whether the venue is asked for its books, for the topic of depth.")
    feed_requests_max: int = setting(4, "Requests for quotes and missing ticks at the venue at one time.")
    feed_in_flight_max: int = setting(20_000, "Unacknowledged ticks above which the feed is not read.")
