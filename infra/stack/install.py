"""Installs what the stack needs and the machine lacks. Each part is built beside its place and renamed when complete,
so an interrupted install is done again and a complete one never."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from infra.stack import postgres
from infra.stack.errors import StackError
from infra.stack.layout import Cache
from infra.stack.processes import Programs

SUITE = "trixie"
PACKAGES = ("postgresql-17", "postgresql-17-timescaledb", "redis-server", "ca-certificates")
STAMP = ".complete"
POM = Path(__file__).with_name("kafka-pom.xml")
JAVA_MIN = 17
GIB = 1 << 30
INSTALL_BYTES_MIN = 2 * GIB

# tool → the Debian package that brings it
TOOLS = {
    "unshare": "util-linux",
    "mount": "mount",
    "setpriv": "util-linux",
    "chroot": "coreutils",
    "debootstrap": "debootstrap",
    "mvn": "maven",
}

Say = Callable[[str], None]


def install(cache: Cache, say: Say) -> Programs:
    """Everything the local servers need, installed where it is missing."""
    require_root()
    cache.cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(cache.lock, lambda: say("waiting for another install in this folder to end …")):
        for left_over in cache.cache_dir.glob("*.partial-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        java = _java(cache, say)
        need(("unshare", "mount", "setpriv", "chroot"), cache, say)
        root = host_root(cache, say) or _trixie(cache, say)
        return Programs(root=root, java=java, kafka_jars=_kafka(cache, say))


def require_root() -> None:
    if os.geteuid() != 0:
        raise StackError(
            "the local servers need root (packages, mounts, and accounts of their own): run as root, "
            "or start a Docker engine, which is used instead; `make demo` needs neither"
        )


def require_space(folder: Path, wanted: int, purpose: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise StackError(
            f"{purpose} needs {wanted / GIB:.1f} GiB free in {folder}, which has {free / GIB:.1f} GiB: make room "
            f"there, or choose another disk with XGW_CACHE_DIR and XGW_RUN_DIR"
        )


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when the holder dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def need(tools: Sequence[str], cache: Cache, say: Say) -> None:
    """Make sure of these tools, from the host's own packages."""
    if missing := sorted({TOOLS[tool] for tool in tools if shutil.which(tool) is None}):
        apt_install(missing, cache, say)
    if still := [tool for tool in tools if shutil.which(tool) is None]:
        raise StackError(
            f"these tools are missing and could not be installed: {', '.join(still)}; install them and try again"
        )


def apt_install(packages: Sequence[str], cache: Cache, say: Say) -> None:
    if shutil.which("apt-get") is None:
        raise StackError(
            f"missing: {', '.join(packages)}; there is no apt-get here, so install them by hand and try again"
        )
    say(f"installing {', '.join(packages)} with apt-get …")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], cache, quiet)
    wait = ["-o", "DPkg::Lock::Timeout=120"]
    run(["apt-get", *wait, "install", "-y", "-qq", "--no-install-recommends", *packages], cache, quiet)


def run(args: Sequence[str], cache: Cache, variables: dict[str, str] | None = None) -> None:
    """Run a step of the install; its output goes to install.log, the end of which is shown when it fails."""
    log = cache.cache_dir / "install.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(args)}\n")
        file.flush()
        environ = dict(os.environ) | (variables or {})
        code = subprocess.call(list(args), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ)
    if code != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise StackError(f"`{' '.join(args[:3])} …` failed with code {code}; {log} ends with:\n{tail}")


def java_major(version_text: str) -> int | None:
    """17 from `openjdk version "17.0.15" 2025-04-15`."""
    match = re.search(r'version "(\d+)', version_text)
    return int(match.group(1)) if match else None


def host_root(cache: Cache, say: Say) -> Path | None:
    """`/` on a host whose own packages have the servers, installed where they are not yet; None elsewhere."""
    if not servers_in(Path("/")) and _host_offers_servers(cache):
        require_space(cache.cache_dir, INSTALL_BYTES_MIN, "installing the servers")
        with nothing_started_by_packages():
            apt_install(PACKAGES, cache, say)
    return Path("/") if servers_in(Path("/")) else None


