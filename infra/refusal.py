"""How any room says no: one exception with a stable code. Only `api/errors.py` knows about HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """The request is refused and nothing was changed.

    `code` is stable and documented; `text` is a sentence for people; `field` names the part of the request at fault;
    `details` are the numbers that decided.
    """

    def __init__(
        self, code: str, text: str, field: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.field = field
        self.details = dict(details or {})
