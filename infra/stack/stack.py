"""The local stack: servers and our processes, started in order, watched until healthy, ended without traces.

For tests::

    with Stack(throwaway_settings()) as stack:
        stack.start(SERVERS)
        stack.prepare()
        stack.start(["venue", "exchange_gateway"])
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from infra.migrations import runner
from infra.settings import PREFIX, Infra
from infra.stack import (
    docker,
    health,
    install,
    kafka,
    own,
    ports,
    postgres,
    processes,
    redis_server,
    secret_file,
    supervision,
)
from infra.stack.errors import StackError
from infra.stack.layout import REPOSITORY, Cache, Layout
from infra.stack.processes import SERVERS, Process, Programs
from infra.stack.settings import StackSettings, as_environ, own_variables, remember

SERVER_DEADLINE_S, SERVICE_DEADLINE_S = 90.0, 60.0
START_BYTES_MIN = 200 * (1 << 20)
ALIVE = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")
HOPELESS = {"FATAL": "it ends again and again", "EXITED": "it has ended"}


def silent(_: str) -> None:
    return None


class Stack:
    """One stack in one run folder.

    `environ` is what the caller set; its XGW_ variables reach our processes. `attached` ties everything to the calling
    process: when that dies, the stack ends, so tests leave nothing behind.
    """

    def __init__(
        self,
        settings: StackSettings,
        environ: Mapping[str, str] | None = None,
        *,
        attached: bool = False,
        say: Callable[[str], None] = silent,
    ) -> None:
        self.settings = settings
        self.layout = Layout(settings.infra.run_dir)
        self.processes = processes.listed(settings)
        self._environ = dict(os.environ if environ is None else environ)
        self._attached = attached
        self._say = say
        self._supervisor = supervision.Supervisor(self.layout)
        self._programs: Programs | None = None
        self._opened = False
        self._compose: docker.Compose | None = None

    # -- for callers ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def secrets(self) -> dict[str, str]:
        self.layout.run_dir.mkdir(parents=True, exist_ok=True)
        return secret_file.ensured(self.layout.secrets)

    @property
    def variables(self) -> dict[str, str]:
        """The variables that every process of ours gets: the caller's, then settings and secrets."""
        hidden = secret_file.for_services(self.secrets)
        return own_variables(self._environ) | as_environ(self.settings) | hidden

    @property
    def admin_dsn(self) -> str:
        """The administrator's database; tests make their own databases through it."""
        password = self.secrets[secret_file.ADMIN_PASSWORD]
        return postgres.dsn(self.settings.infra.postgres_port, postgres.ADMIN, password, "postgres")

    def start(self, names: Sequence[str], deadline_s: float | None = None) -> None:
        """Start these, in the order of the list, and wait until all are healthy. Running ones stay as they are."""
        self._open()
        for group in (True, False):
            wanted = [p for p in self.processes if p.name in names and p.is_server is group]
            if wanted:
                self._start_group(wanted, deadline_s or (SERVER_DEADLINE_S if group else SERVICE_DEADLINE_S))
            if group and any(p.name == "postgres" for p in wanted):
                infra = self.settings.infra
                postgres.bootstrap(self.admin_dsn, infra.postgres_user, infra.postgres_password)

    def programs(self) -> Programs:
        """Where the servers are that this machine runs itself. Raises StackError when they are in containers."""
        self._open()
        if self._programs is None:
            raise StackError("the servers run in containers here; XGW_SERVERS=local runs them on this machine")
        return self._programs

    def require_ports(self, names: Sequence[str]) -> None:
        """Refuse before anything starts when a port that one of these needs is taken by somebody else."""
        self._open()
        for process in self._idle([p for p in self.processes if p.name in names]):
            for port in process.ports:
                if not ports.is_free(port.number):
                    held_by = ports.holder(port.number)
                    raise StackError(ports.taken_message(port.number, port.variable, process.name, held_by))

    def prepare(self, seed: bool = True) -> None:
        """Topics, schema and demo accounts: what our processes expect to find. Safe to repeat."""
        infra = self.settings.infra
        if made := kafka.create_topics(infra.bootstrap):
            self._say(f"created {len(made)} topics")
        for database in postgres.DATABASES:
            for revision in runner.upgrade(database, infra.dsn(database)):
                self._say(f"migrated {database} to {revision}")
        if seed:
            self.run_module("order_service.seed")

    def run_module(self, module: str, *args: str) -> str:
        """Run one of our modules to its end with the stack's variables; returns what it printed."""
        command = [sys.executable, "-m", module, *args]
        done = subprocess.run(
            command, env=self._environ | self.variables, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise StackError(f"`python -m {module}` failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def pid(self, name: str) -> int:
        """The pid of a running process; 0 when it does not run."""
        return int(self.states().get(name, {}).get("pid", 0))

    def states(self) -> dict[str, dict[str, Any]]:
        """name → pid and state of what runs, servers in containers included."""
        contained = self._containers().states() if self._in_docker else {}
        return contained | self._supervisor.states()

    def wait_ready(self, name: str, deadline_s: float = SERVICE_DEADLINE_S) -> None:
        self._wait([p for p in self.processes if p.name == name], deadline_s)

    def stop_processes(self, names: Sequence[str]) -> None:
        """Stop some of the supervised processes and leave the rest running."""
        self._supervisor.stop([name for name in names if name in self._supervisor.states()])

    def stop(self) -> list[str]:
        """End everything this stack started, and nothing else; returns the names of what was running."""
        running = [name for name, info in self._supervisor.states().items() if info["pid"]]
        for group in (False, True):
            self._supervisor.stop([p.name for p in self.processes if p.is_server is group and p.name in running])
        self._supervisor.shutdown()
        orphans = own.end(self.layout.run_dir)
        self._supervisor.forget()
        if self._in_docker:
            running += self._containers().states()
            self._containers().down()
        self._opened = False
        return running + [p.name for p in orphans]

    def drop_data(self) -> None:
        """End everything and begin with empty stores next time. Secrets stay, so tokens do too."""
        self.stop()
        if self._in_docker:
            self._containers().down(with_data=True)
        shutil.rmtree(self.layout.data, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _in_docker(self) -> bool:
        return self.settings.servers == "docker"

    def _containers(self) -> docker.Compose:
        if self._compose is None:
            admin = {secret_file.ADMIN_PASSWORD: self.secrets[secret_file.ADMIN_PASSWORD]}
            self._compose = docker.Compose(self.layout.run_dir, as_environ(self.settings) | admin)
        return self._compose

    def _open(self) -> None:
        """A running supervisor with the present configuration, and no process of an earlier life."""
        if self._opened and self._supervisor.pid() is not None:
            return
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        self.layout.data.mkdir(parents=True, exist_ok=True)
        install.require_space(self.layout.run_dir, START_BYTES_MIN, "starting the stack")
        if not self._in_docker:
            self._programs = install.install(Cache(self.settings.infra.cache_dir), self._say)
        conf = supervision.configuration(self.layout, self._supervised(), supervision.open_files_limit())
        self.layout.supervisor_conf.write_text(conf, encoding="utf-8")
        remember(self.layout.remembered, own_variables(self._environ) | as_environ(self.settings))
        if self._supervisor.pid() is None:
            for orphan in own.end(self.layout.run_dir):
                self._say(f"ended {orphan.name} (pid {orphan.pid}), left over from a stack that was killed")
            self._supervisor.launch(supervision.caller_environ(self._environ, PREFIX), self._attached)
        for name in self._supervisor.apply_configuration():
            self._say(f"{name}: changed settings, starting again")
        self._opened = True

    def _supervised(self) -> tuple[Process, ...]:
        """The processes that the supervisor runs, with their commands: all, or all but servers in containers."""
        commands = processes.commands(self.settings, self.layout, self._programs, self._variables_file())
        return processes.with_commands(self.processes, commands)

    def _variables_file(self) -> Path:
        """The variables of our processes as a shell file. Its name carries a digest: other variables, other command."""
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self.variables.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.layout.run_dir / f"variables-{digest}.env"
        if not path.exists():
            for old in self.layout.run_dir.glob("variables-*.env"):
                old.unlink()
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
        return path

    def _start_group(self, group: Sequence[Process], deadline_s: float) -> None:
        self.require_ports([p.name for p in group])
        idle = self._idle(group)
        for process in idle:
            self._say(f"starting {process.name} on {', '.join(str(port.number) for port in process.ports)}")
        if self._in_docker and group[0].is_server:
            self._containers().up([p.name for p in group])
        else:
            for process in idle:
                self._prepare_server(process.name)
                self._supervisor.start(process.name)
        self._wait(group, deadline_s)

    def _idle(self, group: Sequence[Process]) -> list[Process]:
        states = self.states()
        return [p for p in group if states.get(p.name, {}).get("statename") not in ALIVE]

    def _prepare_server(self, name: str) -> None:
        if self._programs is None:
            return
        root, data = self._programs.root, self.layout.data_of(name)
        if name == "postgres":
            postgres.prepare(root, data, self.secrets[secret_file.ADMIN_PASSWORD])
        elif name == "kafka":
            kafka.prepare(self._programs.java, self._programs.kafka_jars, self.layout, self.settings)
        elif name == "redis":
            redis_server.prepare(root, data)

    def _wait(self, group: Sequence[Process], deadline_s: float) -> None:
        questions = {p.name: health.question(p, self.admin_dsn) for p in group}

        def hopeless(name: str) -> str | None:
            return HOPELESS.get(str(self.states().get(name, {}).get("statename")))

        for name, trouble in health.wait_healthy(questions, deadline_s, hopeless).items():
            log = self.layout.log_of(name)
            tail = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
            raise StackError("\n".join([f"{name} did not become healthy: {trouble}. {log} ends with:", *tail]))


def free_ports(run_dir: Path, cache_dir: Path) -> StackSettings:
    """Settings with free ports and a run folder of their own, for a stack beside any other."""
    fields = [f.name for f in dataclasses.fields(Infra) if f.name.endswith("_port")]
    numbers = ports.free_numbers(len(fields) + 1)
    chosen: dict[str, Any] = dict(zip(fields, numbers, strict=False))
    infra = Infra(env="test", run_dir=run_dir, cache_dir=cache_dir, **chosen)
    return StackSettings(infra=infra, kafka_controller_port=numbers[-1], servers="local")


def throwaway_settings(environ: Mapping[str, str]) -> StackSettings:
    """For tests: free ports, a temporary run folder, and this checkout's installed servers."""
    cache = Path(environ.get(f"{PREFIX}CACHE_DIR", REPOSITORY / ".cache")).absolute()
    return free_ports(Path(tempfile.mkdtemp(prefix="xgw-test-")), cache)


__all__ = ["SERVERS", "Stack", "free_ports", "throwaway_settings"]
