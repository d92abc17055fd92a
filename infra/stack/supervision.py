"""The supervisor of the local stack: its configuration, starting it, and talking to it over its unix socket."""

from __future__ import annotations

import http.client
import os
import resource
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from infra.stack import own
from infra.stack.errors import StackError
from infra.stack.layout import REPOSITORY, Layout
from infra.stack.processes import Process

OPEN_FILES = 65_536
NOT_RUNNING, BAD_NAME, ALREADY_STARTED = 70, 10, 60
_UNREACHABLE = (OSError, http.client.HTTPException)


def configuration(layout: Layout, processes: Iterable[Process], open_files: int) -> str:
    """The text of supervisord.conf. Nothing starts by itself: the stack decides the order."""
    head = f"""\
[supervisord]
logfile={layout.log_of("supervisord")}
logfile_maxbytes=5MB
logfile_backups=1
pidfile={layout.supervisor_pid}
directory={REPOSITORY}
minfds={open_files}
childlogdir={layout.logs}

[unix_http_server]
file={layout.supervisor_socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return "\n".join([_escaped(head), *(_program(layout, p) for p in processes)])


def _program(layout: Layout, process: Process) -> str:
    return _escaped(f"""\
[program:{process.name}]
command={shlex.join(process.command)}
priority={process.order}
autostart=false
autorestart=true
startsecs=1
startretries=30
stopsignal={process.stop_signal}
stopwaitsecs={process.stop_wait_s}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={layout.log_of(process.name)}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
""")


def _escaped(text: str) -> str:
    """The supervisor expands %(name)s."""
    return text.replace("%", "%%")


def open_files_limit() -> int:
    """Many open streams need many files; the supervisor hands its limit on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


class Supervisor:
    """A client of one stack's supervisord. Every call opens and closes its own connection."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._child: subprocess.Popen[bytes] | None = None

    def call(self, method: str, *args: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._layout.supervisor_socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport, allow_none=True)
            return getattr(proxy.supervisor, method)(*args)
        finally:
            transport.close()

    def pid(self) -> int | None:
        """The supervisor's pid if it answers and is ours."""
        try:
            pid = int(self.call("getPID"))
        except (*_UNREACHABLE, xmlrpc.client.Error):
            return None
        return pid if own.belongs(pid, self._layout.run_dir) else None

    def launch(self, environ: Mapping[str, str], attached: bool) -> None:
        """Start supervisord: as a daemon, or `attached`, which ends with the process that started it."""
        self.forget()
        args = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._layout.supervisor_conf)]
        if attached:
            args = ["setpriv", "--pdeathsig", "TERM", *args, "--nodaemon", "--silent"]
        marked = dict(environ) | {own.MARK: str(self._layout.run_dir)}
        output = self._layout.log_of("supervisord-start")
        with output.open("w") as file:
            self._child = child = subprocess.Popen(
                args,
                env=marked,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while self.pid() is None:
            if child.poll() not in (None, 0) or time.monotonic() > deadline:
                child.kill()
                raise StackError(f"the process supervisor did not start: {output.read_text().strip()} ({output})")
            time.sleep(0.02)

    def states(self) -> dict[str, dict[str, Any]]:
        """name → what the supervisor knows; empty when it does not run."""
        if self.pid() is None:
            return {}
        return {info["name"]: info for info in self.call("getAllProcessInfo")}

    def apply_configuration(self) -> list[str]:
        """Take over a changed configuration; processes it changed are stopped and returned."""
        added, changed, removed = self.call("reloadConfig")[0]
        self.stop([*changed, *removed])
        for name in (*changed, *removed):
            self.call("removeProcessGroup", name)
        for name in (*added, *changed):
            self.call("addProcessGroup", name)
        return [str(name) for name in changed]

    def start(self, name: str) -> None:
        try:
            self.call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_STARTED:
                raise StackError(f"{name} could not be started: {fault.faultString}") from fault

    def stop(self, names: Sequence[str], patience_s: float = 75) -> None:
        """Stop these together and wait until all have ended."""
        for name in names:
            try:
                self.call("stopProcess", name, False)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode not in (NOT_RUNNING, BAD_NAME):
                    raise StackError(f"{name} could not be stopped: {fault.faultString}") from fault
        deadline = time.monotonic() + patience_s
        while any(info["pid"] for name, info in self.states().items() if name in names):
            if time.monotonic() > deadline:
                raise StackError(f"still running {patience_s:.0f} s after they were told to stop: {', '.join(names)}")
            time.sleep(0.05)

    def shutdown(self, patience_s: float = 20) -> None:
        """End the supervisor; whatever it still ran ends with it."""
        pid = self.pid()
        if pid is None:
            return
        self.call("shutdown")
        deadline = time.monotonic() + patience_s
        while own.belongs(pid, self._layout.run_dir) and time.monotonic() < deadline:
            time.sleep(0.02)

    def forget(self) -> None:
        """Clear what a dead supervisor leaves: its zombie, its socket, its pid file."""
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._layout.supervisor_socket.unlink(missing_ok=True)
        self._layout.supervisor_pid.unlink(missing_ok=True)


def caller_environ(environ: Mapping[str, str], prefix: str) -> dict[str, str]:
    """What every child inherits; the stack's own variables come to each process by a file instead."""
    return {name: value for name, value in environ.items() if not name.startswith(prefix)} | {
        "PWD": os.fspath(REPOSITORY)
    }
