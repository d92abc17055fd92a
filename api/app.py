"""What the api is made of: the doors of its roles behind one authentication, one error form, one set of limits.

Services are not imported here. A service's `app.open_doors` gives an object in the shape of `Doors`; the composition
roots (`api/__main__.py` and `api/demo.py`) choose whose doors are opened and pass the openers in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from api import docs, errors
from api.auth import routes as auth
from api.auth.bearer import Authenticator, Bearer, PrincipalDependency, require
from api.auth.tickets import StreamCaller, Tickets
from api.auth.tokens import key_of
from api.direct import Direct
from api.limits import BodyLimit
from api.observe import Observed
from api.ops import routes as ops
from api.quick import QuickAnswers
from api.roles import Door
from api.settings import ApiSettings
from api.wire import WireProtocol, speaking
from infra.cache import Once, RedisCache
from infra.cache_memory import MemoryCache
from infra.clock import Clock, Ids, SystemClock
from infra.direct import Handler, Handlers, Quick
from infra.process import Part, Ready, Service

NAME = "api"
V = TypeVar("V")


class Doors(Protocol):
    """What a service gives the api: its routes, and what must run and be ready in this process for them to work."""

    @property
    def parts(self) -> Mapping[str, Part]: ...

    @property
    def ready(self) -> Mapping[str, Ready]: ...

    @property
    def direct(self) -> Handlers:
        """Those of its routes that are answered before the framework (`api/direct.py`)."""
        ...

    def routers(self, principal: PrincipalDependency) -> list[APIRouter]:
        """Its routes; each that touches an account depends on `principal`, those of streams on `on_streams(principal)`
        (`infra/principal.py`). The door `ops` admits operators only."""
        ...


@runtime_checkable
class QuickDoors(Protocol):
    """Doors that have answers ready before they are asked for."""

    @property
    def quick(self) -> Sequence[Quick]: ...


Opener = Callable[[asyncio.Event], contextlib.AbstractAsyncContextManager[Doors]]


@contextlib.asynccontextmanager
async def opened(
    settings: ApiSettings,
    openers: Mapping[Door, Opener],
    stop: asyncio.Event,
    roles: tuple[Door, ...],
    clock: Clock | None = None,
    kept: Once | None = None,
) -> AsyncIterator[Service]:
    """The api as a service: the doors of `roles` are open inside the block and closed, last first, after it. `kept`
    holds tickets, in Redis unless told otherwise."""
    async with contextlib.AsyncExitStack() as stack:
        if kept is None:
            kept = redis = RedisCache(settings.infra.redis_url)
            stack.push_async_callback(redis.close)
        doors = {role: await stack.enter_async_context(openers[role](stop)) for role in roles if role in openers}
        clock = clock or SystemClock()
        bearer = bearer_of(settings, clock)
        app = build(settings, doors, roles, clock, kept, bearer)
        protocol = _protocol(settings, doors, bearer, clock)
        yield Service(NAME, app, _merged(doors, lambda d: d.parts), _merged(doors, lambda d: d.ready), protocol)


def bearer_of(settings: ApiSettings, clock: Clock) -> Bearer:
    key = key_of(settings.secrets.jwt_secret)
    return Bearer({key.kid: key}, clock)


def _protocol(settings: ApiSettings, doors: Mapping[Door, Doors], bearer: Bearer, clock: Clock) -> type[WireProtocol]:
    offered = [quick for door in doors.values() if isinstance(door, QuickDoors) for quick in door.quick]
    if not (offered and settings.direct_routes):
        return WireProtocol
    return speaking(QuickAnswers(offered, bearer.identify, clock, Ids(clock)))


def build(
    settings: ApiSettings,
    doors: Mapping[Door, Doors],
    roles: tuple[Door, ...],
    clock: Clock,
    kept: Once | None = None,
    bearer: Bearer | None = None,
) -> FastAPI:
    """The ASGI application with the routes of `doors`, and the operators' where `roles` has them. Without `kept` the
    tickets stay in this process."""
    bearer = bearer or bearer_of(settings, clock)
    tickets = Tickets(kept or MemoryCache(clock), clock)
    principal = Authenticator(bearer, StreamCaller(bearer, tickets))
    handlers: dict[tuple[str, str], Handler] = {}
    for door in doors.values() if settings.direct_routes else ():
        handlers |= door.direct
    app = FastAPI(
        title="exchange gateway",
        summary="Stock prices and orders.",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        responses=errors.RESPONSES,
        middleware=[
            Middleware(Observed, clock=clock, ids=Ids(clock)),
            Middleware(BodyLimit, bytes_max=settings.body_bytes_max),
            Middleware(Direct, handlers=handlers, identify=bearer.identify),
        ],
        # A redirect would repeat a POST somewhere else; a wrong path is a wrong path.
        redirect_slashes=False,
    )
    errors.install(app)
    docs.add_page(app, docs.installed_assets())
    operator = require(principal, "operator")
    for role, door in doors.items():
        # Behind the door `ops` are the operators' routes, also those that a service offers (`OpsDoors.services`).
        for router in door.routers(operator if role == "ops" else principal):
            app.include_router(router)
    app.include_router(auth.router(tickets, principal))
    if "ops" in roles:
        app.include_router(ops.router(operator, roles, _merged(doors, lambda d: d.ready)))
    return app


def _merged(doors: Mapping[Door, Doors], part: Callable[[Doors], Mapping[str, V]]) -> dict[str, V]:
    """Two doors' names side by side. They are names of one process, so the role is in front where they meet."""
    merged: dict[str, V] = {}
    for role, door in doors.items():
        for name, value in part(door).items():
            merged[name if name not in merged else f"{role}.{name}"] = value
    return merged
