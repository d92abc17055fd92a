"""Quote reads: our api beside nginx, which serves the same bytes as static files; in turn, each alone on one core.

Every read of ours checks its token, its rate and its version, and is counted. `python -m tests.bench.quote_reads` runs
this alone. On a machine that others use too, the rate per second of the server's CPU is the one to trust.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import msgspec

from api.auth.tokens import issue, key_of
from infra.clock import NS_PER_S, SystemClock
from infra.principal import Principal
from infra.settings import Infra, load
from infra.stack import health, install
from infra.stack.layout import REPOSITORY, Cache
from infra.stack.ports import free_numbers
from tests.bench import compiled, cores, figures
from tests.bench.figures import Figure

PACKAGE = "nginx"
CONNECTIONS, PAIRS = 64, 5
WARM_S, SECONDS, START_S = 0.5, 2.0, 20.0
SYMBOLS = [f"Q{number:02d}" for number in range(10)]
UNLIMITED = "1000000000"
GOAL = 1.2

CONFIGURATION = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        {files}
        location = /healthz {{ return 200; }}
    }}
}}
"""
# How Debian's package serves files, and the fastest way for small ones: they stay open, and head and content leave in
# one write.
AS_INSTALLED = "sendfile on; tcp_nopush on;"
OPEN_FILES = "sendfile off; open_file_cache max=100 inactive=1h; open_file_cache_valid 1h;"


