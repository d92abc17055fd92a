"""The decoder: each message, and what happens with those that should not come."""

from __future__ import annotations

import struct

import pytest

from outbox_relay import pgoutput
from outbox_relay.pgoutput import (
    Begin,
    Commit,
    Ignored,
    Insert,
    Keepalive,
    ProtocolError,
    Relation,
    Unchanged,
    WalData,
    lsn_of,
    lsn_text,
)
from tests import pgoutput_bytes as made

SECOND = 1_000_000_000


def test_frames() -> None:
    assert pgoutput.frame(made.wal_data(1, 2, b"xyz")) == WalData(1, 2, b"xyz")
    assert pgoutput.frame(made.keepalive(2**40, True)) == Keepalive(2**40, True)
    assert pgoutput.frame(made.keepalive(7, False)) == Keepalive(7, False)


def test_a_transaction() -> None:
    at_ns = 1_700_000_000 * SECOND + 123_456_000
    columns = ("id", "payload", "note")
    assert pgoutput.message(made.begin(10, at_ns, 77)) == Begin(10, at_ns, 77)
    assert pgoutput.message(made.relation(5, "public", "outbox", columns)) == Relation(5, "public", "outbox", columns)
    large = ("é" * 1_000_000).encode()
    assert pgoutput.message(made.insert(5, (b"1", large, None))) == Insert(5, (b"1", large, None))
    assert pgoutput.message(made.commit(10, 12, at_ns)) == Commit(10, 12, at_ns)


def test_times_before_the_servers_epoch() -> None:
    assert pgoutput.message(made.begin(1, 0, 1)) == Begin(1, 0, 1)


def test_columns_are_found_by_name_whatever_their_order() -> None:
    for columns in (("id", "payload"), ("payload", "id")):
        relation = Relation(5, "public", "outbox", columns)
        values = {"id": b"1", "payload": b"{}"}
        insert = pgoutput.message(made.insert(5, [values[c] for c in columns]))
        assert isinstance(insert, Insert)
        assert pgoutput.row(relation, insert) == values


def test_null_empty_and_unchanged_are_three_things() -> None:
    insert = pgoutput.message(made.insert(5, (None, b"", Unchanged.TOAST)))
    assert insert == Insert(5, (None, b"", Unchanged.TOAST))


def test_a_row_that_does_not_fit_its_relation() -> None:
    with pytest.raises(ProtocolError, match="2 values for 1 columns"):
        pgoutput.row(Relation(5, "public", "outbox", ("id",)), Insert(5, (b"1", b"2")))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"U...", "update"), (b"D", "delete"), (b"T", "truncate"), (b"Y", "type"), (b"O", "origin"), (b"M", "message")],
)
def test_what_an_insert_only_reader_ignores(data: bytes, kind: str) -> None:
    assert pgoutput.message(data) == Ignored(kind)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"S1234", "stream start"),
        (b"b", "begin prepare"),
        (b"Z", "unknown message b'Z'"),
        (b"", "cut at byte 0"),
        (b"B\0\0", "cut at byte 3"),
        (b"R\0\0\0\5public", "without an end"),
        (b"R\0\0\0\5\xff\xfe\0", "not UTF-8"),
        (b"I\0\0", "cut: an insert of 3 bytes"),
        (struct.pack(">cIcH", b"I", 5, b"K", 0), "an insert must bring a new row"),
        (struct.pack(">cIcH", b"I", 5, b"N", 2) + b"n", "cut: 1 columns of 2"),
        (struct.pack(">cIcH", b"I", 5, b"N", 1) + b"b\0\0\0\1x", "binary values were not asked for"),
        (struct.pack(">cIcH", b"I", 5, b"N", 1) + b"t\0\0\0\5abc", "cut: a value ends at byte 18 of 16"),
    ],
)
def test_a_clear_error(data: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        pgoutput.message(data)


@pytest.mark.parametrize("data", [b"", b"x", b"k\0", b"w" + b"\0" * 23])
def test_frames_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        pgoutput.frame(data)


def test_the_answer_to_the_server() -> None:
    update = pgoutput.standby_status(0x16B374D848, 946_684_801 * SECOND)
    assert update == b"r" + (0x16B374D848).to_bytes(8, "big") * 3 + (1_000_000).to_bytes(8, "big") + b"\0"
    assert len(update) == 34


def test_positions_as_text() -> None:
    assert lsn_text(0x16B374D848) == "16/B374D848"
    assert lsn_of("16/B374D848") == 0x16B374D848
    assert lsn_text(0) == "0/0"
