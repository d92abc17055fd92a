"""The peer of the price stream: nginx with the nchan module, from Debian's packages, with one worker."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from infra.stack import health, install
from infra.stack.layout import Cache
from infra.stack.ports import free_numbers
from tests.bench import compiled, cores

PACKAGES = ("nginx", "libnginx-mod-nchan")
MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
START_S = 15.0

# A message is kept for a moment only: nobody resumes here, and less to keep is less work for it.
CONFIGURATION = """\
load_module {module};
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 19900; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 512k;
    client_body_in_single_buffer on;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        large_client_header_buffers 4 32k;
        location = /healthz {{ return 200; }}
        location = /publish {{
            nchan_publisher;
            nchan_channel_id $arg_symbol;
            nchan_message_buffer_length 10;
            nchan_message_timeout 10s;
        }}
        location = /follow {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_symbols;
            nchan_channel_id_split_delimiter ",";
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 0;
        }}
    }}
}}
"""


class Published(msgspec.Struct, frozen=True):
    sent: int
    answered: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Nchan:
    """A running one; `pid` is its worker's."""

    folder: Path
    port: int
    pid: int

    @staticmethod
    def target(symbols: Sequence[str]) -> str:
        return "/follow?symbols=" + ",".join(symbols)

    def publish(self, symbols: Sequence[str], seconds: float, **options: float) -> Published:
        """Quotes of these symbols in turn, as long as `seconds`; ends once all are answered."""
        program = compiled.built("publish", self.folder)
        names = self.folder / "symbols"
        names.write_text("".join(f"{symbol}\n" for symbol in symbols), encoding="ascii")
        target = ["127.0.0.1", str(self.port), "/publish?symbol=", str(names), f"{seconds:g}"]
        command = [str(program), *target, *(f"{name}={value:g}" for name, value in options.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
        if done.returncode != 0:
            raise RuntimeError(f"the publisher failed: {done.stderr.strip()}")
        return msgspec.json.decode(done.stdout, type=Published)


def installed(cache: Cache) -> None:
    """From the host's own packages; nothing of them is started by the installation."""
    if shutil.which("nginx") is None or not MODULE.exists():
        install.require_root()
        with install.nothing_started_by_packages():
            install.apt_install(PACKAGES, cache, lambda _: None)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Nchan]:
    """A fresh one on the server's core."""
    (port,) = free_numbers(1)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(module=MODULE, folder=folder, port=port), encoding="utf-8")
    command = cores.on_server_core(["nginx", "-c", str(configuration), "-p", str(folder)])
    output = folder / "nginx.log"
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as server:
        try:
            trouble = health.wait_healthy({"nginx": lambda: health.http_trouble(port, "/healthz")}, START_S)
            if trouble:
                raise RuntimeError(f"nginx did not start: {trouble['nginx']}\n{output.read_text(encoding='utf-8')}")
            yield Nchan(folder, port, cores.only_child(server.pid))
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
