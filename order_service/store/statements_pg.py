"""The SQL of the write path. Each save is one set-based statement with one JSON parameter; it fails (division by zero)
when it did not touch exactly the rows it should, so that COMMIT can travel in the same pipeline.

Microseconds become timestamps by `epoch + n * interval`, which is exact; `to_timestamp` would pass through a float.
"""

from __future__ import annotations

# A timestamp as exact microseconds.
US = "(extract(epoch FROM {0}) * 1000000)::bigint"
EPOCH = "timestamptz 'epoch' + {0} * interval '1 microsecond'"

# In the order of the fields of Account, EventRow, Order, Execution and Break.
ACCOUNT_COLUMNS = """id, status, account_seq, cash_available_micros, cash_reserved_micros, cash_unsettled_micros,
 open_orders, earlier_shares, rate_second, rate_count, recent, blocked_reason"""

EVENT_COLUMNS = "event_id::text, order_id::text, version, account_id, account_seq, type, cause, at_ns, exec_id, payload"

ORDER_COLUMNS = f"""id::text, account_id, order_type, type, symbol, quantity, amount_micros, tif, status, standing,
 pending, outcome, cum_qty, leaves_qty, cum_notional_micros, exchange_order_id, cl_ord_id, replaces, requests,
 asked_quantity, asked_micros, venue_seq, terms_seq, reserve_micros, fee_per_share_micros, fee_min_micros,
 idempotency_key, request_hash, reason, attempts, {US.format("next_attempt_at")}, {US.format("not_after_at")},
 version, account_seq, {US.format("created_at")}, {US.format("updated_at")}"""

EXECUTION_COLUMNS = """order_id::text, exec_id, venue_seq, kind, account_id, symbol, side, last_qty, last_micros,
 transact_ns, source, exec_ref_id"""

BREAK_COLUMNS = f"""kind, subject, order_id, account_id, ours, theirs, proposal, state, note,
 {US.format("first_seen")}"""

# -- load: lock first, in key order; all else in later statements, so that it is read after the lock was won -----------
LOCK_ACCOUNTS = f"""SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = ANY(%b::bigint[])
 ORDER BY id FOR NO KEY UPDATE"""

# An order's account never changes, so finding it in the statement that locks reads nothing that could be stale.
LOCK_ACCOUNTS_OF_ORDERS = f"""SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id = ANY(
 %b::bigint[] || ARRAY(SELECT DISTINCT account_id FROM orders WHERE id = ANY(%b::uuid[])))
 ORDER BY id FOR NO KEY UPDATE"""

# `+ 0` keeps the plan off the index of an account's orders.
LOAD_KEYS = f"""SELECT {ORDER_COLUMNS} FROM orders
 WHERE (account_id + 0, idempotency_key) IN (SELECT * FROM unnest(%b::bigint[], %b::text[]))"""

LOAD_ORDERS = f"SELECT {ORDER_COLUMNS} FROM orders WHERE id = ANY(%b::uuid[])"

LOAD_EXECUTIONS = f"""SELECT {EXECUTION_COLUMNS} FROM executions
 WHERE (order_id, fill_id) IN (SELECT * FROM unnest(%b::uuid[], %b::text[]))"""

LOAD_POSITIONS = """SELECT account_id, symbol, available, reserved, unsettled FROM positions
 WHERE (account_id, symbol) IN (SELECT * FROM unnest(%b::bigint[], %b::text[]))"""

LOAD_POSITIONS_OF_ORDERS = """SELECT account_id, symbol, available, reserved, unsettled FROM positions
 WHERE (account_id, symbol) IN (SELECT account_id, symbol FROM orders WHERE id = ANY(%b::uuid[]))"""

# -- save --------------------------------------------------------------------------------------------------------------
_ALL = "SELECT 1 / (count(*) = %s)::int FROM saved"

SAVE_ACCOUNTS = f"""WITH saved AS (UPDATE accounts SET account_seq = r.seq, status = r.status,
 cash_available_micros = r.available, cash_reserved_micros = r.reserved, cash_unsettled_micros = r.unsettled,
 open_orders = r.open_orders, earlier_shares = r.earlier_shares, rate_second = r.second, rate_count = r.in_second,
 recent = r.recent, blocked_reason = r.blocked_reason
 FROM json_to_recordset(%s::json) AS r(id bigint, seq bigint, status text, available bigint, reserved bigint,
 unsettled bigint, open_orders int, earlier_shares bigint, second bigint, in_second int, recent json,
 blocked_reason text)
 WHERE accounts.id = r.id RETURNING 1) {_ALL}"""

