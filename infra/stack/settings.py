"""Settings of the local stack, and the way they travel: environment in, remembered file, environment of a child."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.settings import PREFIX, Infra, SettingsError, load, setting

SERVER_KINDS = ("auto", "local", "docker")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """All that the local stack needs to know."""

    infra: Infra
    kafka_controller_port: int = setting(19093, "Port of Kafka's controller, used by Kafka alone.")
    servers: str = setting("auto", "Who runs the servers: local, docker, or auto (docker where an engine answers).")


def load_stack(environ: Mapping[str, str]) -> StackSettings:
    """Settings with absolute folders, so that they mean the same from every working directory."""
    loaded = load(StackSettings, environ)
    if loaded.servers not in SERVER_KINDS:
        raise SettingsError(f"{PREFIX}SERVERS={loaded.servers!r} is none of {', '.join(SERVER_KINDS)}")
    folders = {name: getattr(loaded.infra, name).absolute() for name in ("run_dir", "cache_dir")}
    return dataclasses.replace(loaded, infra=dataclasses.replace(loaded.infra, **folders))


def as_environ(settings: Any) -> dict[str, str]:
    """The XGW_ variables that make these settings again."""
    values: dict[str, str] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            values |= as_environ(value)
        else:
            values[PREFIX + item.name.upper()] = str(value)
    return values


def own_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What the caller set for our processes; a tape's path is made absolute while the caller's folder is known."""
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    if tape := ours.get(f"{PREFIX}TAPE"):
        ours[f"{PREFIX}TAPE"] = str(Path(tape).expanduser().absolute())
    return ours


def remember(path: Path, variables: Mapping[str, str]) -> None:
    """Keep the variables of `up`, so that a later verb without them finds the running stack."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(dict(sorted(variables.items())), indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def recall(path: Path) -> dict[str, str]:
    """The remembered variables; none when there is no stack or its file was torn by a crash."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
