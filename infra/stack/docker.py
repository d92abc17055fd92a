"""The three servers as containers, where a Docker engine answers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.stack.errors import StackError
from infra.stack.layout import REPOSITORY

COMPOSE_FILE = REPOSITORY / "infra/deploy/compose.yaml"
# What one stack sees of `docker compose ps`, in the supervisor's words.
STATES = {"running": "RUNNING", "restarting": "BACKOFF", "created": "STARTING"}


def resolved(wanted: str) -> str:
    """`local` or `docker` for the setting's `auto`."""
    if wanted != "auto":
        return wanted
    return "docker" if engine_answers() else "local"


def engine_answers() -> bool:
    """A docker command with its compose plugin, and an engine behind it."""
    if shutil.which("docker") is None:
        return False
    return all(_succeeds(["docker", *args]) for args in (["info"], ["compose", "version"]))


class Compose:
    """The compose project of one stack, named after its run folder."""

    def __init__(self, run_dir: Path, variables: Mapping[str, str]) -> None:
        project = f"xgw-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:10]}"
        self._command = ["docker", "compose", "--project-name", project, "--file", str(COMPOSE_FILE)]
        self._environ = dict(os.environ) | dict(variables)

    def up(self, names: list[str]) -> None:
        self._run("up", "--detach", *names)

    def down(self, with_data: bool = False) -> None:
        self._run("down", *(["--volumes"] if with_data else []))

    def states(self) -> dict[str, dict[str, Any]]:
        return parsed_states(self._run("ps", "--all", "--format", "json"))

    def _run(self, *args: str) -> str:
        done = subprocess.run(
            [*self._command, *args],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"`docker compose {args[0]}` failed: {done.stderr.strip()[-1000:]}")
        return done.stdout


def parsed_states(text: str) -> dict[str, dict[str, Any]]:
    """name → state in the supervisor's words. Compose prints one object per line, older versions one list."""
    stripped = text.strip()
    rows = json.loads(stripped) if stripped.startswith("[") else [json.loads(line) for line in stripped.splitlines()]
    return {
        str(row["Service"]): {"pid": 0, "statename": STATES.get(str(row["State"]).lower(), "STOPPED"), "docker": True}
        for row in rows
    }


def _succeeds(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
