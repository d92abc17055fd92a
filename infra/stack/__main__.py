"""The verbs of the local stack, called by the Makefile: up, down, status, logs, reset, token, install."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Mapping

from infra.settings import PREFIX, SettingsError
from infra.stack import docker, install, panel
from infra.stack.errors import StackError
from infra.stack.layout import Cache, Layout
from infra.stack.processes import SERVERS, SERVICES
from infra.stack.settings import StackSettings, load_stack, recall
from infra.stack.stack import Stack

# What `up` switches on unless its caller says otherwise: the charts of a stack of one's own begin with a history.
FRESH = {f"{PREFIX}PRICES_SEED_HISTORY": "true"}


def main() -> int:
    args = _arguments()
    try:
        code = _verbs(args, dict(os.environ))
        sys.stdout.flush()
        return code
    except (StackError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`… | head`) has seen enough; nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; `make up` goes on from here, `make down` ends what runs", file=sys.stderr)
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="install what is missing, start everything, print the panel")
    up.add_argument("--servers", action="store_true", help="PostgreSQL, Kafka and Redis only, with topics and schema")
    verbs.add_parser("down", help="end everything that up started")
    status = verbs.add_parser("status", help="what runs, on which ports")
    status.add_argument("--json", action="store_true")
    logs = verbs.add_parser("logs", help="follow the logs")
    logs.add_argument("name", nargs="?")
    reset = verbs.add_parser("reset", help="end everything and drop all data")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    token = verbs.add_parser("token", help="print a bearer token")
    token.add_argument("--role", required=True)
    token.add_argument("--account")
    verbs.add_parser("install", help="install the servers, start nothing")
    return parser.parse_args()


def _verbs(args: argparse.Namespace, environ: dict[str, str]) -> int:
    if args.verb in ("up", "install"):
        settings = load_stack(environ)
        resolved = dataclasses.replace(settings, servers=docker.resolved(settings.servers))
        return up(resolved, environ, args.servers) if args.verb == "up" else install_only(resolved)
    # Later verbs look after the stack that `up` made, with the settings it had then.
    layout = Layout(load_stack(environ).infra.run_dir)
    environ = recall(layout.remembered) | environ
    stack = Stack(load_stack(environ), environ, say=_say)
    if args.verb == "down":
        return down(stack)
    if args.verb == "status":
        return status(stack, args.json)
    if args.verb == "logs":
        return logs(stack, args.name)
    if args.verb == "reset":
        return reset(stack, args.yes)
    return token(stack, args.role, args.account)


def up(settings: StackSettings, environ: Mapping[str, str], servers_only: bool) -> int:
    begun = time.monotonic()
    layout = Layout(settings.infra.run_dir)
    layout.run_dir.mkdir(parents=True, exist_ok=True)
    with install.locked(layout.lock, lambda: _say("waiting for another `make up` to finish …")):
        stack = Stack(settings, FRESH | dict(environ), say=_say)
        stack.require_ports(SERVERS if servers_only else (*SERVERS, *SERVICES))
        stack.start(SERVERS)
        stack.prepare(seed=not servers_only)
        if not servers_only:
            stack.start(SERVICES)
            tokens = {role: _token(stack, role, account) for role, account in panel.ROLES.items()}
            print(panel.panel(settings.infra, layout, tokens))
    _say(f"up after {time.monotonic() - begun:.0f} s")
    return 0


def install_only(settings: StackSettings) -> int:
    if settings.servers == "local":
        install.install(Cache(settings.infra.cache_dir), _say)
    return 0


def down(stack: Stack) -> int:
    ended = stack.stop()
    _say(f"ended {', '.join(ended)}" if ended else "nothing was running")
    return 0


def status(stack: Stack, as_json: bool) -> int:
    table = panel.rows(stack.processes, stack.states())
    print(panel.status_json(table) if as_json else panel.status_text(table, stack.settings))
    return 0


def logs(stack: Stack, name: str | None) -> int:
    known = [p.name for p in stack.processes]
    if name is not None and name not in known:
        raise StackError(f"there is no process {name!r}; there are {', '.join(known)}")
    files = [stack.layout.log_of(n) for n in ([name] if name else known)]
    existing = [str(path) for path in files if path.exists()]
    if not existing:
        raise StackError(f"there are no logs in {stack.layout.logs} yet: `make up` first")
    os.execvp("tail", ["tail", "-n", "20", "-F", *existing])


def reset(stack: Stack, sure: bool) -> int:
    if not sure and not _agrees(f"Drop all data in {stack.layout.data}?"):
        _say("nothing was changed")
        return 1
    stack.drop_data()
    _say("all data is gone; `make up` begins anew")
    return 0


def token(stack: Stack, role: str, account: str | None) -> int:
    if not stack.layout.secrets.exists():
        raise StackError("there are no secrets to sign with yet: `make up` first")
    print(_token(stack, role, account))
    return 0


def _token(stack: Stack, role: str, account: object) -> str:
    scope = [] if account is None else ["--account", str(account)]
    return stack.run_module("api.auth.issue", "--role", role, *scope).strip()


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise StackError("there is nobody to ask: `make reset YES=1` drops all data without asking")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
