"""The local stack on real servers: what it makes, how it recovers, and that it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from infra.contracts import TOPICS
from infra.migrations import runner
from infra.settings import Infra
from infra.stack import kafka, own, ports, redis_server
from infra.stack.errors import StackError
from infra.stack.stack import SERVERS, Stack, throwaway_settings

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

MIGRATION = """
from alembic import op
revision = "{revision}"
down_revision = {down}
def upgrade() -> None:
    op.execute("{statement}")
"""


def _until(condition: Callable[[], bool], what: str, deadline_s: float = 30) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack of this test alone, not yet started."""
    settings = throwaway_settings(os.environ)
    try:
        with Stack(settings, attached=True) as made:
            yield made
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)


def test_the_services_role_may_replicate_and_has_its_extensions(servers: Infra) -> None:
    with psycopg.connect(servers.dsn("prices")) as connection:
        names = {row[0] for row in connection.execute("SELECT extname FROM pg_extension").fetchall()}
        assert {"timescaledb", "pg_trgm"} <= names
        role = connection.execute(
            "SELECT rolreplication, rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert role == (True, False)


def test_the_declared_topics_exist_and_making_them_again_changes_nothing(servers: Infra) -> None:
    found = kafka.admin(servers.bootstrap).list_topics(timeout=10).topics
    assert {t.name: t.partitions for t in TOPICS} == {t.name: len(found[t.name].partitions) for t in TOPICS}
    assert kafka.create_topics(servers.bootstrap) == []


@pytest.mark.parametrize("attempt", range(3))
def test_each_test_gets_databases_of_its_own(orders_db: str, prices_db: str, attempt: int) -> None:
    for dsn in (orders_db, prices_db):
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE left_behind (n int)")


def test_migrations_run_once_although_many_start_them_together(orders_db: str, tmp_path: Path) -> None:
    versions = tmp_path / "orders/versions"
    versions.mkdir(parents=True)
    with psycopg.connect(orders_db) as connection:
        connection.execute("DROP TABLE IF EXISTS alembic_version")
    first = MIGRATION.format(revision="0001", down=None, statement="CREATE TABLE made_once (n int)")
    second = MIGRATION.format(revision="0002", down='"0001"', statement="INSERT INTO made_once VALUES (1)")
    (versions / "0001_first.py").write_text(first)
    (versions / "0002_second.py").write_text(second)
    # Compiled anew each time: alembic loads the files in every thread.
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: runner.upgrade("orders", orders_db, tmp_path), range(4)))
    assert sorted(applied) == [[], [], [], ["0001", "0002"]]
    with psycopg.connect(orders_db) as connection:
        assert connection.execute("SELECT count(*) FROM made_once").fetchone() == (1,)


def test_a_failing_migration_leaves_nothing_of_itself(orders_db: str, tmp_path: Path) -> None:
    versions = tmp_path / "orders/versions"
    versions.mkdir(parents=True)
    with psycopg.connect(orders_db) as connection:
        connection.execute("DROP TABLE IF EXISTS alembic_version")
    broken = MIGRATION.format(revision="0001", down=None, statement="CREATE TABLE half (n int); SELECT 1/0")
    (versions / "0001_broken.py").write_text(broken)
    with pytest.raises(Exception, match="division by zero"):
        runner.upgrade("orders", orders_db, tmp_path)
    with psycopg.connect(orders_db) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)


def test_a_dead_machine_comes_back_with_its_data(stack: Stack) -> None:
    infra = stack.settings.infra
    stack.start(SERVERS)
    stack.prepare(seed=False)
    with psycopg.connect(infra.dsn("orders")) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    # Everything at once, without warning; then PostgreSQL's lock file names a process that lives and is not its own.
    for process in own.found(infra.run_dir):
        os.kill(process.pid, signal.SIGKILL)
    _until(lambda: not own.found(infra.run_dir), "all processes are gone")
    lock_file = infra.run_dir / "data/postgres/cluster/postmaster.pid"
    lock_file.write_text("\n".join([str(os.getpid()), *lock_file.read_text().splitlines()[1:]]) + "\n")

    stack.start(SERVERS)
    stack.prepare(seed=False)
    with psycopg.connect(infra.dsn("orders")) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
    assert {t.name for t in TOPICS} <= set(kafka.admin(infra.bootstrap).list_topics(timeout=10).topics)


