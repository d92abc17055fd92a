"""Is a process healthy? One question for each kind, asked until a deadline."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping

from infra.stack import kafka, postgres, redis_server
from infra.stack.processes import Process

ASK_TIMEOUT_S = 2.0
PAUSE_S = 0.05

Trouble = Callable[[], str | None]


def question(process: Process, admin_dsn: str) -> Trouble:
    """A function that says why `process` is not healthy, or None when it is."""
    port = process.ports[0].number
    if process.health == "postgres":
        return lambda: postgres.trouble(admin_dsn, ASK_TIMEOUT_S)
    if process.health == "kafka":
        return lambda: kafka.trouble(f"127.0.0.1:{port}", ASK_TIMEOUT_S)
    if process.health == "redis":
        return lambda: redis_server.trouble(port, ASK_TIMEOUT_S)
    return lambda: http_trouble(port)


def http_trouble(port: int, path: str = "/readyz") -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(500).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if response.status == 200 else f"{path} answers {response.status} {body}"


def wait_healthy(
    asked: Mapping[str, Trouble],
    deadline_s: float,
    stop_early: Callable[[str], str | None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, str]:
    """Ask all until they are healthy; returns name → trouble of those that are not when time is up.

    `stop_early` says why waiting for a name is useless (it will not come back).
    """
    deadline = clock() + deadline_s
    waiting = dict(asked)
    while True:
        troubles = {name: said for name, ask in waiting.items() if (said := ask()) is not None}
        for name in list(troubles):
            if hopeless := stop_early(name):
                return {name: hopeless}
        if not troubles or clock() >= deadline:
            return troubles
        waiting = {name: waiting[name] for name in troubles}
        pause(PAUSE_S)
