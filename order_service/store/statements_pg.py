"""The SQL of the write path. Each save is one set-based statement with one JSON parameter; it fails (division by zero)
when it did not touch exactly the rows it should, so that COMMIT can travel in the same pipeline.

Microseconds become timestamps by `epoch + n * interval`, which is exact; `to_timestamp` would pass through a float.
"""

from __future__ import annotations

# A timestamp as exact microseconds.
_US = "(extract(epoch FROM {0}) * 1000000)::bigint"

ORDER_COLUMNS = f"""id::text, account_id, order_type, type, symbol, quantity, amount_micros, tif, status, pending,
 outcome, cum_qty, leaves_qty, cum_notional_micros, exchange_order_id, cl_ord_id, requests, venue_seq, idempotency_key,
 request_hash, reason, attempts, {_US.format("next_attempt_at")}, version, account_seq,
 {_US.format("created_at")}, {_US.format("updated_at")}"""

EVENT_COLUMNS = "event_id::text, order_id::text, version, account_id, account_seq, type, cause, at_ns, exec_id, payload"

# -- load: lock first, in key order; all else in later statements, so that it is read after the lock was won -----------
LOCK_ACCOUNTS = """SELECT id, status, account_seq FROM accounts WHERE id = ANY(%s::bigint[])
 ORDER BY id FOR NO KEY UPDATE"""

# An order's account never changes, so finding it in the statement that locks reads nothing that could be stale.
LOCK_ACCOUNTS_OF_ORDERS = """SELECT id, status, account_seq FROM accounts WHERE id = ANY(
 %s::bigint[] || ARRAY(SELECT DISTINCT account_id FROM orders WHERE id = ANY(%s::uuid[])))
 ORDER BY id FOR NO KEY UPDATE"""

LOAD_KEYS = f"""SELECT {ORDER_COLUMNS} FROM orders
 WHERE (account_id, idempotency_key) IN (SELECT * FROM unnest(%s::bigint[], %s::text[]))"""

LOAD_ORDERS = f"SELECT {ORDER_COLUMNS} FROM orders WHERE id = ANY(%s::uuid[])"

LOAD_FILLS = """SELECT order_id::text, exec_id, venue_seq, account_id, last_qty, last_micros, transact_ns, source
 FROM executions WHERE (order_id, exec_id) IN (SELECT * FROM unnest(%s::uuid[], %s::text[]))"""

# -- save --------------------------------------------------------------------------------------------------------------
_ALL = "SELECT 1 / (count(*) = %s)::int FROM saved"

SAVE_ACCOUNTS = f"""WITH saved AS (UPDATE accounts SET account_seq = r.seq
 FROM json_to_recordset(%s::json) AS r(id bigint, seq bigint) WHERE accounts.id = r.id RETURNING 1) {_ALL}"""

_CHANGING = """status text, pending text, outcome text, cum_qty bigint, leaves_qty bigint, cum_notional_micros bigint,
 exchange_order_id text, cl_ord_id text, requests int, venue_seq bigint, reason json, attempts int,
 next_attempt_us bigint, version bigint, account_seq bigint, updated_us bigint"""

_EPOCH = "timestamptz 'epoch' + {0} * interval '1 microsecond'"

INSERT_ORDERS = f"""INSERT INTO orders (id, account_id, order_type, type, symbol, quantity, amount_micros, tif,
 idempotency_key, request_hash, created_at, status, pending, outcome, cum_qty, leaves_qty, cum_notional_micros,
 exchange_order_id, cl_ord_id, requests, venue_seq, reason, attempts, next_attempt_at, version, account_seq, updated_at)
 SELECT id, account_id, order_type, type, symbol, quantity, amount_micros, tif, idempotency_key, request_hash,
 {_EPOCH.format("created_us")}, status, pending, outcome, cum_qty, leaves_qty, cum_notional_micros, exchange_order_id,
 cl_ord_id, requests, venue_seq, reason, attempts, {_EPOCH.format("next_attempt_us")}, version, account_seq,
 {_EPOCH.format("updated_us")}
 FROM json_to_recordset(%s::json) AS r(id uuid, account_id bigint, order_type text, type text, symbol text,
 quantity bigint, amount_micros bigint, tif text, idempotency_key text, request_hash text, created_us bigint,
 {_CHANGING})"""

UPDATE_ORDERS = f"""WITH saved AS (UPDATE orders SET status = r.status, pending = r.pending, outcome = r.outcome,
 cum_qty = r.cum_qty, leaves_qty = r.leaves_qty, cum_notional_micros = r.cum_notional_micros,
 exchange_order_id = r.exchange_order_id, cl_ord_id = r.cl_ord_id, requests = r.requests, venue_seq = r.venue_seq,
 reason = r.reason, attempts = r.attempts, next_attempt_at = {_EPOCH.format("r.next_attempt_us")}, version = r.version,
 account_seq = r.account_seq, updated_at = {_EPOCH.format("r.updated_us")}
 FROM json_to_recordset(%s::json) AS r(id uuid, loaded_version bigint, {_CHANGING})
 WHERE orders.id = r.id AND orders.version = r.loaded_version RETURNING 1) {_ALL}"""

INSERT_EVENTS = """INSERT INTO order_events (event_id, order_id, version, account_id, account_seq, type, cause, at_ns,
 exec_id, payload)
 SELECT event_id, order_id, version, account_id, account_seq, type, cause, at_ns, exec_id, payload
 FROM json_to_recordset(%s::json) AS r(event_id uuid, order_id uuid, version bigint, account_id bigint,
 account_seq bigint, type text, cause text, at_ns bigint, exec_id text, payload text)"""

INSERT_FILLS = """INSERT INTO executions (order_id, exec_id, venue_seq, account_id, last_qty, last_micros, transact_ns,
 source)
 SELECT order_id, exec_id, venue_seq, account_id, last_qty, last_micros, transact_ns, source
 FROM json_to_recordset(%s::json) AS r(order_id uuid, exec_id text, venue_seq bigint, account_id bigint,
 last_qty bigint, last_micros bigint, transact_ns bigint, source text)"""

INSERT_OUTBOX = """INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent)
 SELECT id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent
 FROM json_to_recordset(%s::json) AS r(id uuid, aggregatetype text, aggregateid text, type text, payload text,
 idempotency_key text, traceparent text)"""

# -- read --------------------------------------------------------------------------------------------------------------
# Who may see: %(own)s is the asker's account, or null for those who may see all.
_SEEN = "(%(own)s::bigint IS NULL OR account_id = %(own)s)"

FIND = f"SELECT {ORDER_COLUMNS} FROM orders WHERE id = %(id)s::uuid AND {_SEEN}"
EVENTS = f"SELECT {EVENT_COLUMNS} FROM order_events WHERE order_id = %(id)s::uuid AND {_SEEN} ORDER BY version"
EVENTS_SINCE = f"""SELECT {EVENT_COLUMNS} FROM order_events
 WHERE account_id = %(account)s AND account_seq > %(seq)s AND {_SEEN} ORDER BY account_seq LIMIT %(limit)s"""

ADD_ACCOUNT = "INSERT INTO accounts (id, name) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING"
