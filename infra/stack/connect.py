"""Kafka Connect with Debezium's PostgreSQL connector, stand-alone: a stock replacement of the outbox relay.

Not part of `make up`. The connector's configuration is the one that a deployment uses (infra/deploy/debezium); only
addresses, credentials and the folder of its offsets are filled in here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

import psycopg

from infra.stack import own
from infra.stack.errors import StackError
from infra.stack.install import Say, complete, fresh_folder, locked, need, require_space, run
from infra.stack.layout import Cache, Layout
from infra.stack.processes import Programs
from infra.stack.settings import StackSettings

POM = Path(__file__).with_name("debezium-pom.xml")
CONFIGURATION = Path(__file__).parents[1] / "deploy" / "debezium"
INSTALL_BYTES_MIN = 256 * (1 << 20)
PATIENCE_S = 15
DEADLINE_S = 90
READING = "SELECT FROM pg_replication_slots WHERE slot_name = 'outbox_debezium' AND active"


def installed(cache: Cache, say: Say) -> Path:
    """The folder of the jars, installed when missing."""
    wanted = POM.read_text(encoding="utf-8")
    with locked(cache.lock, lambda: say("waiting for another install in this folder to end …")):
        if not complete(cache.debezium, wanted):
            require_space(cache.cache_dir, INSTALL_BYTES_MIN, "installing Debezium")
            need(("mvn",), cache, say)
            with fresh_folder(cache.debezium, wanted, "Kafka Connect and Debezium 3.5 (67 jars, 38 MB)", say) as folder:
                goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
                run(["mvn", "--batch-mode", "--quiet", "--file", str(POM), *goal], cache)
    return cache.debezium


def is_installed(cache: Cache) -> bool:
    return complete(cache.debezium, POM.read_text(encoding="utf-8"))


@contextlib.contextmanager
def running(
    programs: Programs, jars: Path, settings: StackSettings, rest_port: int, **overrides: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker whose connector reads the log, for the length of a block; its own log is beside those of the stack.
    `overrides` are properties of the connector, dots written as two underscores."""
    layout = Layout(settings.infra.run_dir)
    files = [filled(name, layout, settings, rest_port) for name in ("worker.properties", "connector.properties")]
    with files[1].open("a", encoding="utf-8") as connector:
        connector.writelines(f"{name.replace('__', '.')}={value}\n" for name, value in overrides.items())
    main = ["org.apache.kafka.connect.cli.ConnectStandalone", *map(str, files)]
    args = ["setpriv", "--pdeathsig", "KILL", str(programs.java), "-Xmx384m", "-Djava.awt.headless=true"]
    environ = dict(os.environ) | {own.MARK: str(layout.run_dir)}
    with layout.log_of("connect").open("ab") as log:
        worker = subprocess.Popen(
            [*args, "-cp", f"{jars}/*", *main], env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_reading(settings, layout, worker)
        yield worker
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _wait_reading(settings: StackSettings, layout: Layout, worker: subprocess.Popen[bytes]) -> None:
    """What commits before its slot is there is not published."""
    deadline_s = time.monotonic() + DEADLINE_S
    with psycopg.connect(settings.infra.dsn("orders"), autocommit=True) as connection:
        while connection.execute(READING).fetchone() is None:
            if worker.poll() is not None or time.monotonic() > deadline_s:
                tail = layout.log_of("connect").read_text(encoding="utf-8", errors="replace")[-3000:]
                raise StackError(f"Debezium does not read the log; Kafka Connect says:\n{tail}")
            time.sleep(0.1)


def filled(name: str, layout: Layout, settings: StackSettings, rest_port: int) -> Path:
    infra = settings.infra
    text = Template((CONFIGURATION / name).read_text(encoding="utf-8")).substitute(
        BOOTSTRAP=infra.bootstrap,
        REST=f"http://127.0.0.1:{rest_port}",
        OFFSETS=layout.data_of("connect.offsets"),
        POSTGRES_HOST=infra.postgres_host,
        POSTGRES_PORT=infra.postgres_port,
        POSTGRES_USER=infra.postgres_user,
        POSTGRES_PASSWORD=infra.postgres_password,
        POSTGRES_DATABASE="orders",
    )
    path = layout.run_dir / f"connect-{name}"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path
