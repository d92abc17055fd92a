"""Accounts, orders, their events and fills, the outbox, checkpoints."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "'PENDING','HELD','PLACED','PARTIALLY_FILLED','FILLED','CANCELED','REJECTED','EXPIRED','FAILED'"

ACCOUNTS = """
CREATE TABLE accounts (
    id          bigint      PRIMARY KEY CHECK (id > 0),
    name        text        NOT NULL,
    status      text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'blocked')),
    account_seq bigint      NOT NULL DEFAULT 0 CHECK (account_seq >= 0),
    created_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON COLUMN accounts.account_seq IS 'Number of the last event of the account. Its row lock orders all writes.';
"""

# A fill always counts, so nothing here forbids cum_qty > quantity; an overfill is recorded, not refused.
ORDERS = f"""
CREATE TABLE orders (
    id                  uuid        PRIMARY KEY,
    account_id          bigint      NOT NULL REFERENCES accounts (id),
    order_type          text        NOT NULL CHECK (order_type IN ('buy', 'sell')),
    type                text        NOT NULL CHECK (type IN ('LIMIT', 'MARKET')),
    symbol              text        NOT NULL CHECK (symbol <> ''),
    quantity            bigint      NOT NULL CHECK (quantity > 0),
    amount_micros       bigint      CHECK (amount_micros > 0),
    tif                 text        NOT NULL CHECK (tif IN ('DAY', 'GTC', 'IOC', 'FOK')),
    status              text        NOT NULL CHECK (status IN ({STATUSES})),
    pending             text        CHECK (pending IN ('cancel', 'replace')),
    outcome             text        NOT NULL CHECK (outcome IN ('unsent', 'confirmed', 'unknown', 'parked')),
    cum_qty             bigint      NOT NULL DEFAULT 0 CHECK (cum_qty >= 0),
    leaves_qty          bigint      NOT NULL CHECK (leaves_qty >= 0),
    cum_notional_micros bigint      NOT NULL DEFAULT 0 CHECK (cum_notional_micros >= 0),
    exchange_order_id   text,
    cl_ord_id           text        NOT NULL,
    requests            integer     NOT NULL CHECK (requests >= 1),
    venue_seq           bigint      NOT NULL DEFAULT 0 CHECK (venue_seq >= 0),
    idempotency_key     text        NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    request_hash        text        NOT NULL,
    reason              json,
    attempts            integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at     timestamptz,
    version             bigint      NOT NULL CHECK (version >= 1),
    account_seq         bigint      NOT NULL CHECK (account_seq >= 1),
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL CHECK (updated_at >= created_at),
    CONSTRAINT orders_limit_has_amount CHECK ((type = 'LIMIT') = (amount_micros IS NOT NULL)),
    CONSTRAINT orders_final_is_settled CHECK (
        status NOT IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED', 'FAILED') OR (leaves_qty = 0 AND pending IS NULL)
    ),
    CONSTRAINT orders_open_leaves CHECK (
        status IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED', 'FAILED')
        OR leaves_qty = greatest(quantity - cum_qty, 0)
    ),
    CONSTRAINT orders_filled_is_full CHECK (status <> 'FILLED' OR cum_qty >= quantity),
    CONSTRAINT orders_key UNIQUE (account_id, idempotency_key)
) WITH (fillfactor = 70);
CREATE INDEX orders_of_account ON orders (account_id, id);
"""

ORDER_EVENTS = """
CREATE TABLE order_events (
    event_id    uuid   PRIMARY KEY,
    order_id    uuid   NOT NULL,
    version     bigint NOT NULL CHECK (version >= 1),
    account_id  bigint NOT NULL,
    account_seq bigint NOT NULL CHECK (account_seq >= 1),
    type        text   NOT NULL,
    cause       text   NOT NULL,
    at_ns       bigint NOT NULL,
    exec_id     text,
    payload     text   NOT NULL,
    CONSTRAINT order_events_version UNIQUE (order_id, version),
    CONSTRAINT order_events_account_seq UNIQUE (account_id, account_seq)
);
CREATE FUNCTION order_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order_events is append-only';
END $$;
CREATE TRIGGER order_events_append_only BEFORE UPDATE OR DELETE ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION order_events_are_append_only();
"""

# ExecID is unique per venue and session, and an order may live through sessions; its own report number (venue_seq)
# tells two fills of different sessions apart.
EXECUTIONS = """
CREATE TABLE executions (
    order_id    uuid        NOT NULL,
    exec_id     text        NOT NULL,
    venue_seq   bigint      NOT NULL,
    account_id  bigint      NOT NULL,
    last_qty    bigint      NOT NULL CHECK (last_qty > 0),
    last_micros bigint      NOT NULL CHECK (last_micros > 0),
    transact_ns bigint      NOT NULL,
    source      text        NOT NULL,
    booked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, exec_id, venue_seq)
);
"""

# The columns of Debezium's outbox event router. `created_at` is the transaction's time by the database's clock.
OUTBOX = """
CREATE TABLE outbox (
    id              uuid        NOT NULL,
    aggregatetype   text        NOT NULL,
    aggregateid     text        NOT NULL,
    type            text        NOT NULL,
    payload         text        NOT NULL,
    idempotency_key text        NOT NULL,
    traceparent     text        NOT NULL,
    schema          text        NOT NULL DEFAULT '1',
    created_at      timestamptz NOT NULL DEFAULT now(),
    seq             bigint      GENERATED ALWAYS AS IDENTITY,
    published_at    timestamptz,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);
"""

REST = """
CREATE TABLE checkpoints (
    name       text        PRIMARY KEY,
    position   text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE instruments (
    symbol      text   PRIMARY KEY,
    name        text   NOT NULL,
    tick_micros bigint NOT NULL CHECK (tick_micros > 0),
    lot         bigint NOT NULL CHECK (lot > 0)
);
"""


def upgrade() -> None:
    for statements in (ACCOUNTS, ORDERS, ORDER_EVENTS, EXECUTIONS, OUTBOX, REST):
        op.execute(statements)
