"""The one list of what runs: servers first, then our own processes, in the order of starting."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.settings import PREFIX
from infra.stack import kafka, postgres, redis_server
from infra.stack.layout import Layout
from infra.stack.settings import StackSettings

LAUNCH_SCRIPT = Path(__file__).with_name("with_variables.sh")
SERVERS = ("postgres", "kafka", "redis")

Health = Literal["postgres", "kafka", "redis", "http"]


@dataclass(frozen=True, slots=True)
class Port:
    number: int
    variable: str  # the setting that moves it


@dataclass(frozen=True, slots=True)
class Process:
    """One supervised process. `order` is the place in starting; stopping goes the other way."""

    name: str
    ports: tuple[Port, ...]
    health: Health
    order: int
    stop_signal: str = "TERM"
    stop_wait_s: int = 8
    command: tuple[str, ...] = ()

    @property
    def is_server(self) -> bool:
        return self.name in SERVERS


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the installed servers are: the root folder they live in (`/` for the host's own), and Java."""

    root: Path
    java: Path
    kafka_jars: Path


# name, module, field of the settings with its port
_SERVICES = (
    ("venue", "exchange_gateway.simulator", "venue_port"),
    ("exchange_gateway", "exchange_gateway", "gateway_port"),
    ("outbox_relay", "outbox_relay", "relay_port"),
    ("price_service", "price_service", "price_service_port"),
    ("order_service", "order_service", "order_service_port"),
    ("api", "api", "api_port"),
)
SERVICES = tuple(name for name, _, _ in _SERVICES)


def listed(settings: StackSettings) -> tuple[Process, ...]:
    """Every process with its ports, without commands: enough to show and to look after."""
    infra = settings.infra
    servers = (
        Process("postgres", (_port(infra, "postgres_port"),), "postgres", 10, "INT", 60),
        Process(
            "kafka", (_port(infra, "kafka_port"), _port(settings, "kafka_controller_port")), "kafka", 10, "TERM", 30
        ),
        Process("redis", (_port(infra, "redis_port"),), "redis", 10, "TERM", 10),
    )
    services = (Process(name, (_port(infra, field),), "http", 20) for name, _, field in _SERVICES)
    return (*servers, *services)


def commands(
    settings: StackSettings, layout: Layout, programs: Programs | None, variables_file: Path
) -> dict[str, list[str]]:
    """The command line of every process; without programs (servers in containers) of our own ones only."""
    ours = {
        name: ["sh", "-e", str(LAUNCH_SCRIPT), str(variables_file), sys.executable, "-m", module]
        for name, module, _ in _SERVICES
    }
    if programs is None:
        return ours
    infra = settings.infra
    return {
        "postgres": postgres.command(programs.root, layout.data_of("postgres"), infra.postgres_port),
        "kafka": kafka.command(programs.java, programs.kafka_jars, layout, settings),
        "redis": redis_server.command(programs.root, layout.data_of("redis"), infra.redis_port),
    } | ours


def with_commands(processes: tuple[Process, ...], found: Mapping[str, list[str]]) -> tuple[Process, ...]:
    """Those that have a command, with it."""
    return tuple(dataclasses.replace(p, command=tuple(found[p.name])) for p in processes if p.name in found)


def _port(settings: object, field: str) -> Port:
    return Port(getattr(settings, field), PREFIX + field.upper())
