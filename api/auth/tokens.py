"""Bearer tokens: JWT (RFC 7519) in the profile of RFC 9068, signed with HS256 and nothing else.

The algorithm is pinned, so neither `none` nor a public key used as a secret is ever accepted (RFC 8725 §3.1). The key
id names the key, so that a new one can be added before the old one is dropped. Time is an argument, never read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from api.reasons import TOKEN_EXPIRED, TOKEN_INVALID, TOKEN_MALFORMED, refusal
from infra.principal import Principal, Role

ISSUER = "xgw"
AUDIENCE = "xgw-api"
ALGORITHM = "HS256"
TYPE = "at+jwt"
SECRET_BYTES_MIN = 32  # RFC 7518 §3.2: as long as the hash
TOKEN_CHARS_MAX = 4096
CLOCK_SKEW_S_MAX = 5
REQUIRED = ["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "role"]
# `system` is our own processes' name for themselves and never comes from outside.
ROLES: Mapping[str, Role] = {"investor": "investor", "back_office": "back_office", "operator": "operator"}


class WeakSecret(ValueError):
    """The signing secret is shorter than its hash, so a token would be easier to forge than to steal."""


@dataclass(frozen=True, slots=True)
class Key:
    """One signing secret and the id that tokens name it by."""

    kid: str
    secret: bytes


def key_of(secret: str) -> Key:
    """The key of a secret; its id is derived, so that every process knows it without being told."""
    raw = secret.encode()
    if len(raw) < SECRET_BYTES_MIN:
        raise WeakSecret(f"the secret of the bearer tokens has {len(raw)} bytes, fewer than {SECRET_BYTES_MIN}")
    return Key(hashlib.sha256(b"xgw token key id\0" + raw).hexdigest()[:12], raw)


def issue(key: Key, principal: Principal, now_s: int, ttl_s: int, token_id: str) -> str:
    """A token for `principal`, valid from now on for `ttl_s` seconds."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": principal.subject,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + ttl_s,
        "jti": token_id,
        "role": principal.role,
    }
    if principal.account_id is not None:
        claims["account"] = principal.account_id
    return jwt.encode(claims, key.secret, ALGORITHM, headers={"typ": TYPE, "kid": key.kid})


@dataclass(frozen=True, slots=True)
class Signed:
    """What a token of ours says; true between two moments, Unix seconds."""

    principal: Principal
    starts_s: int
    ends_s: int

    def at(self, now_s: float) -> Principal:
        if now_s >= self.ends_s:
            raise refusal(TOKEN_EXPIRED)
        if self.starts_s > now_s + CLOCK_SKEW_S_MAX:
            raise refusal(TOKEN_INVALID, "The bearer token is not valid yet.")
        return self.principal


def read(keys: Mapping[str, Key], token: str) -> Signed:
    """What the token says, if it is one of ours. A function of its arguments, so it may be remembered."""
    claims = _signed_claims(keys, token)
    expires, not_before, issued = (claims[name] for name in ("exp", "nbf", "iat"))
    if not all(_is_whole(moment) for moment in (expires, not_before, issued)):
        raise refusal(TOKEN_INVALID)
    return Signed(_principal(claims, expires), max(not_before, issued), expires)


def verify(keys: Mapping[str, Key], token: str, now_s: float) -> Principal:
    """Who the token speaks for now. Raises Refusal: malformed, expired, or not one of ours."""
    return read(keys, token).at(now_s)


def _signed_claims(keys: Mapping[str, Key], token: str) -> dict[str, Any]:
    if len(token) > TOKEN_CHARS_MAX:
        raise refusal(TOKEN_MALFORMED)
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        key = keys.get(kid) if isinstance(kid, str) else None
        # RFC 9068 §4: the type may be written with or without its `application/`.
        if key is None or str(header.get("typ", "")).lower().removeprefix("application/") != TYPE:
            raise refusal(TOKEN_INVALID)
        found: dict[str, Any] = jwt.decode(
            token,
            key.secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # The library would read its own clock; the times are checked below.
            options={"require": REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise refusal(TOKEN_INVALID) from error
    except jwt.DecodeError as error:
        raise refusal(TOKEN_MALFORMED) from error
    except jwt.PyJWTError as error:
        raise refusal(TOKEN_INVALID) from error
    return found


def _principal(claims: Mapping[str, Any], expires_s: int) -> Principal:
    subject, role, account = claims["sub"], claims["role"], claims.get("account")
    if not (isinstance(subject, str) and subject and isinstance(role, str) and role in ROLES):
        raise refusal(TOKEN_INVALID)
    if role == "investor":
        if not (isinstance(account, int) and _is_whole(account) and account > 0):
            raise refusal(TOKEN_INVALID, "The bearer token names no account.")
    elif account is not None:
        raise refusal(TOKEN_INVALID, "Only an investor's token is bound to an account.")
    return Principal(subject, ROLES[role], account, expires_s)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
