"""A request and its answer without a web framework: for the few routes that are asked thousands of times a second.

A service writes such a route once, as a `Handler`. Its ordinary route calls it too, so both ways answer the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from infra.principal import Principal

JSON = "application/json"


class Asked(NamedTuple):
    """`query` is the raw query string; `headers` have lower-case names, of repeated ones the first."""

    query: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """`headers` come beside Content-Type and Content-Length."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    media_type: str = JSON


Handler = Callable[[Principal, Asked], Awaitable[Answer]]
# (method, path) → who answers it. Paths are exact, without parameters.
Handlers = Mapping[tuple[str, str], Handler]
