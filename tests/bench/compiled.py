"""The load programs in C: a client in Python would be busy before the server is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).with_name("load")


class NoCompiler(RuntimeError):
    """There is nothing to build a load program with."""


def built(name: str, folder: Path) -> Path:
    """The program `name`, built into `folder` unless it is there already."""
    program = folder / name
    if program.exists():
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("the load clients are in C and there is no `cc`: install a compiler (Debian: gcc, libc6-dev)")
    command = [compiler, "-O2", "-o", str(program), str(SOURCES / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoCompiler(f"{name}.c could not be built:\n{done.stderr.strip()[-2000:]}")
    return program
