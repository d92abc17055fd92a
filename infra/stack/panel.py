"""What a newcomer reads after `make up`: addresses, tokens, and three lines that work as printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.settings import Infra, declared
from infra.stack.layout import Layout
from infra.stack.processes import Process
from infra.stack.settings import StackSettings, as_environ

ORDER = {"orderType": "buy", "type": "LIMIT", "symbol": "AAPL", "quantity": 1, "amount": 480.0}
# role → account, for those that are scoped to one
ROLES: dict[str, int | None] = {"investor": 1, "back_office": None, "operator": None}


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    pid: int | None
    state: str
    ports: tuple[int, ...]


def rows(processes: Iterable[Process], states: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """One row per process of the list, running or not."""
    found = {p.name: states.get(p.name, {}) for p in processes}
    return [
        Row(p.name, found[p.name].get("pid") or None, str(found[p.name].get("statename", "STOPPED")), _numbers(p))
        for p in processes
    ]


def status_json(table: Sequence[Row]) -> str:
    return json.dumps([{"name": r.name, "pid": r.pid, "state": r.state, "ports": list(r.ports)} for r in table])


def status_text(table: Sequence[Row], settings: StackSettings) -> str:
    lines = [f"{'process':<18}{'state':<10}{'pid':>8}  ports"]
    lines += [f"{r.name:<18}{r.state:<10}{r.pid or '-':>8}  {', '.join(map(str, r.ports))}" for r in table]
    values = as_environ(settings)
    lines += ["", "setting                        value"]
    lines += [f"{name:<30} {values[name]:<24} {sentence}" for name, _, sentence in declared(StackSettings)]
    return "\n".join(lines)


def curl_lines(api: str, token: str) -> list[str]:
    bearer = f"-H 'Authorization: Bearer {token}'"
    body = json.dumps(ORDER)
    return [
        f"curl -s {bearer} '{api}/stockPrices?symbol=AAPL'",
        f"curl -s {bearer} -H 'Content-Type: application/json' -d '{body}' '{api}/orders'",
        f"curl -sN {bearer} '{api}/stockPrices/stream?symbols=AAPL'",
    ]


def panel(infra: Infra, layout: Layout, tokens: Mapping[str, str]) -> str:
    api = f"http://127.0.0.1:{infra.api_port}"
    places = {
        "API": api,
        "API docs": f"{api}/docs",
        "exchange": infra.venue_url,
        "orders": infra.dsn("orders"),
        "prices": infra.dsn("prices"),
        "Kafka": infra.bootstrap,
        "Redis": infra.redis_url,
        "logs": f"{layout.logs}   (make logs)",
    }
    lines = ["", "Everything is healthy.", ""]
    lines += [f"  {name:<10} {where}" for name, where in places.items()]
    lines += ["", "Tokens (make -s token ROLE=… [ACCOUNT=…] makes more):", ""]
    for role, token in tokens.items():
        account = f" (account {ROLES[role]})" if ROLES.get(role) else ""
        lines += [f"  {role}{account}", f"    {token}"]
    lines += ["", "A price, an order, and a stream (end it with Ctrl-C):", ""]
    lines += curl_lines(api, tokens["investor"])
    return "\n".join([*lines, "", "make down ends it, make help lists the rest."])


def _numbers(process: Process) -> tuple[int, ...]:
    return tuple(port.number for port in process.ports)
