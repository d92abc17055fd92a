"""The exchange simulator as a process of its own on loopback, and how to reach it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from infra.contracts import Quote, Tick, decode

API_KEY = "venue-key"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JWT_SECRET = "0123456789abcdef0123456789abcdef"
READY_S_MAX = 40.0


@dataclass(frozen=True, slots=True)
class Simulator:
    url: str
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def simulator(folder: Path, webhook_url: str = "", **settings: str) -> Iterator[Simulator]:
    """A venue with a few busy symbols; `settings` are further XGW_ variables in lower case."""
    port = int(settings.get("venue_port", "0")) or free_port()
    told = {
        "run_dir": str(folder),
        "venue_port": str(port),
        "venue_api_key": API_KEY,
        "webhook_secret": WEBHOOK_SECRET,
        "jwt_secret": JWT_SECRET,
        "webhooks": "true" if webhook_url else "false",
        "webhook_url": webhook_url,
        "marketdata_dir": str(folder / "none"),
        "tape_symbols": "5",
        "tape_synthetic_rows": "50000",
        "tape_speed": "100x",
    } | settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XGW_")}
    environment |= {f"XGW_{name.upper()}": value for name, value in told.items()}
    with (folder / f"venue-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange_gateway.simulator"], env=environment, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _until_ready(url, process, Path(log.name))
            yield Simulator(url, process)
        finally:
            process.terminate()
            process.wait(10)


def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the venue is not ready: {log.read_text()[-2000:]}")


class _Ticks(msgspec.Struct, tag_field="type", tag="ticks"):
    ticks: list[Tick]


async def first_quote(frames: AsyncIterator[bytes]) -> Quote:
    """The first two-sided quote with room for a small order."""
    async for frame in frames:
        if b'"type":"ticks"' not in frame:
            continue
        found: _Ticks = decode(_Ticks, frame)
        for tick in found.ticks:
            if isinstance(tick, Quote) and tick.bz and tick.az:
                return tick
    raise AssertionError("the feed ended without a quote")