SAVE_POSITIONS = """INSERT INTO positions (account_id, symbol, available, reserved, unsettled)
 SELECT account_id, symbol, available, reserved, unsettled FROM json_to_recordset(%s::json)
 AS r(account_id bigint, symbol text, available bigint, reserved bigint, unsettled bigint)
 ON CONFLICT (account_id, symbol) DO UPDATE SET available = positions.available + excluded.available,
 reserved = positions.reserved + excluded.reserved, unsettled = positions.unsettled + excluded.unsettled"""

_CHANGING = """quantity bigint, amount_micros bigint, status text, standing text, pending text, outcome text,
 cum_qty bigint, leaves_qty bigint, cum_notional_micros bigint, exchange_order_id text, cl_ord_id text, replaces text,
 requests int, asked_quantity bigint, asked_micros bigint, venue_seq bigint, terms_seq bigint, reason json,
 attempts int, next_attempt_us bigint, version bigint, account_seq bigint, updated_us bigint"""

# A field that is not in the row has the value that a new order has (`rows.NewOrder`).
INSERT_ORDERS = f"""INSERT INTO orders (id, account_id, order_type, type, symbol, tif, reserve_micros,
 fee_per_share_micros, fee_min_micros, idempotency_key, request_hash, not_after_at, created_at, quantity, amount_micros,
 status, standing, pending, outcome, cum_qty, leaves_qty, cum_notional_micros, exchange_order_id, cl_ord_id, replaces,
 requests, asked_quantity, asked_micros, venue_seq, terms_seq, reason, attempts, next_attempt_at, version, account_seq,
 updated_at)
 SELECT id, account_id, order_type, type, symbol, tif, reserve_micros, coalesce(fee_per_share_micros, 0),
 coalesce(fee_min_micros, 0), idempotency_key, request_hash, {EPOCH.format("not_after_us")},
 {EPOCH.format("created_us")}, quantity, amount_micros, coalesce(status, 'PENDING'), coalesce(standing, 'PENDING'),
 pending, coalesce(outcome, 'unsent'), coalesce(cum_qty, 0), leaves_qty, coalesce(cum_notional_micros, 0),
 exchange_order_id, cl_ord_id, replaces, coalesce(requests, 1), asked_quantity, asked_micros, coalesce(venue_seq, 0),
 coalesce(terms_seq, 0), reason, coalesce(attempts, 0), {EPOCH.format("next_attempt_us")}, coalesce(version, 1),
 account_seq, {EPOCH.format("updated_us")}
 FROM json_to_recordset(%s::json) AS r(id uuid, account_id bigint, order_type text, type text, symbol text, tif text,
 reserve_micros bigint, fee_per_share_micros bigint, fee_min_micros bigint, idempotency_key text, request_hash text,
 not_after_us bigint, created_us bigint, {_CHANGING})"""

UPDATE_ORDERS = f"""WITH saved AS (UPDATE orders SET quantity = r.quantity, amount_micros = r.amount_micros,
 status = r.status, standing = r.standing, pending = r.pending, outcome = r.outcome, cum_qty = r.cum_qty,
 leaves_qty = r.leaves_qty, cum_notional_micros = r.cum_notional_micros, exchange_order_id = r.exchange_order_id,
 cl_ord_id = r.cl_ord_id, replaces = r.replaces, requests = r.requests, asked_quantity = r.asked_quantity,
 asked_micros = r.asked_micros, venue_seq = r.venue_seq, terms_seq = r.terms_seq, reason = r.reason,
 attempts = r.attempts, next_attempt_at = {EPOCH.format("r.next_attempt_us")}, version = r.version,
 account_seq = r.account_seq, updated_at = {EPOCH.format("r.updated_us")}
 FROM ROWS FROM (json_to_recordset(%s::json) AS (id uuid, {_CHANGING}), unnest(%b::bigint[])) AS r
 WHERE orders.id = r.id AND orders.version = r.unnest RETURNING 1) {_ALL}"""

