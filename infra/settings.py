"""Settings are read once from the environment into frozen objects and passed down.

Each setting is a dataclass field declared with :func:`setting`: its default, and one sentence that says what it is. Its
unit is in its name. The environment variable is ``XGW_`` + the field's name in capitals. A field whose type is itself a
settings class is loaded from the same environment, so a process states everything it may read in one object.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "XGW_"
T = TypeVar("T")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


class SettingsError(ValueError):
    """The environment does not make valid settings; the message names every variable to mend."""


def setting(default: Any = dataclasses.MISSING, doc: str = "") -> Any:
    """Declare a setting. Without a default it is required."""
    if not doc:
        raise SettingsError("a setting needs a sentence that says what it is")
    return field(default=default, metadata={"doc": doc})


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Build `cls` from `environ`.

    Raises SettingsError that lists every missing or malformed variable at once.
    """
    problems: list[str] = []
    value = _load(cls, environ, problems)
    if problems:
        raise SettingsError("; ".join(problems))
    return typing.cast(T, value)


def declared(cls: type[Any]) -> Iterator[tuple[str, Any, str]]:
    """(environment variable, default, sentence) of every setting of `cls`, nested ones included."""
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[item.name]):
            yield from declared(typing.cast(type[Any], hints[item.name]))
        else:
            yield PREFIX + item.name.upper(), item.default, item.metadata.get("doc", "")


def _load(cls: type[Any], environ: Mapping[str, str], problems: list[str]) -> Any:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind):
            values[item.name] = _load(typing.cast(type[Any], kind), environ, problems)
            continue
        name = PREFIX + item.name.upper()
        raw = environ.get(name)
        if raw is None:
            if item.default is dataclasses.MISSING:
                problems.append(f"{name} is not set ({item.metadata.get('doc', '')})")
            continue
        try:
            values[item.name] = _parse(kind, raw)
        except ValueError:
            problems.append(f"{name}={raw!r} is not {kind.__name__}")
    return None if problems else cls(**values)


def _parse(kind: type[Any], raw: str) -> Any:
    if kind is bool:
        lowered = raw.strip().lower()
        if lowered not in _TRUE | _FALSE:
            raise ValueError(raw)
        return lowered in _TRUE
    if kind in (int, float, str, Path):
        return kind(raw)
    raise TypeError(f"settings of type {kind} are not supported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Infra:
    """Where everything is. The local defaults are loopback; a deployment sets the hosts."""

    env: str = setting("local", "Name of the deployment, shown in logs.")
    run_dir: Path = setting(Path(".run"), "Folder for data, logs and generated files of the local stack.")
    cache_dir: Path = setting(Path(".cache"), "Folder for downloaded servers of the local stack.")

    bind_host: str = setting("127.0.0.1", "Address that our processes listen on.")
    api_port: int = setting(8000, "Port of the api, the only door for clients.")
    venue_host: str = setting("127.0.0.1", "Host of the venue.")
    venue_port: int = setting(8100, "Port of the venue; the exchange simulator listens on it.")
    gateway_host: str = setting("127.0.0.1", "Host of the exchange gateway's internal port.")
    gateway_port: int = setting(8200, "Internal port of the exchange gateway: webhooks in, health, metrics.")
    price_service_port: int = setting(8300, "Internal port of the price service worker: health, metrics.")
    order_service_port: int = setting(8400, "Internal port of the order service worker: health, metrics.")
    relay_port: int = setting(8500, "Internal port of the outbox relay: health, metrics.")

    postgres_host: str = setting("127.0.0.1", "Host of PostgreSQL.")
    postgres_port: int = setting(15432, "Port of PostgreSQL.")
    postgres_user: str = setting("xgw", "Role that the services connect with.")
    postgres_password: str = setting("xgw", "Password of that role.")
    kafka_host: str = setting("127.0.0.1", "Host of a Kafka broker to bootstrap from.")
    kafka_port: int = setting(19092, "Port of that broker.")
    redis_host: str = setting("127.0.0.1", "Host of Redis.")
    redis_port: int = setting(16379, "Port of Redis.")

    log_level: str = setting("INFO", "Lowest level that is logged.")

    @property
    def bootstrap(self) -> str:
        return f"{self.kafka_host}:{self.kafka_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://{self.redis_host}:{self.redis_port}/0"

    @property
    def venue_url(self) -> str:
        return f"http://{self.venue_host}:{self.venue_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://{self.gateway_host}:{self.gateway_port}"

    def dsn(self, database: str) -> str:
        """libpq URL of one of our databases, `orders` or `prices`."""
        host = f"{self.postgres_host}:{self.postgres_port}"
        return f"postgresql://{self.postgres_user}:{self.postgres_password}@{host}/{database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Shared secrets. The local stack makes them once in its run folder; a deployment mounts them."""

    jwt_secret: str = setting(doc="Key that signs and verifies bearer tokens (HS256), at least 32 bytes.")
    venue_api_key: str = setting(doc="Bearer key that the venue demands from us.")
    webhook_secret: str = setting(doc="Key of the signature on the venue's webhooks, `whsec_` + base64.")