def test_children_of_a_killed_supervisor_are_ended_and_started_again(stack: Stack) -> None:
    stack.start(["redis"])
    orphan, supervisor = stack.pid("redis"), int(stack.layout.supervisor_pid.read_text())
    os.kill(supervisor, signal.SIGKILL)
    _until(lambda: stack.states() == {}, "the supervisor is gone")
    assert own.belongs(orphan, stack.settings.infra.run_dir)
    stack.start(["redis"])
    assert not own.belongs(orphan, stack.settings.infra.run_dir)
    assert stack.pid("redis") not in (0, orphan)


def test_stop_ends_orphans_too_and_nothing_else(stack: Stack, servers: Infra) -> None:
    stack.start(["redis"])
    foreign = subprocess.Popen(["sleep", "60"])
    try:
        os.kill(int(stack.layout.supervisor_pid.read_text()), signal.SIGKILL)
        _until(lambda: stack.states() == {}, "the supervisor is gone")
        assert stack.stop() == ["redis-server"]
        assert own.found(stack.settings.infra.run_dir) == []
        assert foreign.poll() is None
        assert redis_server.trouble(servers.redis_port, 2) is None
        assert stack.stop() == []
    finally:
        foreign.kill()
        foreign.wait()


def test_a_killed_process_is_started_again_and_running_ones_stay(stack: Stack) -> None:
    stack.start(["redis"])
    first = stack.pid("redis")
    stack.start(["redis"])
    assert stack.pid("redis") == first
    os.kill(first, signal.SIGKILL)
    _until(lambda: stack.pid("redis") not in (0, first), "redis runs again")
    stack.wait_ready("redis", 10)


def test_a_moved_port_moves_the_running_server(stack: Stack) -> None:
    stack.start(["redis"])
    first, infra = stack.pid("redis"), stack.settings.infra
    moved = dataclasses.replace(infra, redis_port=ports.free_numbers(1)[0])
    again = Stack(dataclasses.replace(stack.settings, infra=moved))
    again.start(["redis"])
    assert again.pid("redis") != first
    assert redis_server.trouble(moved.redis_port, 2) is None
    assert redis_server.trouble(infra.redis_port, 2) is not None


def test_a_taken_port_names_itself_its_setting_and_its_holder(stack: Stack) -> None:
    port = stack.settings.infra.redis_port
    with socket.create_server(("127.0.0.1", port)):
        assert not ports.is_free(port)
        with pytest.raises(StackError, match=rf"port {port}, .*process {os.getpid()} (.|\n)*XGW_REDIS_PORT="):
            stack.start(["redis"])
    assert ports.is_free(port)


def test_a_process_that_cannot_start_is_told_with_the_end_of_its_log(stack: Stack) -> None:
    # No PostgreSQL, no Kafka: the relay can reach nothing.
    with pytest.raises(StackError, match=r"outbox_relay did not become healthy(.|\n)*outbox_relay\.log ends with"):
        stack.start(["outbox_relay"], deadline_s=4)


def test_free_ports_are_distinct() -> None:
    numbers = ports.free_numbers(50)
    assert len(set(numbers)) == 50
    assert all(ports.is_free(number) for number in numbers)


def test_a_stack_ends_with_the_process_that_attached_it(tmp_path: Path) -> None:
    settings = throwaway_settings(os.environ)
    code = (
        "import os, pathlib, sys, time\n"
        "from infra.stack.stack import Stack, throwaway_settings, free_ports\n"
        "run_dir, cache_dir = map(pathlib.Path, sys.argv[1:])\n"
        "Stack(free_ports(run_dir, cache_dir), attached=True).start(['redis'])\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    folders = [str(settings.infra.run_dir), str(settings.infra.cache_dir)]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *folders], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert own.found(settings.infra.run_dir)
        child.kill()
        _until(lambda: not own.found(settings.infra.run_dir), "the stack ended with its owner")
    finally:
        child.kill()
        child.communicate()
        own.end(settings.infra.run_dir)
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)
