"""The FastAPI dependency that says who asks (RFC 6750: the header `Authorization: Bearer <token>`, nowhere else)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth.tokens import Key, read
from api.reasons import ROLE_NOT_ALLOWED, TOKEN_MISSING, refusal
from infra.clock import NS_PER_S, Clock
from infra.principal import Principal, Role

TOKENS_KEPT_MAX = 4096
PrincipalDependency = Callable[..., Awaitable[Principal]]


def authenticator(keys: Mapping[str, Key], clock: Clock) -> PrincipalDependency:
    """A dependency that gives the Principal of the request's token, or refuses."""
    # The same token comes with every request of its client; its times are looked at each time all the same.
    known = lru_cache(TOKENS_KEPT_MAX)(partial(read, keys))
    scheme = HTTPBearer(bearerFormat="JWT", scheme_name="bearer", auto_error=False)

    async def principal(credentials: HTTPAuthorizationCredentials | None = Security(scheme)) -> Principal:
        if credentials is None:
            raise refusal(TOKEN_MISSING)
        return known(credentials.credentials).at(clock.now_ns() / NS_PER_S)

    return principal


def require(authenticated: PrincipalDependency, *roles: Role) -> PrincipalDependency:
    """The same, for these roles only."""

    async def principal(asking: Principal = Depends(authenticated)) -> Principal:
        if asking.role not in roles:
            raise refusal(ROLE_NOT_ALLOWED, details={"role": asking.role, "allowed": list(roles)})
        return asking

    return principal
