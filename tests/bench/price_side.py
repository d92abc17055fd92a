"""Our side of the price stream's measurements: real servers, the ingest, and an api process that serves prices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import uvloop

from infra.bus_kafka import KafkaBus
from infra.stack import health
from infra.stack.layout import REPOSITORY
from infra.stack.ports import free_numbers
from infra.stack.stack import SERVERS, Stack, throwaway_settings
from tests.bench import cores, price_ticks
from tests.bench.price_ticks import Load

READY_S, STORED_S = 60.0, 60.0
# The load is thousands of clients of one account.
OPEN = {
    "XGW_PRICES_STREAM_SYMBOLS_MAX": "1000",
    "XGW_PRICES_STREAMS_MAX": "1000000",
    "XGW_LOG_LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True)
class Api:
    pid: int
    port: int
    token: str

    @staticmethod
    def target(symbols: Sequence[str], every: bool = False) -> str:
        """`every`: each tick instead of the newest state."""
        return "/stockPrices/stream?symbols=" + ",".join(symbols) + ("&conflate=false" if every else "")

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Side:
    """Servers and ingest that run; apis come and go, each with fresh memory."""

    stack: Stack
    token: str
    _sessions: set[int] = field(default_factory=set)

    @property
    def bootstrap(self) -> str:
        return self.stack.settings.infra.bootstrap

    @property
    def folder(self) -> Path:
        return self.stack.layout.run_dir

    def session(self, symbols: Sequence[str]) -> int:
        """A new trading session of these symbols."""
        session = int(time.time())
        while session in self._sessions:
            session += 1
        self._sessions.add(session)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(price_ticks.listed(KafkaBus(self.bootstrap, "bench"), symbols, session))
        return session

    def load(self, symbols: Sequence[str], session: int, per_second: float, seconds: float, first: int = 1) -> Load:
        return Load(
            bootstrap=self.bootstrap,
            session=session,
            symbols=list(symbols),
            per_second=per_second,
            seconds=seconds,
            first=first,
        )

    def stored(self, session: int, ticks: int) -> int:
        """How many ticks of the session the ingest has committed, once it has all or its time is up."""
        deadline = time.monotonic() + STORED_S
        with psycopg.connect(self.stack.settings.infra.dsn("prices"), autocommit=True) as connection:
            while True:
                row = connection.execute("SELECT count(*) FROM ticks WHERE session = %s", (session,)).fetchone()
                assert row is not None
                if row[0] >= ticks or time.monotonic() > deadline:
                    return int(row[0])
                time.sleep(0.2)

    @contextlib.contextmanager
    def api(self, **variables: str) -> Iterator[Api]:
        """A fresh process on the server's core."""
        (port,) = free_numbers(1)
        environ = {**os.environ, **self.stack.variables, **OPEN, "XGW_API_PORT": str(port), **variables}
        command = cores.on_server_core([sys.executable, "-m", "api", "--roles", "prices"])
        log = self.folder / f"api-{port}.log"
        with (
            log.open("w") as file,
            subprocess.Popen(command, env=environ, cwd=REPOSITORY, stdout=file, stderr=file) as running,
        ):
            try:
                trouble = health.wait_healthy({"api": lambda: health.http_trouble(port)}, READY_S)
                if trouble:
                    raise RuntimeError(f"the api is not ready: {trouble['api']}\n{log.read_text(encoding='utf-8')}")
                yield Api(running.pid, port, self.token)
            finally:
                running.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(15)
                running.kill()


@contextlib.contextmanager
def throwaway(environ: Mapping[str, str], say: Callable[[str], None]) -> Iterator[Side]:
    """Servers and ingest of their own, gone afterwards. All of it stays on the load's core but the broker, which may
    use both: it would be what limits the load."""
    settings = throwaway_settings(environ)
    try:
        with Stack(settings, environ, attached=True, say=say) as stack:
            stack.start(SERVERS)
            stack.prepare(seed=False)
            stack.start(["price_service"])
            token = stack.run_module("api.auth.issue", "--role", "investor", "--account", "1").strip()
            with cores.rest_on_load_core([stack.pid(name) for name in ("postgres", "redis", "price_service")]):
                yield Side(stack, token)
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)
