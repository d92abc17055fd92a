"""What the relay may read from the environment."""

from __future__ import annotations

from dataclasses import dataclass

from infra.outbox import SLOT
from infra.settings import PREFIX, Infra, SettingsError, setting

MODES = ("cdc", "polling")
NUMBERS = (
    "relay_poll_ms",
    "relay_shards",
    "relay_unacknowledged_max",
    "relay_partition_hours",
    "relay_partitions_ahead",
    "relay_retention_hours",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """`relay_mode` chooses between the two ways to read the outbox; both publish the same records."""

    infra: Infra
    relay_mode: str = setting("cdc", "How the outbox is read: cdc (the write-ahead log) or polling (the table).")
    relay_database: str = setting("orders", "Database whose outbox is published.")
    relay_slot: str = setting(SLOT, "Replication slot, and name of the checkpoint; one per outbox and server.")
    relay_poll_ms: int = setting(50, "Pause between two looks into an empty outbox (polling), milliseconds.")
    relay_shards: int = setting(
        1, "Pollers that share the rows by their keys (polling). The same for all relays of a database at any time."
    )
    relay_unacknowledged_max: int = setting(2000, "Rows handed to Kafka and not acknowledged, before reading pauses.")
    relay_partition_hours: int = setting(24, "Hours of rows in one partition of the outbox.")
    relay_partitions_ahead: int = setting(3, "Partitions of the outbox that are made before their time.")
    relay_retention_hours: int = setting(
        72, "Hours for which published rows are kept at least; unpublished ones are never dropped."
    )

    def __post_init__(self) -> None:
        if self.relay_mode not in MODES:
            raise SettingsError(f"{PREFIX}RELAY_MODE={self.relay_mode!r} is none of {', '.join(MODES)}")
        for name in NUMBERS:
            if getattr(self, name) < 1:
                raise SettingsError(f"{PREFIX}{name.upper()}={getattr(self, name)} must be at least 1")
