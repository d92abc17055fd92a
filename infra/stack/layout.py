"""Where the local stack keeps its files. Paths only: nothing is touched here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

# sockaddr_un holds 108 bytes with the closing zero; supervisor appends ".<pid>" while it binds.
SOCKET_PATH_MAX = 96
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Layout:
    """One run folder. Two stacks never share one."""

    run_dir: Path

    @property
    def logs(self) -> Path:
        return self.run_dir / "logs"

    @property
    def data(self) -> Path:
        return self.run_dir / "data"

    @property
    def supervisor_conf(self) -> Path:
        return self.run_dir / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        return self.run_dir / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        """In the run folder, or under /tmp when that path is too long for a unix socket."""
        near = self.run_dir / "supervisor.sock"
        if len(str(near).encode()) <= SOCKET_PATH_MAX:
            return near
        return Path("/tmp") / f"xgw-{hashlib.sha256(str(self.run_dir).encode()).hexdigest()[:16]}.sock"

    @property
    def secrets(self) -> Path:
        return self.run_dir / "secrets.env"

    @property
    def remembered(self) -> Path:
        return self.run_dir / "stack.json"

    @property
    def lock(self) -> Path:
        return self.run_dir / "up.lock"

    @property
    def kafka_conf(self) -> Path:
        return self.run_dir / "kafka.properties"

    def data_of(self, server: str) -> Path:
        return self.data / server

    def log_of(self, process: str) -> Path:
        return self.logs / f"{process}.log"


@dataclass(frozen=True, slots=True)
class Cache:
    """Downloaded servers, shared by every stack of this checkout. A folder exists only when it is complete."""

    cache_dir: Path

    @property
    def trixie(self) -> Path:
        return self.cache_dir / "trixie"

    @property
    def kafka(self) -> Path:
        return self.cache_dir / "kafka"

    @property
    def debezium(self) -> Path:
        return self.cache_dir / "debezium"

    @property
    def lock(self) -> Path:
        return self.cache_dir / "install.lock"
