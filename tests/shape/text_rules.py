"""What no file may say, and how long the papers may be."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

ARCHITECTURE_LINES_MAX = 150
ADR_LINES_MAX = 40
BINARY = (".png", ".ico", ".parquet", ".gz", ".jar", ".woff2")

# Letters moved by thirteen places, so that this file does not say them.
HOSTS = tuple(
    codecs.decode(
        "clcv.bet "
        "clgubaubfgrq.bet "
        "ertvfgel.aczwf.bet "
        "ertvfgel.lneacxt.pbz "
        "znira.ncnpur.bet "
        "ercb1.znira.bet "
        "cebkl.tbynat.bet "
        "pengrf.vb "
        "eholtrzf.bet "
        "qro.qrovna.bet "
        "nepuvir.hohagh.pbz "
        "qbpxre.vb "
        "tpe.vb "
        "tupe.vb "
        "dhnl.vb",
        "rot13",
    ).split()
)
MACHINE_PATH = re.compile(r"(?<![\w./$}-])/(?:" + "|".join(("home", "Users", "root", "work")) + r")/[\w.-]")


def no_machine_and_no_registry(path: str, text: str) -> Iterator[str]:
    """A clone works on every machine and takes its packages from wherever its owner says."""
    if path == "LICENSE":
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: an absolute path of one machine"
        for host in HOSTS:
            if host in line:
                yield f"{path}:{number}: the registry {host}"


def papers_are_short(path: str, text: str) -> Iterator[str]:
    lines = len(text.splitlines())
    most = ARCHITECTURE_LINES_MAX if path == "ARCHITECTURE.md" else ADR_LINES_MAX
    if (path == "ARCHITECTURE.md" or path.startswith("docs/adr/")) and lines > most:
        yield f"{path}: {lines} lines, at most {most}"