# An event and the message about it have one text, so they are one statement: it is sent and read once.
INSERT_EVENTS = """WITH r AS MATERIALIZED (SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::bigint[], %b::bigint[],
 %b::bigint[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[])
 AS r(event_id, order_id, version, account_id, account_seq, type, cause, at_ns, exec_id, payload, idempotency_key,
 traceparent)), told AS (INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key,
 traceparent) SELECT event_id, 'order-events', account_id::text, type, payload, idempotency_key, traceparent FROM r)
 INSERT INTO order_events (event_id, order_id, version, account_id, account_seq, type, cause, at_ns, exec_id, payload)
 SELECT event_id, order_id, version, account_id, account_seq, type, cause, at_ns, exec_id, payload FROM r"""

INSERT_EXECUTIONS = """INSERT INTO executions (order_id, exec_id, venue_seq, kind, account_id, symbol, side, last_qty,
 last_micros, transact_ns, source, exec_ref_id, fill_id)
 SELECT order_id, exec_id, venue_seq, kind, account_id, symbol, side, last_qty, last_micros, transact_ns, source,
 exec_ref_id, fill_id
 FROM json_to_recordset(%s::json) AS r(order_id uuid, exec_id text, venue_seq bigint, kind text, account_id bigint,
 symbol text, side text, last_qty bigint, last_micros bigint, transact_ns bigint, source text, exec_ref_id text,
 fill_id text)"""

INSERT_LEDGER = f"""INSERT INTO ledger (event_id, line, order_id, asset, amount, source_account, source_book,
 target_account, target_book, at)
 SELECT event_id, line, order_id, asset, amount, source_account, source_book, target_account, target_book,
 {EPOCH.format("at_us")}
 FROM json_to_recordset(%s::json) AS r(event_id uuid, line smallint, order_id uuid, asset text, amount bigint,
 source_account bigint, source_book text, target_account bigint, target_book text, at_us bigint)"""

INSERT_OUTBOX = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent)
 SELECT * FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])"""

# A difference keeps its age. A closed one that is found again is opened again only when its numbers are others.
NOTE_BREAKS = f"""INSERT INTO breaks (id, kind, subject, order_id, account_id, ours, theirs, proposal, state, note,
 first_seen, last_seen)
 SELECT id, kind, subject, order_id, account_id, ours, theirs, proposal, state, note, {EPOCH.format("seen_us")},
 {EPOCH.format("seen_us")}
 FROM json_to_recordset(%s::json) AS r(id uuid, kind text, subject text, order_id text, account_id bigint, ours jsonb,
 theirs jsonb, proposal text, state text, note text, seen_us bigint) ORDER BY id
 ON CONFLICT (id) DO UPDATE SET order_id = excluded.order_id, account_id = excluded.account_id, ours = excluded.ours,
 theirs = excluded.theirs, proposal = excluded.proposal, state = excluded.state,
 note = coalesce(nullif(excluded.note, ''), breaks.note), last_seen = greatest(breaks.last_seen, excluded.last_seen),
 closed_by = NULL, closed_at = NULL
 WHERE breaks.state = 'open' OR breaks.ours <> excluded.ours OR breaks.theirs <> excluded.theirs"""

# -- read --------------------------------------------------------------------------------------------------------------
# Who may see: %(own)s is the asker's account, or null for those who may see all.
SEEN = "(%(own)s::bigint IS NULL OR account_id = %(own)s)"

FIND = f"SELECT {ORDER_COLUMNS} FROM orders WHERE id = %(id)s::uuid AND {SEEN}"
EVENTS = f"SELECT {EVENT_COLUMNS} FROM order_events WHERE order_id = %(id)s::uuid AND {SEEN} ORDER BY version"
EVENTS_SINCE = f"""SELECT {EVENT_COLUMNS} FROM order_events
 WHERE account_id = %(account)s AND account_seq > %(seq)s AND {SEEN} ORDER BY account_seq LIMIT %(limit)s"""

# One statement, so one moment. An account may have any number of ended orders: from the newest on, only as far back as
# the last of those that it has open. The account's number itself, not `a.id`, is what the planner knows the share of.
OPEN_ORDERS = """SELECT a.account_seq, o.id::text, o.version, o.status FROM accounts a LEFT JOIN LATERAL (
 SELECT id, version, status FROM orders WHERE account_id = %(account)s AND status <> ALL(%(final)s)
 ORDER BY orders.id DESC LIMIT greatest(a.open_orders, 0)) o ON true
 WHERE a.id = %(account)s AND (%(own)s::bigint IS NULL OR a.id = %(own)s)"""

ADD_ACCOUNT = "INSERT INTO accounts (id, name) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING"
