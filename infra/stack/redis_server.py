"""Redis of the local stack: a cache, so nothing of it is kept on disk."""

from __future__ import annotations

from pathlib import Path

import redis

from infra.stack import rooted


def command(root: Path, data: Path, port: int) -> list[str]:
    uid, gid = rooted.account(root, "redis")
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": rooted.DATA,
        "daemonize": "no",
        "appendonly": "no",
        "save": "",
        # A title would overwrite the environment, by which the stack recognises its own processes.
        "set-proc-title": "no",
    }
    args = [word for name, value in options.items() for word in (f"--{name}", value)]
    return rooted.command(root, data, f"{uid}:{gid}", ["/usr/bin/redis-server", *args])


def prepare(root: Path, data: Path) -> None:
    rooted.own_folder(data, *rooted.account(root, "redis"))


def trouble(port: int, timeout_s: float) -> str | None:
    """Why it is not healthy; None when it answers."""
    client = redis.Redis("127.0.0.1", port, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        client.close()
    return None
