"""From the server's messages to entries: whole transactions, tables that change, rows that cannot be published."""

from __future__ import annotations

import pytest

from infra.outbox import OutboxRow, record_of
from outbox_relay import pgoutput
from outbox_relay.decoder import Decoder
from outbox_relay.pgoutput import Keepalive, ProtocolError, Unchanged, Value
from outbox_relay.relay import Entry
from tests import pgoutput_bytes as made
from tests.outbox_rows import columns_of, made_row

NAMES = ("id", "aggregatetype", "aggregateid", "type", "payload", "idempotency_key", "traceparent")
COMMIT_NS = 1_700_000_000_000_000_000


def told(decoder: Decoder, *messages: bytes) -> list[Entry]:
    return [entry for data in messages for entry in decoder.message(pgoutput.message(data))]


def relation(*names: str, table: str = "outbox") -> bytes:
    return made.relation(5, "public", table, names or (*NAMES, "schema"))


def inserted(row: OutboxRow, schema: Value = b"1") -> bytes:
    return made.insert(5, [*(column.encode() for column in columns_of(row)), schema])


def begun(decoder: Decoder) -> Decoder:
    told(decoder, made.begin(10, COMMIT_NS, 7), relation())
    return decoder


def test_a_transaction_whose_messages_come_one_by_one() -> None:
    decoder, rows = Decoder(), [made_row(i) for i in range(3)]
    assert told(decoder, made.begin(90, COMMIT_NS, 7), relation()) == []
    assert decoder.in_transaction
    for row in rows:
        assert told(decoder, inserted(row)) == [Entry(record_of(row), None, COMMIT_NS)]
    assert told(decoder, made.commit(90, 100, COMMIT_NS)) == [Entry(None, 100)]
    assert not decoder.in_transaction
    # The relation is sent once per connection: the next transaction goes without.
    assert told(decoder, made.begin(110, COMMIT_NS, 8), inserted(rows[0]))[0].record == record_of(rows[0])


def test_a_table_that_changed_is_described_again() -> None:
    decoder, row = begun(Decoder()), made_row(1)
    assert told(decoder, inserted(row))[0].record == record_of(row)
    turned = [value.encode() for value in reversed(columns_of(row))]
    again = told(decoder, relation("added", "schema", *reversed(NAMES)), made.insert(5, [None, b"1", *turned]))
    assert again[0].record == record_of(row)


def test_a_large_payload_and_another_schema() -> None:
    row = OutboxRow("id", "orders", "ключ", "Thing", '{"é":"😀"}' * 200_000, "", "tp")
    (entry,) = told(begun(Decoder()), inserted(row, b"2"))
    assert entry.record is not None
    assert entry.record.key == "ключ".encode()
    assert entry.record.value == row.payload.encode()
    assert entry.record.headers[-1] == ("schema", b"2")


@pytest.mark.parametrize("absent", [None, Unchanged.TOAST])
def test_a_row_without_one_of_its_values(absent: Value) -> None:
    values: list[Value] = [*(column.encode() for column in columns_of(made_row(1))), b"1"]
    values[4] = absent
    with pytest.raises(ProtocolError, match="the outbox row has no payload"):
        told(begun(Decoder()), made.insert(5, values))


def test_what_cannot_be_a_row_of_the_outbox() -> None:
    with pytest.raises(ProtocolError, match="unknown relation 5"):
        told(Decoder(), inserted(made_row(1)))
    with pytest.raises(ProtocolError, match=r"rows of public\.orders, not of outbox alone"):
        told(Decoder(), relation(table="orders"), inserted(made_row(1)))
    with pytest.raises(ProtocolError, match="the outbox has no column schema"):
        told(Decoder(), relation(*NAMES))
    with pytest.raises(ProtocolError, match="2 values for 8 columns"):
        told(begun(Decoder()), made.insert(5, (b"1", b"2")))


def test_updates_and_deletes_are_passed_over() -> None:
    assert told(begun(Decoder()), b"U...", b"D...", b"T...", b"M...") == []


def test_a_keepalive_moves_on_and_never_back() -> None:
    decoder = begun(Decoder())
    told(decoder, made.commit(90, 100, COMMIT_NS))
    assert decoder.keepalive(Keepalive(100, False)) == []
    assert decoder.keepalive(Keepalive(90, False)) == []
    assert decoder.keepalive(Keepalive(130, False)) == [Entry(None, 130)]
