"""The index of the dead-letter topics, and the switches that operators set."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# `topic` is where the record was read first and goes back to; the place there is known when the record says it.
# `headers` is a list of [name, base64], whose order and doubles count. `seq` is the order of arrival in the index.
DEAD_LETTERS = """
CREATE TABLE dead_letters (
    id                 uuid        PRIMARY KEY,
    seq                bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,
    dlq_topic          text        NOT NULL,
    dlq_partition      integer     NOT NULL CHECK (dlq_partition >= 0),
    dlq_offset         bigint      NOT NULL CHECK (dlq_offset >= 0),
    topic              text        NOT NULL,
    original_partition bigint,
    original_offset    bigint,
    key                bytea,
    value              bytea,
    headers            json        NOT NULL,
    code               text        NOT NULL CHECK (code <> ''),
    text               text        NOT NULL,
    consumer           text        NOT NULL,
    order_id           text,
    parked_at          timestamptz NOT NULL,
    replays            integer     NOT NULL DEFAULT 0 CHECK (replays >= 0),
    state              text        NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'replayed', 'discarded')),
    state_at           timestamptz,
    state_by           text,
    state_reason       text,
    CONSTRAINT dead_letters_place UNIQUE (dlq_topic, dlq_partition, dlq_offset),
    CONSTRAINT dead_letters_change_is_signed CHECK (
        state = 'parked' OR (state_at IS NOT NULL AND state_by IS NOT NULL AND state_reason <> '')
    )
);
COMMENT ON COLUMN dead_letters.replays IS 'How often the record had been replayed before it was parked again.';
CREATE INDEX dead_letters_by_topic ON dead_letters (topic, seq);
CREATE INDEX dead_letters_by_code ON dead_letters (code, seq);
CREATE INDEX dead_letters_by_state ON dead_letters (state, seq);
CREATE INDEX dead_letters_of_order ON dead_letters (order_id, seq) WHERE order_id IS NOT NULL;
CREATE INDEX dead_letters_that_block ON dead_letters (topic, order_id) WHERE state = 'parked' AND order_id IS NOT NULL;
"""

SWITCHES = """
CREATE TABLE switches (
    scope  text   PRIMARY KEY CHECK (scope ~ '^(global|symbol:.{1,12}|account:[1-9][0-9]*)$'),
    mode   text   NOT NULL CHECK (mode IN ('normal', 'cancel_only', 'reduce_only')),
    reason text   NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    by     text   NOT NULL CHECK (by <> ''),
    at_ns  bigint NOT NULL
);
COMMENT ON TABLE switches IS 'The last word on each scope; mode normal is a switch that was lifted.';
"""


def upgrade() -> None:
    for statements in (DEAD_LETTERS, SWITCHES):
        op.execute(statements)
