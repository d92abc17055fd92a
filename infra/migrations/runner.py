"""Brings a database to the newest schema.

A migration is a file `<database>/versions/NNNN_words.py` with `revision`, `down_revision` and `upgrade()`, written
by hand in SQL (`op.execute`); it imports no tables, so it means the same for ever. All pending migrations of a database
run under one advisory lock: a second runner waits and then finds nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

DATABASES = ("orders", "prices")
LOCK_KEY = 7_235_419_002
HERE = Path(__file__).parent

# Waiting longer for a table lock would stop everybody behind the migration: fail and try again instead.
LOCK_TIMEOUT = "10s"
QUEUE_TIMEOUT = "120s"


def upgrade(database: str, dsn: str, histories: Path = HERE) -> list[str]:
    """Run what is pending of history `database` on the database at `dsn`; returns the revisions that were applied."""
    config = configuration(database, histories)
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _session(connection, QUEUE_TIMEOUT)
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            connection.commit()
            _session(connection, LOCK_TIMEOUT)
            return _run(config, connection)
    finally:
        engine.dispose()


def configuration(database: str, histories: Path = HERE) -> Config:
    """Alembic's view of one history. There is no env.py: nothing of ours runs on import."""
    if database not in DATABASES:
        raise ValueError(f"{database!r} is none of {', '.join(DATABASES)}")
    config = Config()
    config.set_main_option("script_location", str(histories / database).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _session(connection: Connection, lock_timeout: str) -> None:
    # A migration may take longer than the server lets a request take.
    for name, value in (("lock_timeout", lock_timeout), ("transaction_timeout", "0")):
        connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
    connection.commit()


def _run(config: Config, connection: Connection) -> list[str]:
    script = ScriptDirectory.from_config(config)
    applied: list[str] = []

    def pending(current: Any, _: MigrationContext) -> Any:
        # What alembic's own `upgrade` command does, without its detour over a file that runs on import.
        steps = script._upgrade_revs("head", current)
        applied.extend(step.revision.revision for step in steps)
        return steps

    with EnvironmentContext(config, script, fn=pending) as environment:
        environment.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
        environment.run_migrations()
    connection.commit()
    return applied
