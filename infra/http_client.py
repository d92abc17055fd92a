"""HTTP to other systems: one place for time limits and pool sizes."""

from __future__ import annotations

import httpx


def http_client(url: str, bearer: str, timeout_s: float = 2.0, connections_max: int = 64) -> httpx.AsyncClient:
    """A client of one system. `timeout_s` bounds each phase: connect, write, read, waiting for a free connection."""
    return httpx.AsyncClient(
        base_url=url,
        headers={"authorization": f"Bearer {bearer}"},
        timeout=httpx.Timeout(timeout_s),
        limits=httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max),
        trust_env=False,
    )
