"""PostgreSQL with TimescaleDB of the local stack: how it is made, started and asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from infra.stack import rooted
from infra.stack.errors import StackError

BIN = "/usr/lib/postgresql/17/bin"
ADMIN = "postgres"
CLUSTER = "cluster"
DATABASES = ("orders", "prices")
EXTENSIONS = {"orders": (), "prices": ("timescaledb", "pg_trgm")}

# The same list stands in infra/deploy/compose.yaml; a test compares them.
SERVER_SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    # An abandoned slot must not fill the disk: it is lost first, and the relay knows how to go on.
    "max_slot_wal_keep_size": "2GB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "max_worker_processes": "16",
    "shared_buffers": "256MB",
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "60s",
    # The longest transaction bounds what the relay republishes after a lost slot.
    "transaction_timeout": "300s",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


def command(root: Path, data: Path, port: int) -> list[str]:
    uid, gid = rooted.account(root, ADMIN)
    here = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
    options = [word for name, value in (here | SERVER_SETTINGS).items() for word in ("-c", f"{name}={value}")]
    return rooted.command(root, data, f"{uid}:{gid}", [f"{BIN}/postgres", "-D", f"{rooted.DATA}/{CLUSTER}", *options])


def prepare(root: Path, data: Path, admin_password: str) -> None:
    """Make the cluster once, all or nothing; clear the lock file of a server that is known to be dead."""
    cluster = data / CLUSTER
    # Its number may belong to any process by now, and PostgreSQL would refuse to start beside that one.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    if (cluster / "PG_VERSION").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    uid, gid = rooted.account(root, ADMIN)
    rooted.own_folder(data, uid, gid)
    password_file = data / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(admin_password + "\n", encoding="utf-8")
    os.chown(password_file, uid, gid)
    fresh = f"{CLUSTER}.new"
    encoding = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    password = f"--pwfile={rooted.DATA}/{password_file.name}"
    access = ["--auth-host=scram-sha-256", "--auth-local=reject", f"--username={ADMIN}", password]
    initdb = [f"{BIN}/initdb", "-D", f"{rooted.DATA}/{fresh}", "--data-checksums", *encoding, *access]
    args = rooted.command(root, data, f"{uid}:{gid}", initdb)
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    password_file.unlink()
    if done.returncode != 0:
        raise StackError(f"PostgreSQL's initdb failed in {data}:\n{done.stderr.strip()}")
    (data / fresh).rename(cluster)


def dsn(port: int, user: str, password: str, database: str) -> str:
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


def trouble(admin_dsn: str, timeout_s: float) -> str | None:
    """Why it is not healthy; None when it answers. A wrong password is an error that waiting cannot heal."""
    try:
        with psycopg.connect(admin_dsn, connect_timeout=max(2, round(timeout_s))) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise StackError(
                "PostgreSQL refuses the administrator's password in secrets.env, which was made for other data: "
                "put the earlier secrets.env back, or `make reset` to begin with empty data"
            ) from error
        return str(error).strip().splitlines()[-1]
    return None


def bootstrap(admin_dsn: str, role: str, password: str) -> None:
    """The services' role, the two databases and their extensions; what exists is left as it is."""
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        known = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        verb = sql.SQL("ALTER" if known else "CREATE")
        wanted = sql.SQL("{} ROLE {} LOGIN REPLICATION PASSWORD {}")
        admin.execute(wanted.format(verb, sql.Identifier(role), sql.Literal(password)))
        existing = {row[0] for row in admin.execute("SELECT datname FROM pg_database").fetchall()}
        for name in DATABASES:
            if name not in existing:
                create_database(admin, name, role)
    for name in DATABASES:
        add_extensions(admin_dsn, name, EXTENSIONS[name])


def create_database(admin: psycopg.Connection[tuple[object, ...]], name: str, role: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} OWNER {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(role)))


def add_extensions(admin_dsn: str, database: str, extensions: tuple[str, ...]) -> None:
    if not extensions:
        return
    with psycopg.connect(admin_dsn, dbname=database, autocommit=True) as connection:
        for extension in extensions:
            statement = sql.SQL("CREATE EXTENSION IF NOT EXISTS {}")
            connection.execute(statement.format(sql.Identifier(extension)))
