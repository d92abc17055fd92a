"""The peer of our write path: pgbench running the statements that one order of ours makes, one order a transaction.

Its order, event and messages are as long as ours: the texts are taken from an order that our own code wrote. Its plans
are pinned as ours are.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.stack import rooted
from infra.stack.postgres import ADMIN, BIN
from order_service.store import statements_pg as sql
from order_service.store.orders_pg import INDEX_PLANS
from order_service.store.unit import Unit
from tests.bench.figures import percentile

CLIENTS = 64

# A buy reserves cash, a sell reserves shares; each reads and writes what ours reads and writes for it.
LOAD = """\\set account random(1, {accounts})
\\set n random(1, 4000000000000000000)
{start}BEGIN;
SELECT {account_columns} FROM accounts WHERE id = :account FOR NO KEY UPDATE;
SELECT {order_columns} FROM orders WHERE account_id + 0 = :account AND idempotency_key = md5(:n::text);
"""
LOAD_POSITION = """SELECT available, reserved, unsettled FROM positions WHERE account_id = :account AND symbol = 'AAPL';
"""
SAVE = """INSERT INTO orders (id, account_id, order_type, type, symbol, tif, reserve_micros, fee_per_share_micros,
 fee_min_micros, idempotency_key, request_hash, not_after_at, created_at, quantity, amount_micros, status, standing,
 pending, outcome, cum_qty, leaves_qty, cum_notional_micros, exchange_order_id, cl_ord_id, replaces, requests,
 asked_quantity, asked_micros, venue_seq, terms_seq, reason, attempts, next_attempt_at, version, account_seq,
 updated_at)
 VALUES (md5(:n::text)::uuid, :account, '{side}', 'LIMIT', 'AAPL', 'DAY', NULL, 5000, 1000000, md5(:n::text),
 repeat('0', 64), NULL, now(), 10, 580250000, 'PENDING', 'PENDING', NULL, 'unsent', 0, 10, 0, NULL,
 md5(:n::text) || '-1', NULL, 1, NULL, NULL, 0, 0, NULL, 0, NULL, 1, 1, now());
INSERT INTO order_events (event_id, order_id, version, account_id, account_seq, type, cause, at_ns, exec_id, payload)
 VALUES (md5(:n::text || 'e')::uuid, md5(:n::text)::uuid, 1, :account, :n, 'OrderPlaced', 'client bench', 1, NULL,
 '{event}');
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, idempotency_key, traceparent) VALUES
 (md5(:n::text || 'e')::uuid, 'order-events', :account::text, 'OrderPlaced', '{event}', md5(:n::text), '{trace}'),
 (md5(:n::text || 'c')::uuid, 'orders', md5(:n::text)::uuid::text, 'submit', '{command}', md5(:n::text), '{trace}');
INSERT INTO ledger (event_id, line, order_id, asset, amount, source_account, source_book, target_account, target_book,
 at) VALUES (md5(:n::text || 'e')::uuid, 0, md5(:n::text)::uuid, '{asset}', 10, :account, 'available', :account,
 'reserved', now());
UPDATE accounts SET account_seq = account_seq + 1, status = 'active', open_orders = open_orders + 1,
 cash_available_micros = cash_available_micros - {cash}, cash_reserved_micros = cash_reserved_micros + {cash},
 cash_unsettled_micros = 0, earlier_shares = 0, rate_second = 1, rate_count = 1,
 recent = '[["0000000000000000000000000000000000000000000000000000000000000000",1700000000000000]]',
 blocked_reason = '' WHERE id = :account;
"""
SAVE_POSITION = """INSERT INTO positions (account_id, symbol, available, reserved, unsettled)
 VALUES (:account, 'AAPL', -10, 10, 0) ON CONFLICT (account_id, symbol) DO UPDATE SET
 available = positions.available + excluded.available, reserved = positions.reserved + excluded.reserved,
 unsettled = positions.unsettled + excluded.unsettled;
"""
END = """COMMIT;
{end}"""


@dataclass(frozen=True, slots=True)
class Peer:
    """Orders per second, and percentiles of a whole transaction."""

    per_second: float
    p50_ms: float
    p99_ms: float
    orders: int


def scripts(sample: Unit, accounts: int, pipelined: bool) -> list[str]:
    """One for buys and one for sells, as often as each other."""
    event = sample.events[0].payload
    command = next(row for row in sample.outbox if row.aggregatetype == "orders")
    values = {
        "accounts": accounts,
        "account_columns": sql.ACCOUNT_COLUMNS,
        "order_columns": sql.ORDER_COLUMNS,
        "event": _literal(event),
        "command": _literal(command.payload),
        "trace": command.traceparent,
        "start": "\\startpipeline\n" if pipelined else "",
        "end": "\\endpipeline\n" if pipelined else "",
    }
    buy = (LOAD + SAVE + END).format(side="buy", asset="USD", cash=10, **values)
    sell = (LOAD + LOAD_POSITION + SAVE + SAVE_POSITION + END).format(side="sell", asset="AAPL", cash=0, **values)
    return [re.sub(r"\n (?=\S)", " ", script) for script in (buy, sell)]


def measure(root: Path, dsn: str, texts: list[str], seconds: int) -> Peer:
    """`root` is where the servers are installed."""
    uid, gid = rooted.account(root, ADMIN)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, uid, gid)
        files = []
        for number, text in enumerate(texts):
            (folder / f"{number}.sql").write_text(text, encoding="utf-8")
            files += ["-f", f"{rooted.DATA}/{number}.sql"]
        options = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-l"]
        args = [f"{BIN}/pgbench", *options, "--log-prefix", f"{rooted.DATA}/log", *files, dsn + INDEX_PLANS]
        done = subprocess.run(
            rooted.command(root, folder, f"{uid}:{gid}", args), capture_output=True, text=True, check=False
        )
        per_second = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode != 0 or per_second is None:
            raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
        lines = [line for log in folder.glob("log.*") for line in log.read_text(encoding="ascii").splitlines()]
    took_ms = [int(line.split()[2]) / 1000 for line in lines]
    return Peer(float(per_second[1]), percentile(took_ms, 50), percentile(took_ms, 99), len(took_ms))


def _literal(text: str) -> str:
    """As long as the text, and without what pgbench would take for a variable or SQL for the end of it."""
    return text.replace(":", ";").replace("'", ";")
