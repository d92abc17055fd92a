"""The FastAPI dependency that says who asks (RFC 6750: the header `Authorization: Bearer <token>`, nowhere else)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from api.auth.tokens import Key, read
from api.reasons import ROLE_NOT_ALLOWED, TOKEN_MISSING, refusal
from infra.clock import NS_PER_S, Clock
from infra.principal import Principal, Role

TOKENS_KEPT_MAX = 4096
PrincipalDependency = Callable[..., Awaitable[Principal]]
SCHEME = HTTPBearer(bearerFormat="JWT", scheme_name="bearer", auto_error=False)


class Bearer:
    """Who a bearer token stands for, by the keys that may have signed it."""

    def __init__(self, keys: Mapping[str, Key], clock: Clock) -> None:
        # The same token comes with every request of its client; its times are looked at each time all the same.
        self._known = lru_cache(TOKENS_KEPT_MAX)(partial(read, keys))
        self._clock = clock

    def identify(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header. Raises Refusal."""
        scheme, token = get_authorization_scheme_param(authorization)
        if scheme.lower() != "bearer" or not token:
            raise refusal(TOKEN_MISSING)
        return self.of(token)

    def of(self, token: str) -> Principal:
        return self._known(token).at(self._clock.now_ns() / NS_PER_S)


class Authenticator:
    """A dependency that gives the Principal of the request's token, or refuses. Routes of streams may be entered with
    what `on_streams` takes (`infra/principal.py`)."""

    def __init__(self, bearer: Bearer, on_streams: PrincipalDependency) -> None:
        self.on_streams = on_streams
        self._bearer = bearer

    async def __call__(self, credentials: HTTPAuthorizationCredentials | None = Security(SCHEME)) -> Principal:
        if credentials is None:
            raise refusal(TOKEN_MISSING)
        return self._bearer.of(credentials.credentials)


def require(authenticated: PrincipalDependency, *roles: Role) -> PrincipalDependency:
    """The same, for these roles only."""

    async def principal(asking: Principal = Depends(authenticated)) -> Principal:
        if asking.role not in roles:
            raise refusal(ROLE_NOT_ALLOWED, details={"role": asking.role, "allowed": list(roles)})
        return asking

    return principal
