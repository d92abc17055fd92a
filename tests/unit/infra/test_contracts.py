"""Messages to bytes and back, and what is malformed."""

from __future__ import annotations

import uuid

import pytest

from infra.contracts import (
    DLQ_SUFFIX,
    TOPICS,
    Command,
    Malformed,
    Quote,
    Report,
    Tick,
    Trade,
    cl_ord_id,
    decode,
    encode,
    order_id_of,
)
from infra.outbox import record_headers

COMMAND = Command(
    kind="submit",
    event_id="e",
    order_id="o",
    account_id=1,
    cl_ord_id="c-1",
    symbol="AAPL",
    order_type="buy",
    type="LIMIT",
    tif="DAY",
    quantity=10,
    limit_micros=580_250_000,
    requested_ns=1_700_000_000_000_000_001,
)


def test_a_client_order_id_carries_the_order_id() -> None:
    order_id = str(uuid.uuid4())
    made = cl_ord_id(order_id, 12)
    assert made == f"{order_id.replace('-', '')}-12"
    assert order_id_of(made) == order_id


@pytest.mark.parametrize("text", ["", "-", "abc-1", "0" * 32, "0" * 32 + "-", "0" * 32 + "-x", "G" * 32 + "-1"])
def test_a_foreign_client_order_id(text: str) -> None:
    with pytest.raises(Malformed):
        order_id_of(text)


def test_messages_come_back_as_they_were() -> None:
    ticks: list[Tick] = [Trade("A", 1, 2, 3, 4, 5, 6, "Q"), Quote("A", 1, 2, 3, 4, 5, 6, 7)]
    assert [decode(Tick, encode(tick)) for tick in ticks] == ticks
    assert decode(Command, encode(COMMAND)) == COMMAND


def test_unknown_fields_are_ignored() -> None:
    assert decode(Command, encode(COMMAND)[:-1] + b',"new_field":{"a":[1]}}') == COMMAND


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"kind":"submit"}',
        encode(COMMAND).replace(b":10,", b':"10",'),
        encode(COMMAND).replace(b":10,", b":10.5,"),
        encode(COMMAND).replace(b'"submit"', b'"sbmit"'),
        b"[" * 100_000,
    ],
)
def test_malformed_bytes(value: bytes | None) -> None:
    with pytest.raises(Malformed):
        decode(Command, value)


def test_a_report_needs_its_source() -> None:
    with pytest.raises(Malformed, match="source"):
        decode(Report, b'{"kind":"execution","order_id":"o","cl_ord_id":"c","received_ns":1}')


def test_every_topic_is_declared_once_with_its_dead_letters() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(names) == len(set(names))
    assert all(name + DLQ_SUFFIX in names for name in names if not name.endswith(DLQ_SUFFIX))
    assert all(topic.doc and topic.key for topic in TOPICS)


def test_the_headers_of_a_row() -> None:
    assert record_headers("e", "k", "00-t") == (
        ("event-id", b"e"),
        ("idempotency-key", b"k"),
        ("traceparent", b"00-t"),
        ("schema", b"1"),
    )
