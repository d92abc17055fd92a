"""`xgw`: a client of the HTTP API and of nothing else."""

from __future__ import annotations

import os
import sys


def main() -> None:
    from api.cli.commands import run  # the table and terminal libraries are only loaded to be used

    sys.exit(run(sys.argv[1:], os.environ))
