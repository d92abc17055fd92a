"""Fixtures that every test may use: servers once per session, fresh databases per test, no sockets in fast tests."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pytest_socket import disable_socket, enable_socket

from infra.migrations import runner
from infra.settings import Infra
from infra.stack import kafka, postgres
from infra.stack.stack import SERVERS, Stack, throwaway_settings
from tests.simulation.beside import Beside

HERE = Path(__file__).parent
# The simulated days that run beside the other tests, and how long they may.
THOUSAND_DAYS = pytest.StashKey[Beside]()
THOUSAND_DAYS_S = 540.0
DAYS_TEST = "test_seeds.py"
WITHOUT_SOCKETS = tuple(HERE / name for name in ("unit", "property", "shape"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the simulated days comes last."""
    items.sort(key=lambda item: item.path.name == DAYS_TEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The simulated days begin now, if they are wanted at all."""
    if session.config.option.collectonly or not any(item.path.name == DAYS_TEST for item in session.items):
        return
    session.config.stash[THOUSAND_DAYS] = Beside(THOUSAND_DAYS_S)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if THOUSAND_DAYS in session.config.stash:
        session.config.stash[THOUSAND_DAYS].end()


@pytest.fixture(autouse=True)
def _sockets_where_allowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fast tests reach no server. Unix sockets stay: an event loop wakes itself through a pair of them."""
    if not any(request.path.is_relative_to(folder) for folder in WITHOUT_SOCKETS):
        yield
        return
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(scope="session")
def server_stack() -> Iterator[Stack]:
    """A stack with its three servers, on ports and in a folder of its own; it ends with the session."""
    settings = throwaway_settings(os.environ)
    try:
        with Stack(settings, attached=True) as stack:
            stack.start(SERVERS)
            kafka.create_topics(settings.infra.bootstrap)
            yield stack
    finally:
        shutil.rmtree(settings.infra.run_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(server_stack: Stack) -> Infra:
    """Where the session's PostgreSQL, Kafka (with the declared topics) and Redis are."""
    return server_stack.settings.infra


@pytest.fixture(scope="session")
def orders_template(server_stack: Stack) -> str:
    return _migrated_template(server_stack, "orders")


@pytest.fixture(scope="session")
def prices_template(server_stack: Stack) -> str:
    return _migrated_template(server_stack, "prices")


@pytest.fixture
def orders_db(server_stack: Stack, orders_template: str) -> Iterator[str]:
    """DSN of a fresh, migrated `orders` database of this test alone."""
    yield from _cloned(server_stack, orders_template)


@pytest.fixture
def prices_db(server_stack: Stack, prices_template: str) -> Iterator[str]:
    """DSN of a fresh, migrated `prices` database of this test alone."""
    yield from _cloned(server_stack, prices_template)


def _migrated_template(stack: Stack, database: str) -> str:
    """Migrated once and then closed to connections, so that cloning it never finds it in use."""
    name, infra = f"template_{database}", stack.settings.infra
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        postgres.create_database(admin, name, infra.postgres_user)
        postgres.add_extensions(stack.admin_dsn, name, postgres.EXTENSIONS[database])
        runner.upgrade(database, infra.dsn(name))
        admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
    return name


def _cloned(stack: Stack, template: str) -> Iterator[str]:
    infra, name = stack.settings.infra, f"test_{uuid.uuid4().hex[:12]}"
    parts = [sql.Identifier(word) for word in (name, template, infra.postgres_user)]
    with psycopg.connect(stack.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*parts))
        yield infra.dsn(name)
        _drop(admin, name)


def _drop(admin: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """A slot that a test left behind would keep its database alive."""
    slots = "SELECT active_pid, slot_name FROM pg_replication_slots WHERE database = %s"
    for pid, slot in admin.execute(slots, (name,)).fetchall():
        if pid is not None:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        admin.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