def servers_in(root: Path) -> bool:
    share = "usr/share/postgresql/17/extension/timescaledb.control"
    return all((root / path).exists() for path in (f"{postgres.BIN[1:]}/postgres", "usr/bin/redis-server", share))


def _host_offers_servers(cache: Cache) -> bool:
    release = Path("/etc/os-release")
    if not release.exists() or f"VERSION_CODENAME={SUITE}" not in release.read_text(encoding="utf-8").splitlines():
        return False
    run(["apt-get", "update", "-qq"], cache)
    shown = subprocess.run(
        ["apt-cache", "show", PACKAGES[1]], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return shown.returncode == 0


@contextlib.contextmanager
def nothing_started_by_packages() -> Iterator[None]:
    """Debian's packages start a server, and make a cluster, when they are installed; ours are started by us alone."""
    drop_in = Path("/etc/postgresql-common/createcluster.d/exchange-gateway.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("create_main_cluster = false\n", encoding="utf-8")
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _java(cache: Cache, say: Say) -> Path:
    found = _usable_java()
    if found is None:
        require_space(cache.cache_dir, INSTALL_BYTES_MIN, "installing the servers")
        apt_install(["default-jre-headless"], cache, say)
        found = _usable_java()
    if found is None:
        raise StackError(f"Kafka needs Java {JAVA_MIN} or newer as `java` on the PATH: install it and try again")
    return found


def _usable_java() -> Path | None:
    where = shutil.which("java")
    if where is None:
        return None
    said = subprocess.run([where, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    major = java_major(said.stderr + said.stdout)
    return Path(where) if major is not None and major >= JAVA_MIN else None


def _kafka(cache: Cache, say: Say) -> Path:
    wanted = POM.read_text(encoding="utf-8")
    if not complete(cache.kafka, wanted):
        require_space(cache.cache_dir, INSTALL_BYTES_MIN, "installing the servers")
        need(("mvn",), cache, say)
        with fresh_folder(cache.kafka, wanted, "Kafka 4.3 (about 45 jars, 45 MB)", say) as folder:
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
            run(["mvn", "--batch-mode", "--quiet", "--file", str(POM), *goal], cache)
    return cache.kafka


def _trixie(cache: Cache, say: Say) -> Path:
    wanted = " ".join((SUITE, *PACKAGES))
    if not complete(cache.trixie, wanted):
        require_space(cache.cache_dir, INSTALL_BYTES_MIN, "installing the servers")
        need(("debootstrap",), cache, say)
        what = "PostgreSQL 17 with TimescaleDB and Redis 8 in a Debian trixie root (about 700 MB, one minute)"
        with fresh_folder(cache.trixie, wanted, what, say) as folder:
            include = f"--include={','.join(PACKAGES)}"
            # In namespaces of its own: however the install ends, no process and no mount of it stays behind.
            tied = ["setpriv", "--pdeathsig", "KILL"]
            apart = [*tied, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
            run([*apart, "debootstrap", "--variant=minbase", include, SUITE, str(folder)], cache)
            for package in (folder / "var/cache/apt/archives").glob("*.deb"):
                package.unlink()
    return cache.trixie


def complete(folder: Path, wanted: str) -> bool:
    """Was exactly this installed, to the end?"""
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == wanted


@contextlib.contextmanager
def fresh_folder(place: Path, stamp: str, what: str, say: Say) -> Iterator[Path]:
    """A folder to build in, which takes its place with a stamp when the block ends well."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: the orphan of a killed install may still be writing into the earlier folder.
    partial = Path(tempfile.mkdtemp(prefix=f"{place.name}.partial-", dir=place.parent))
    partial.chmod(0o755)
    say(f"installing {what} …")
    begun = time.monotonic()
    yield partial
    (partial / STAMP).write_text(stamp, encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    say(f"  done in {time.monotonic() - begun:.0f} s")
