"""What the bodies and answers of operators' routes are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from api.reasons import OPS_UNAVAILABLE, refusal
from infra.bus import BusError
from infra.db import TRANSIENT

log = structlog.get_logger(__name__)

# Nothing that PostgreSQL could not store, and nothing that could end a line of the log.
_PRINTED = r"^[^\x00-\x1f\x7f]+$"
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=_PRINTED)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTED)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Asked(BaseModel):
    """What was sent: nothing unknown, and no number that is a text."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Told(BaseModel):
    """What is answered."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class Why(Asked):
    """Each change of an operator has a reason, which is logged with it."""

    reason: Reason


def moment(time_us: int | None) -> datetime | None:
    return None if time_us is None else _EPOCH + timedelta(microseconds=time_us)


@contextlib.contextmanager
def outside_answers() -> Iterator[None]:
    """A store or a bus that is away is a refusal."""
    try:
        yield
    except (*TRANSIENT, BusError) as error:
        log.warning("ops_unavailable", error=repr(error))
        raise refusal(OPS_UNAVAILABLE, details={"retry_after_s": 1}) from error
