"""`python -m api.auth.issue --role investor --account 1`: print a bearer token and nothing else."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from api.auth.tokens import ROLES, WeakSecret, issue, key_of
from api.settings import signing_secret
from infra.clock import NS_PER_S, Clock, Ids, SystemClock
from infra.principal import Principal
from infra.settings import SettingsError

TTL_S = 24 * 3600
EXIT_SETTINGS = 3


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="python -m api.auth.issue", description="Print a bearer token.")
    words.add_argument("--role", required=True, choices=sorted(ROLES))
    words.add_argument("--account", type=_positive, help="account of an investor (default 1); not used for other roles")
    words.add_argument("--ttl-s", type=_positive, default=TTL_S, help="seconds until it expires (default %(default)s)")
    words.add_argument("--subject", help="who it speaks for (default: the role, and an investor's account)")
    return words


def token(arguments: argparse.Namespace, environ: Mapping[str, str], clock: Clock) -> str:
    """The token that the arguments ask for, signed with the deployment's secret."""
    role = ROLES[arguments.role]
    account = (arguments.account or 1) if role == "investor" else None
    subject = arguments.subject or (role if account is None else f"{role}-{account}")
    key = key_of(signing_secret(environ))
    return issue(
        key, Principal(subject, role, account), clock.now_ns() // NS_PER_S, arguments.ttl_s, Ids(clock).uuid7().hex
    )


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        printed = token(arguments, environ, SystemClock())
    except (SettingsError, WeakSecret) as error:
        sys.stderr.write(f"no token: {error}. `make up` makes the local secrets; `make -s token` reads them.\n")
        return EXIT_SETTINGS
    sys.stdout.write(printed + "\n")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
