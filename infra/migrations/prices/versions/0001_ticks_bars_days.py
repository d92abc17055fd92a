"""Ticks, one-minute bars, days with their marks, offsets, instruments.

Only what TimescaleDB's Apache edition has: hypertables, no compression, no continuous aggregates, no policies.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A chunk should stay well inside memory with its index: at 760 ticks/s (a ten-fold replay of the six-symbol tape) two
# hours are 5.5 million rows. Bars are few: a week of one symbol is at most 10,080 rows.
TICKS = """
CREATE TABLE ticks (
    ts timestamptz NOT NULL,
    ns smallint NOT NULL,
    symbol text NOT NULL,
    session bigint NOT NULL,
    q bigint NOT NULL,
    kind "char" NOT NULL,
    price_micros bigint,
    size bigint,
    cond bigint,
    exch text,
    bid_micros bigint,
    bid_size bigint,
    ask_micros bigint,
    ask_size bigint,
    received_at timestamptz NOT NULL
);
COMMENT ON TABLE ticks IS
    'Every trade (kind T) and quote (kind Q) of the venue, once. Event time is ts plus ns nanoseconds.';
SELECT create_hypertable('ticks', by_range('ts', INTERVAL '2 hours'), create_default_indexes => false);
-- The last guard against doubles; ts is first so that rows are appended at the index's end.
CREATE UNIQUE INDEX ticks_identity ON ticks (ts, symbol, session, q);
"""

BARS = """
CREATE TABLE bars_1m (
    symbol text NOT NULL,
    bucket timestamptz NOT NULL,
    open_micros bigint,
    high_micros bigint,
    low_micros bigint,
    close_micros bigint,
    volume bigint NOT NULL,
    trades bigint NOT NULL,
    notional_micros numeric NOT NULL,
    first_ns bigint,
    first_session bigint,
    first_q bigint,
    last_ns bigint,
    last_session bigint,
    last_q bigint,
    PRIMARY KEY (symbol, bucket)
);
COMMENT ON TABLE bars_1m IS
    'One-minute bars by event time. first_ and last_ name the trades of open and close: a late trade corrects them.';
SELECT create_hypertable('bars_1m', by_range('bucket', INTERVAL '7 days'), create_default_indexes => false);
"""

# Rewritten with every batch: room on the page keeps the updates off the index (heap-only tuples).
MARKS = """
CREATE TABLE tick_marks (
    symbol text NOT NULL,
    session bigint NOT NULL,
    partition integer NOT NULL,
    contiguous_q bigint NOT NULL,
    newest_q bigint NOT NULL,
    day jsonb NOT NULL,
    PRIMARY KEY (symbol, session)
) WITH (fillfactor = 50);
COMMENT ON TABLE tick_marks IS
    'Which ticks of a symbol and session are stored, and the quote they make. newest_q above contiguous_q: a gap.';

CREATE TABLE partition_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE partition_offsets IS
    'The next offset to read, moved by compare-and-set in the transaction of the effects.';
"""

INSTRUMENTS = """
CREATE TABLE instruments (
    symbol text PRIMARY KEY,
    name text NOT NULL,
    tick_micros bigint NOT NULL,
    lot bigint NOT NULL,
    session bigint NOT NULL,
    previous_close_micros bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE instruments IS 'What the venue lists; the previous close belongs to the session.';
"""


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    for statements in (TICKS, BARS, MARKS, INSTRUMENTS):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE instruments, partition_offsets, tick_marks, bars_1m, ticks")
