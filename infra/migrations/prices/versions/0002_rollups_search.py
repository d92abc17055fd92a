"""Hours and days rolled up from minutes, what is still to be rolled up, corporate actions, search by likeness.

Still only what TimescaleDB's Apache edition has.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Retention goes by when our house took a trade, not by the venue's clock, which may be a recorded day's.
RECEIVED = """
ALTER TABLE bars_1m ADD COLUMN received_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN bars_1m.received_at IS 'When our house last added to this bar.';
"""

_ROLLED = """
    symbol text NOT NULL,
    bucket timestamptz NOT NULL,
    open_micros bigint,
    high_micros bigint,
    low_micros bigint,
    close_micros bigint,
    volume bigint NOT NULL,
    trades bigint NOT NULL,
    notional_micros numeric NOT NULL,
    PRIMARY KEY (symbol, bucket)
"""

ROLLED = f"""
CREATE TABLE bars_1h ({_ROLLED});
COMMENT ON TABLE bars_1h IS 'Hours of the clock, rolled up from bars_1m.';
SELECT create_hypertable('bars_1h', by_range('bucket', INTERVAL '90 days'), create_default_indexes => false);
CREATE TABLE bars_1d ({_ROLLED});
COMMENT ON TABLE bars_1d IS 'Calendar days in New York, rolled up from bars_1m; bucket is that day''s midnight there.';

-- Written in the transaction of the bars, taken away in the transaction of the roll-up.
CREATE TABLE bars_dirty (
    partition integer NOT NULL,
    symbol text NOT NULL,
    hour timestamptz NOT NULL,
    PRIMARY KEY (partition, symbol, hour)
);
COMMENT ON TABLE bars_dirty IS 'Hours whose minutes have changed since they were rolled up, by partition of `prices`.';

CREATE TABLE seeded (
    symbol text PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON TABLE seeded IS 'Symbols whose bars before this moment were made up for a first day''s charts.';
"""

ACTIONS = """
CREATE TABLE corporate_actions (
    symbol text NOT NULL,
    ex_date date NOT NULL,
    kind text NOT NULL CHECK (kind IN ('split', 'dividend')),
    price_numerator bigint NOT NULL CHECK (price_numerator > 0),
    price_denominator bigint NOT NULL CHECK (price_denominator > 0),
    PRIMARY KEY (symbol, ex_date, kind)
);
COMMENT ON TABLE corporate_actions IS
    'Prices before ex_date, times numerator / denominator, compare with those after it; a split divides sizes too.';
"""

SEARCH = """
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE INDEX instruments_symbol_like ON instruments USING gin (symbol gin_trgm_ops);
CREATE INDEX instruments_name_like ON instruments USING gin (upper(name) gin_trgm_ops);
"""


def upgrade() -> None:
    for statements in (RECEIVED, ROLLED, ACTIONS, SEARCH):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP INDEX instruments_symbol_like, instruments_name_like")
    op.execute("DROP TABLE corporate_actions, seeded, bars_dirty, bars_1d, bars_1h")
    op.execute("ALTER TABLE bars_1m DROP COLUMN received_at")
