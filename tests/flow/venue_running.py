"""A running exchange simulator, in this process or as one of its own, and how tests talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from exchange_gateway.simulator.app import opened
from exchange_gateway.simulator.settings import SimulatorSettings
from exchange_gateway.simulator.synthetic import symbol_names
from infra.process import run_service
from infra.settings import load

KEY = {"authorization": "Bearer venue-key"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SYMBOLS = 5
SYMBOL = symbol_names(SYMBOLS)[0]
DEADLINE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Exchange:
    """A running venue and how to talk to it."""

    port: int
    client: httpx.AsyncClient
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10_000)))

    async def order(self, cl_ord_id: str = "", **changes: Any) -> httpx.Response:
        return await self.client.post("/orders", json=self.terms(cl_ord_id, **changes))

    def terms(self, cl_ord_id: str = "", **changes: Any) -> dict[str, Any]:
        return {
            "cl_ord_id": cl_ord_id or f"c-{next(self.numbers)}",
            "symbol": SYMBOL,
            "side": "BUY",
            "ord_type": "LIMIT",
            "tif": "GTC",
            "quantity": 10,
            "limit_micros": 10_000,
        } | changes

    def socket(self, path: str, **headers: str) -> connect:
        given = headers or KEY
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=given,
            compression=None,
            proxy=None,
            close_timeout=0.2,
        )


def settings_of(folder: Path, port: int, **changes: str) -> SimulatorSettings:
    told = {
        "run_dir": str(folder),
        "venue_port": str(port),
        "venue_api_key": "venue-key",
        "webhook_secret": SECRET,
        "jwt_secret": "j",
        "webhooks": "false",
        "marketdata_dir": str(folder / "none"),
        "tape_symbols": str(SYMBOLS),
        "tape_synthetic_rows": "50000",
        "tape_speed": "20x",
    } | changes
    return load(SimulatorSettings, {f"XGW_{name.upper()}": value for name, value in told.items()})


@contextlib.asynccontextmanager
async def running(folder: Path, **changes: str) -> AsyncIterator[Exchange]:
    port = free_port()
    settings, stop = settings_of(folder, port, **changes), asyncio.Event()
    async with opened(settings, stop) as service:
        serving = asyncio.create_task(run_service(service, "127.0.0.1", port, stop))
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers=KEY, trust_env=False, timeout=DEADLINE_S
            ) as client:
                await until_ready(client)
                yield Exchange(port, client)
        finally:
            stop.set()
            await asyncio.wait_for(serving, DEADLINE_S)


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)


async def frames_until(feed: ClientConnection, ticks: int) -> list[dict[str, Any]]:
    """Frames up to the one with which `ticks` ticks have come."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S):
        while sum(len(f.get("ticks", [])) for f in found) < ticks:
            found.append(json.loads(await feed.recv()))
    return found


def exec_types(answer: httpx.Response) -> list[str | None]:
    assert answer.status_code == 200, answer.text
    return [r["exec_type"] or r["kind"] for r in answer.json()["reports"]]


@contextlib.asynccontextmanager
async def process(folder: Path, **changes: str) -> AsyncIterator[tuple[Exchange, int]]:
    """The venue as a process of its own; it is killed at the end if it still runs. `changes` are further settings."""
    port = free_port()
    told = {
        "XGW_RUN_DIR": str(folder),
        "XGW_VENUE_PORT": str(port),
        "XGW_VENUE_API_KEY": "venue-key",
        "XGW_WEBHOOK_SECRET": SECRET,
        "XGW_JWT_SECRET": "j",
        "XGW_WEBHOOKS": "no",
        "XGW_MARKETDATA_DIR": str(folder / "none"),
        "XGW_TAPE_SYMBOLS": str(SYMBOLS),
        **{f"XGW_{name.upper()}": value for name, value in changes.items()},
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("XGW_")} | told
    made = await asyncio.create_subprocess_exec(sys.executable, "-m", "exchange_gateway.simulator", env=environment)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=KEY, trust_env=False, timeout=DEADLINE_S
        ) as client:
            await until_ready(client)
            yield Exchange(port, client), made.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.kill()
        await made.wait()
