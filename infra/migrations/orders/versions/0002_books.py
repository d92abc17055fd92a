"""The books (balances, positions, ledger), busts and corrections, replaces, breaks."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The balances are in the account's row: it is locked and written by every change anyway. Nothing here forbids a
# negative balance: a fill always counts, and whether an order is covered is decided before it is stored.
ACCOUNTS = """
ALTER TABLE accounts
    ADD COLUMN cash_available_micros bigint NOT NULL DEFAULT 0,
    ADD COLUMN cash_reserved_micros  bigint NOT NULL DEFAULT 0,
    ADD COLUMN cash_unsettled_micros bigint NOT NULL DEFAULT 0,
    ADD COLUMN open_orders    integer NOT NULL DEFAULT 0 CHECK (open_orders >= 0),
    ADD COLUMN earlier_shares bigint  NOT NULL DEFAULT 0 CHECK (earlier_shares >= 0),
    ADD COLUMN rate_second    bigint  NOT NULL DEFAULT 0,
    ADD COLUMN rate_count     integer NOT NULL DEFAULT 0,
    ADD COLUMN recent         json,
    ADD COLUMN blocked_reason text    NOT NULL DEFAULT '';
CREATE FUNCTION accounts_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'accounts are never deleted';
END $$;
CREATE TRIGGER accounts_stay BEFORE DELETE ON accounts FOR EACH STATEMENT EXECUTE FUNCTION accounts_stay();
"""

# That an order's account exists needs no foreign key, which would look each one up again: an order is stored together
# with its account's row, which the same transaction has locked, and no account is ever deleted.
# The key comes first in its index: beside `orders_of_account`, which begins with the account too, a plan made on an
# empty table would look a key up among all orders of its account.
ORDERS = """
ALTER TABLE orders
    ADD COLUMN standing text,
    ADD COLUMN replaces text,
    ADD COLUMN asked_quantity bigint CHECK (asked_quantity > 0),
    ADD COLUMN asked_micros bigint CHECK (asked_micros > 0),
    ADD COLUMN terms_seq bigint NOT NULL DEFAULT 0 CHECK (terms_seq >= 0),
    ADD COLUMN reserve_micros bigint CHECK (reserve_micros > 0),
    ADD COLUMN fee_per_share_micros bigint NOT NULL DEFAULT 0 CHECK (fee_per_share_micros >= 0),
    ADD COLUMN fee_min_micros bigint NOT NULL DEFAULT 0 CHECK (fee_min_micros >= 0),
    ADD COLUMN not_after_at timestamptz,
    DROP CONSTRAINT orders_cum_qty_check,
    DROP CONSTRAINT orders_cum_notional_micros_check;
UPDATE orders SET standing = CASE WHEN status IN ('FILLED', 'PARTIALLY_FILLED') THEN 'PLACED' ELSE status END;
ALTER TABLE orders
    ALTER COLUMN standing SET NOT NULL,
    DROP CONSTRAINT orders_final_is_settled,
    -- A fill answers no cancel or replace: that stays awaited until the exchange answers it or the order ends.
    ADD CONSTRAINT orders_final_is_settled CHECK (
        status NOT IN ('FILLED', 'CANCELED', 'REJECTED', 'EXPIRED', 'FAILED') OR leaves_qty = 0
    ),
    ADD CONSTRAINT orders_ended_awaits_nothing CHECK (
        standing NOT IN ('CANCELED', 'REJECTED', 'EXPIRED', 'FAILED') OR pending IS NULL
    ),
    ADD CONSTRAINT orders_standing CHECK (
        standing IN ('PENDING', 'HELD', 'PLACED', 'CANCELED', 'REJECTED', 'EXPIRED', 'FAILED')
    ),
    ADD CONSTRAINT orders_asked CHECK (
        (pending = 'replace') IS TRUE OR (asked_quantity IS NULL AND asked_micros IS NULL)
    );
ALTER TABLE orders
    DROP CONSTRAINT orders_account_id_fkey,
    DROP CONSTRAINT orders_key,
    ADD CONSTRAINT orders_key UNIQUE (idempotency_key, account_id);
CREATE INDEX orders_due ON orders (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
"""

# The order and its version identify an event; that its id is unique too, nobody asks.
ORDER_EVENTS = """
ALTER TABLE order_events DROP CONSTRAINT order_events_pkey, DROP CONSTRAINT order_events_version,
    ADD CONSTRAINT order_events_version PRIMARY KEY (order_id, version);
"""

POSITIONS = """
CREATE TABLE positions (
    account_id bigint NOT NULL REFERENCES accounts (id),
    symbol     text   NOT NULL,
    available  bigint NOT NULL DEFAULT 0,
    reserved   bigint NOT NULL DEFAULT 0,
    unsettled  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, symbol)
) WITH (fillfactor = 70);
"""

# Every row is balanced by itself: an amount goes from one book to another. Account 0 is the house.
LEDGER = """
CREATE TABLE ledger (
    event_id       uuid        NOT NULL,
    line           smallint    NOT NULL CHECK (line >= 0),
    order_id       uuid,
    asset          text        NOT NULL,
    amount         bigint      NOT NULL CHECK (amount > 0),
    source_account bigint      NOT NULL,
    source_book    text        NOT NULL,
    target_account bigint      NOT NULL,
    target_book    text        NOT NULL,
    at             timestamptz NOT NULL,
    PRIMARY KEY (event_id, line)
);
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger is append-only';
END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
"""

# `fill_id` is the ExecID of the fill that the row is, or is about.
EXECUTIONS = """
ALTER TABLE executions
    ADD COLUMN kind text NOT NULL DEFAULT 'fill' CHECK (kind IN ('fill', 'bust', 'correct')),
    ADD COLUMN exec_ref_id text,
    ADD COLUMN fill_id text,
    ADD COLUMN symbol text NOT NULL DEFAULT '',
    ADD COLUMN side text NOT NULL DEFAULT '',
    DROP CONSTRAINT executions_last_qty_check,
    DROP CONSTRAINT executions_last_micros_check,
    ADD CONSTRAINT executions_terms CHECK (kind = 'bust' OR (last_qty > 0 AND last_micros > 0));
UPDATE executions SET fill_id = exec_id, symbol = orders.symbol, side = orders.order_type
    FROM orders WHERE orders.id = executions.order_id;
ALTER TABLE executions ALTER COLUMN fill_id SET NOT NULL;
CREATE INDEX executions_of_fill ON executions (order_id, fill_id);
"""

BREAKS = """
CREATE TABLE breaks (
    id         uuid        PRIMARY KEY,
    kind       text        NOT NULL,
    subject    text        NOT NULL,
    order_id   text,
    account_id bigint,
    ours       jsonb       NOT NULL,
    theirs     jsonb       NOT NULL,
    proposal   text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('open', 'repaired', 'explained', 'accepted')),
    note       text        NOT NULL DEFAULT '',
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL,
    closed_by  text,
    closed_at  timestamptz
);
CREATE INDEX breaks_by_state ON breaks (state, first_seen);
"""


def upgrade() -> None:
    for statements in (ACCOUNTS, ORDERS, ORDER_EVENTS, POSITIONS, LEDGER, EXECUTIONS, BREAKS):
        op.execute(statements)
