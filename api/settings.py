"""What the api process and its command line may be told from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.settings import PREFIX, Infra, Secrets, SettingsError, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The api process."""

    infra: Infra
    secrets: Secrets
    body_bytes_max: int = setting(16 * 1024, "Largest request body that is read; a larger one is refused.")
    direct_routes: bool = setting(True, "Answer the hottest routes before the web framework; the answers are the same.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CliSettings:
    """`xgw`, a client like any other: it knows an address and a token, nothing of the servers."""

    api_url: str = setting("http://127.0.0.1:8000", "Address of the api that `xgw` talks to.")
    token: str = setting("", "Bearer token that `xgw` sends; `make -s token ROLE=investor` prints one.")


def signing_secret(environ: Mapping[str, str]) -> str:
    """Only the key of the bearer tokens: who issues one need not know the venue's secrets."""
    name = PREFIX + "JWT_SECRET"
    if not (secret := environ.get(name, "")):
        raise SettingsError(f"{name} is not set: the key that signs bearer tokens")
    return secret
