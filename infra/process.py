"""What every process of ours has in common: its parts run until SIGTERM, and its port says how it is.

A service is assembled in its `app.py` and run here, alone or (for the demo) together with others in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from infra.clock import SystemClock
from infra.stalls import StallWatch

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 4.5
BACKLOG = 4096
# Of a message that a client sends on a WebSocket; a longer one ends the connection (RFC 6455 §7.4.1: 1009).
SOCKET_MESSAGE_BYTES_MAX = 64 * 1024
THREAD_SWITCH_S = 0.0005
# Objects made, less those dropped, between two looks of the garbage collector at the young ones.
GARBAGE_YOUNG = 20_000

Part = Callable[[asyncio.Event], Awaitable[None]]
Ready = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Service:
    """One process: an HTTP face and the parts that run beside it.

    A part returns soon after `stop` is set, its in-flight work finished; a part that raises ends the process, and the
    supervisor starts it again. `ready` names the conditions of readiness. `protocol` is how it speaks HTTP/1.1, when it
    is not uvicorn's own way.
    """

    name: str
    app: FastAPI
    parts: Mapping[str, Part] = field(default_factory=dict)
    ready: Mapping[str, Ready] = field(default_factory=dict)
    protocol: type[asyncio.Protocol] | None = None


def health_routes(service: Service) -> APIRouter:
    """/healthz: the process answers. /readyz: it can do its work; else 503 with what is missing. /metrics."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"process": service.name, "status": "alive"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, object]:
        missing = [name for name, is_ready in service.ready.items() if not is_ready()]
        response.status_code = 503 if missing else 200
        return {"process": service.name, "ready": not missing, "missing": missing}

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def run_parts(parts: Mapping[str, Part], stop: asyncio.Event) -> None:
    """Run all parts until `stop`; one that fails or ends early stops the others and is raised."""

    async def guarded(name: str, part: Part) -> None:
        try:
            await part(stop)
        except BaseException:
            log.exception("part_failed", part=name)
            raise
        finally:
            stop.set()

    tasks = [asyncio.create_task(guarded(name, part), name=name) for name, part in parts.items()]
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S) if tasks else (set(), set())
    for task in late:
        log.warning("part_did_not_stop_in_time", part=task.get_name())
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [r for r in results if isinstance(r, Exception)]
    if failures:
        raise failures[0]


async def serve_http(
    app: FastAPI, host: str, port: int, stop: asyncio.Event, protocol: type[asyncio.Protocol] | None = None
) -> None:
    """Serve `app` until `stop`; open streams are told by their own stop event and get a moment to end."""
    config = uvicorn.Config(
        app,
        http=protocol or "auto",
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_graceful_shutdown=3,
        server_header=False,
        ws_max_size=SOCKET_MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,  # costs both ends far more than it saves on loopback and in a data centre
        date_header=True,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await serving
    if not stop.is_set():
        raise RuntimeError(f"the server on port {port} ended by itself")


async def run_service(service: Service, host: str, port: int, stop: asyncio.Event) -> None:
    service.app.include_router(health_routes(service))

    async def http(stopped: asyncio.Event) -> None:
        await serve_http(service.app, host, port, stopped, service.protocol)

    log.info("started", service=service.name, port=port)
    await run_parts({"http": http, **service.parts}, stop)
    log.info("stopped", service=service.name)


def run(
    opened: Callable[[asyncio.Event], contextlib.AbstractAsyncContextManager[Service]], host: str, port: int
) -> None:
    """The main function of a process: open its service, run it until SIGTERM or SIGINT, close everything."""

    async def main() -> None:
        stop = asyncio.Event()
        with stopped_by_signals(stop):
            async with opened(stop) as service:
                # What was built by now lives as long as the process: the collector need not walk through it again and
                # again. What comes and goes with requests has few cycles, so it may look less often.
                gc.freeze()
                gc.set_threshold(GARBAGE_YOUNG, 50, 100)
                async with background(StallWatch(SystemClock()).run):
                    await run_service(service, host, port, stop)

    # A Kafka thread that has a message waits for the event loop to give way: by default up to 5 ms, at every hop.
    sys.setswitchinterval(THREAD_SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one stop event ends everything in the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def background(part: Part) -> AsyncIterator[None]:
    """Run one part for the length of a block (tests, demo)."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_parts({"part": part}, stop))
    try:
        yield
    finally:
        stop.set()
        await task
