"""Who may import what: between services, towards technologies, and inside a service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.shape.tree import ROOT, SERVICES, Source, imported

# The composition roots: the only files of the api that may name a service, and only its wiring and its settings;
# the demo also its twins in memory, of which it is made.
DEMO = "api/demo.py"
ROOTS = {"api/__main__.py": ("price_service", "order_service"), DEMO: SERVICES}
ROOT_MODULES = ("app", "settings")

TECHNOLOGIES = {
    "sqlalchemy": "_pg",
    "psycopg": "_pg",
    "redis": "_redis",
    "confluent_kafka": "_kafka",
    "httpx": "_http",
    "websockets": "_ws",
}
DOMAIN = "order_service/domain/"
STREAM_WRITER = "infra/sse.py"

# The exchange in the box is a process of its own, beside the gateway and not part of it.
OWN_PROCESSES = ("exchange_gateway/simulator",)
# Where both meet, for simulations in one process.
MEETING_PLACES = ("exchange_gateway/simulator/inprocess.py",)
WIRING = ("app", "__main__", "routes", "demo")


def services_are_strangers(source: Source) -> Iterator[str]:
    """Services never import each other, nor the api; infra imports none; the api does in its roots only."""
    for line, name in imported(source):
        target, *rest = name.split(".")
        if target not in (*SERVICES, "api") or target == source.top:
            continue
        inside = rest[1:] if rest[:1] == ["simulator"] else rest
        if target in ROOTS.get(source.path, ()) and inside and inside[0] in ROOT_MODULES:
            continue
        if source.path == DEMO and any("memory" in part.split("_") for part in inside):
            continue
        yield source.at(line, f"{source.top} imports {name}")


def technologies_have_their_files(source: Source) -> Iterator[str]:
    """Only a file with the technology's suffix, or infra, talks to it; event streams are written in one file."""
    for line, name in imported(source):
        technology = name.split(".")[0]
        suffix = TECHNOLOGIES.get(technology)
        if suffix and source.top != "infra" and not source.stem.endswith(suffix):
            yield source.at(line, f"imports {technology}, which belongs in infra or a file named *{suffix}.py")
        if technology == "sse_starlette" and source.path != STREAM_WRITER:
            yield source.at(line, f"imports sse_starlette, which belongs in {STREAM_WRITER}")


def the_domain_stands_alone(source: Source) -> Iterator[str]:
    """The order domain imports the standard library and itself."""
    if not source.path.startswith(DOMAIN):
        return
    for line, name in imported(source):
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("order_service.domain"):
            yield source.at(line, f"the domain imports {name}")


def arrows_point_one_way(source: Source) -> Iterator[str]:
    """domain ← store ← capability ← app; no capability imports another."""
    if source.top not in (*SERVICES, "api") or source.path in MEETING_PLACES:
        return
    here = _home(source.path.removesuffix(".py"))
    for line, name in imported(source):
        if name.split(".")[0] != source.top:
            continue
        there = _home(name.replace(".", "/"))
        if not _allowed(here, there):
            yield source.at(line, f"{_said(here)} imports {name}, which is in {_said(there)}")


def _home(path: str) -> tuple[str, str]:
    """(process, room) of a module. A room is a folder; `words` are the files that lie beside the rooms."""
    process = next((own for own in OWN_PROCESSES if f"{path}/".startswith(f"{own}/")), PurePosixPath(path).parts[0])
    rest = PurePosixPath(path).relative_to(process).parts
    if not rest or rest[0] in WIRING:
        return process, "app" if rest else "words"
    return process, rest[0] if _is_room(process, rest[0]) else "words"


def _is_room(process: str, name: str) -> bool:
    return (ROOT / process / name).is_dir() or name in ("domain", "store")


def _allowed(here: tuple[str, str], there: tuple[str, str]) -> bool:
    if here[0] != there[0]:
        return False
    mine, other = here[1], there[1]
    if mine in ("app", other):
        return True
    below = {"domain": (), "store": ("domain", "words"), "words": ("domain", "store")}
    return other in below.get(mine, ("domain", "store", "words"))


def _said(home: tuple[str, str]) -> str:
    return "/".join(home)