class Loaded(msgspec.Struct):
    """What the load client says."""

    answers: int
    others: int
    bytes: int
    seconds: float
    p50_us: int
    p99_us: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Answers per second of wall time, and per second of the server's CPU; latencies as the client sees them."""

    per_second: float
    per_cpu_s: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    pid: int
    requests: Path

    def loaded(self, program: Path, seconds: float = SECONDS) -> Speed:
        command = [str(program), "127.0.0.1", str(self.port), str(CONNECTIONS), str(WARM_S), str(seconds)]
        with subprocess.Popen([*command, str(self.requests)], stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            load.stdout.readline()
            before = cores.cpu_s(self.pid)
            line = load.stdout.readline()
            spent = cores.cpu_s(self.pid) - before
        found = msgspec.json.decode(line, type=Loaded)
        if found.others:
            raise RuntimeError(f"{found.others} answers were not 200")
        return Speed(found.answers / found.seconds, found.answers / spent, found.p50_us, found.p99_us)


def measured(cache: Cache, say: Callable[[str], None], pairs: int = PAIRS) -> list[Figure]:
    """Interleaved; medians over the pairs."""
    installed(cache)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        program = compiled.built("http_load", folder)
        secret = secrets.token_hex(32)
        stack.enter_context(cores.rest_on_load_core([]))
        direct = stack.enter_context(api(folder, "direct", secret, direct=True))
        ordinary = stack.enter_context(api(folder, "ordinary", secret, direct=False))
        several = Server(direct.port, direct.pid, several_of(folder, secret))
        files(folder, direct.port, _bearer(secret))
        peer = stack.enter_context(nginx(folder, "as-installed", AS_INSTALLED))
        open_files = stack.enter_context(nginx(folder, "open-files", OPEN_FILES))
        runs: dict[str, list[Speed]] = {name: [] for name in ("peer", "direct", "open", "several", "ordinary")}
        for pair in range(pairs):
            say(f"quote reads, pair {pair + 1} of {pairs}")
            runs["peer"].append(peer.loaded(program))
            runs["direct"].append(direct.loaded(program))
            if pair < 3:
                runs["open"].append(open_files.loaded(program))
                runs["several"].append(several.loaded(program))
                runs["ordinary"].append(ordinary.loaded(program))
    return _figures(runs)


def _figures(runs: dict[str, list[Speed]]) -> list[Figure]:
    size = f"{CONNECTIONS} connections kept alive, 10 symbols, one token, {len(runs['peer'])} interleaved pairs"
    load = f"one core each, {size}, medians"
    note = f"{load}; peer: nginx as Debian installs it, with the same quotes as static files, without a token"

    def figure(name: str, what: str, which: str, against: str, goal: str, unit: str, conditions: str) -> Figure:
        both = zip(runs[what], runs[against], strict=False)  # some are run in the first pairs only
        pairs = [(getattr(a, which), getattr(b, which)) for a, b in both]
        ours, theirs = zip(*pairs, strict=True)
        ratio = median(a / b for a, b in pairs)
        return Figure(name, round(median(ours)), round(median(theirs)), round(ratio, 2), goal, unit, conditions)

    tuned = f"{load}; peer: nginx with sendfile off and open_file_cache, which never looks whether a file has changed"
    return [
        figure("quote reads, per CPU second", "direct", "per_cpu_s", "peer", f"≥ {GOAL}", "/s", note),
        figure("quote reads, per second", "direct", "per_second", "peer", f"≥ {GOAL}", "/s", note),
        figure("quote reads, p50", "direct", "p50_us", "peer", "", "µs", note),
        figure("quote reads, p99", "direct", "p99_us", "peer", "", "µs", note),
        figure("quote reads, files kept open", "direct", "per_cpu_s", "open", "", "/s", tuned),
        figure("quote reads, symbols= of 10", "several", "per_cpu_s", "peer", "", "/s", f"{note} of one quote"),
        figure("quote reads, plain route", "ordinary", "per_cpu_s", "peer", "", "/s", f"{note}; direct_routes off"),
    ]


def installed(cache: Cache) -> None:
    """From the host's own packages; nothing of it is started by the installation."""
    if shutil.which("nginx") is None:
        install.require_root()
        with install.nothing_started_by_packages():
            install.apt_install([PACKAGE], cache, lambda _: None)


@contextlib.contextmanager
def api(folder: Path, name: str, secret: str, direct: bool) -> Iterator[Server]:
    (port,) = free_numbers(1)
    environ = os.environ | {
        "XGW_JWT_SECRET": secret,
        "XGW_VENUE_API_KEY": "none",
        "XGW_WEBHOOK_SECRET": "none",
        "XGW_DIRECT_ROUTES": "1" if direct else "0",
        "XGW_PRICES_READS_PER_S": UNLIMITED,
        "XGW_PRICES_READS_BURST_MAX": UNLIMITED,
        "XGW_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "tests.bench.quote_server", str(port), ",".join(SYMBOLS)]
    with _running(cores.on_server_core(command), folder / f"{name}.log", port, "/readyz", environ) as pid:
        bearer = _bearer(secret)
        requests = folder / f"{name}.requests"
        requests.write_bytes(b"".join(_request(f"/stockPrices?symbol={symbol}", bearer) for symbol in SYMBOLS))
        yield Server(port, pid, requests)


def several_of(folder: Path, secret: str) -> Path:
    requests = folder / "several.requests"
    requests.write_bytes(_request(f"/stockPrices?symbols={','.join(SYMBOLS)}", _bearer(secret)))
    return requests


def files(folder: Path, port: int, bearer: str) -> None:
    """The bodies that our api answers, as nginx's files."""
    place = folder / "files" / "stockPrices"
    place.mkdir(parents=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": bearer}, trust_env=False) as http:
        for symbol in SYMBOLS:
            answer = http.get("/stockPrices", params={"symbol": symbol})
            answer.raise_for_status()
            (place / symbol).write_bytes(answer.content)


@contextlib.contextmanager
def nginx(folder: Path, name: str, how: str) -> Iterator[Server]:
    (port,) = free_numbers(1)
    configuration = folder / f"{name}.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, files=how), encoding="utf-8")
    command = ["nginx", "-c", str(configuration), "-p", str(folder)]
    requests = folder / f"{name}.requests"
    # The same request but for its target, so that both read as many bytes.
    bearer = _bearer("n" * 64)
    requests.write_bytes(b"".join(_request(f"/stockPrices/{symbol}", bearer) for symbol in SYMBOLS))
    with _running(cores.on_server_core(command), folder / f"{name}.log", port, "/healthz", dict(os.environ)) as pid:
        yield Server(port, cores.only_child(pid), requests)


@contextlib.contextmanager
def _running(command: list[str], output: Path, port: int, path: str, environ: dict[str, str]) -> Iterator[int]:
    with (
        output.open("w") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environ, cwd=REPOSITORY) as server,
    ):
        try:
            trouble = health.wait_healthy({"it": lambda: health.http_trouble(port, path)}, START_S)
            if trouble:
                raise RuntimeError(f"{command} did not start: {output.read_text(encoding='utf-8')[-2000:]}")
            yield server.pid
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()


def _bearer(secret: str) -> str:
    now_s = SystemClock().now_ns() // NS_PER_S
    return "Bearer " + issue(key_of(secret), Principal("bench", "investor", 1), now_s - now_s % 60, 3600, "bench")


def _request(target: str, bearer: str) -> bytes:
    head = [f"GET {target} HTTP/1.1", "host: 127.0.0.1", f"authorization: {bearer}", "accept: application/json"]
    return ("\r\n".join(head) + "\r\n\r\n").encode("ascii")


def main() -> int:
    def say(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    found = measured(Cache(load(Infra, os.environ).cache_dir), say)
    print(f"\n{figures.machine()}; the server on one core, the load on the other\n\n{figures.table(found)}\n")
    for conditions in dict.fromkeys(figure.conditions for figure in found):
        print(conditions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
