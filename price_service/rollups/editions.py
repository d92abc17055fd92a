"""Which of TimescaleDB's two editions runs, and what follows from it (docs/adr/0014)."""

from __future__ import annotations

COMMUNITY = "timescale"


def can_compress(license_setting: str | None, allowed: bool) -> bool:
    """`license_setting` is the server's `timescaledb.license`: `apache`, `timescale`, or None when it says nothing."""
    return allowed and license_setting == COMMUNITY
