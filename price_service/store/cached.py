"""The form of days and offsets in the cache: one map, written by the ingest, read by every hub that starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from infra.contracts import Malformed
from price_service.domain.days import Day, Snapshot

MAP = "quotes"
_DAY, _OFFSET = "q:", "o:"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Day)


def fields(offsets: Mapping[int, int], days: Iterable[Day]) -> dict[str, bytes]:
    made = {f"{_DAY}{day.symbol}": _encoder.encode(day) for day in days}
    made.update({f"{_OFFSET}{partition}": b"%d" % offset for partition, offset in offsets.items()})
    return made


def snapshot(found: Mapping[str, bytes]) -> Snapshot:
    """Raises Malformed when the map was written by something that is not this version."""
    try:
        days = [_decoder.decode(value) for field, value in found.items() if field.startswith(_DAY)]
        offsets = {
            int(field.removeprefix(_OFFSET)): int(value) for field, value in found.items() if field.startswith(_OFFSET)
        }
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise Malformed(str(error)) from error
    return Snapshot(offsets, days)
