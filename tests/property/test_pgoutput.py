"""Whatever a server encodes is decoded, and no cut or noise is taken for something else."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from outbox_relay import pgoutput
from outbox_relay.pgoutput import Begin, Commit, Insert, Keepalive, ProtocolError, Relation, Unchanged, WalData
from tests import pgoutput_bytes as made

lsns = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**32 - 1)
times_ns = st.integers(-(10**9), 4 * 10**9).map(lambda s: s * 1_000_000_000 + 123_000)
names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
texts = st.text(st.characters(codec="utf-8"), max_size=300)
values = st.lists(st.one_of(st.none(), st.just(Unchanged.TOAST), texts.map(str.encode)), max_size=20).map(tuple)


@settings(deadline=None)
@given(lsns, lsns, times_ns, numbers)
def test_begin_and_commit(first: int, second: int, at_ns: int, xid: int) -> None:
    assert pgoutput.message(made.begin(first, at_ns, xid)) == Begin(first, at_ns, xid)
    assert pgoutput.message(made.commit(first, second, at_ns)) == Commit(first, second, at_ns)


@settings(deadline=None)
@given(numbers, names, names, st.lists(names, max_size=20).map(tuple))
def test_relations(number: int, schema: str, name: str, columns: tuple[str, ...]) -> None:
    assert pgoutput.message(made.relation(number, schema, name, columns)) == Relation(number, schema, name, columns)


@settings(deadline=None)
@given(numbers, values)
def test_rows(number: int, row: tuple[pgoutput.Value, ...]) -> None:
    assert pgoutput.message(made.insert(number, row)) == Insert(number, row)


@settings(deadline=None)
@given(st.permutations(["id", "payload", "type", "seq"]))
def test_columns_by_name(columns: list[str]) -> None:
    decoded = pgoutput.message(made.insert(1, [f"value of {c}".encode() for c in columns]))
    assert isinstance(decoded, Insert)
    assert pgoutput.row(Relation(1, "s", "t", tuple(columns)), decoded) == {
        c: f"value of {c}".encode() for c in columns
    }


@settings(deadline=None)
@given(lsns, lsns, st.binary(max_size=200), st.booleans())
def test_frames(start: int, end: int, payload: bytes, reply: bool) -> None:
    assert pgoutput.frame(made.wal_data(start, end, payload)) == WalData(start, end, payload)
    assert pgoutput.frame(made.keepalive(end, reply)) == Keepalive(end, reply)


@settings(deadline=None)
@given(numbers, values.filter(len), st.data())
def test_a_cut_message_is_an_error(number: int, row: tuple[pgoutput.Value, ...], data: st.DataObject) -> None:
    whole = made.insert(number, row)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with contextlib.suppress(ProtocolError):
        raise AssertionError(f"decoded {pgoutput.message(whole[:cut])}")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_decoded_or_refused(noise: bytes) -> None:
    for decode in (pgoutput.message, pgoutput.frame):
        with contextlib.suppress(ProtocolError):
            decode(noise)


@settings(deadline=None)
@given(lsns)
def test_positions_as_text(lsn: int) -> None:
    assert pgoutput.lsn_of(pgoutput.lsn_text(lsn)) == lsn
