"""Only tokens of ours, unchanged, for us, in their time, are anybody."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from api.auth.tokens import CLOCK_SKEW_S_MAX, Key, WeakSecret, issue, key_of, verify
from infra.principal import Principal
from infra.refusal import Refusal

KEY = key_of("k" * 32)
KEYS = {KEY.kid: KEY}
NOW_S = 1_700_000_000
INVESTOR = Principal("ada", "investor", 7)


def made(claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, key: Key = KEY) -> str:
    """A correctly signed token with `claims` (None removes one) and `header` changed."""
    whole = {
        "iss": "xgw",
        "aud": "xgw-api",
        "sub": "ada",
        "iat": NOW_S,
        "nbf": NOW_S,
        "exp": NOW_S + 60,
        "jti": "1",
        "role": "investor",
        "account": 7,
    } | (claims or {})
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key.secret, "HS256", headers={"typ": "at+jwt", "kid": key.kid} | (header or {}))


def refused(token: str, now_s: float = NOW_S) -> str:
    with pytest.raises(Refusal) as caught:
        verify(KEYS, token, now_s)
    return caught.value.code


@pytest.mark.parametrize("who", [INVESTOR, Principal("bo", "back_office"), Principal("op", "operator")])
def test_an_issued_token_gives_its_principal_back(who: Principal) -> None:
    assert verify(KEYS, issue(KEY, who, NOW_S, 60, "id"), NOW_S) == who


def test_it_is_an_access_token_that_names_its_key() -> None:
    header = jwt.get_unverified_header(issue(KEY, INVESTOR, NOW_S, 60, "id"))
    assert (header["typ"], header["alg"], header["kid"]) == ("at+jwt", "HS256", KEY.kid)


def test_a_second_key_is_found_by_its_id() -> None:
    newer = key_of("n" * 32)
    both = {KEY.kid: KEY, newer.kid: newer}
    assert verify(both, made(), NOW_S) == verify(both, made(key=newer), NOW_S) == INVESTOR


def test_it_expires_to_the_second() -> None:
    assert verify(KEYS, made(), NOW_S + 59.9) == INVESTOR
    assert refused(made(), NOW_S + 60) == "token_expired"


def test_a_clock_that_is_slightly_ahead_is_forgiven() -> None:
    assert verify(KEYS, made(), NOW_S - CLOCK_SKEW_S_MAX) == INVESTOR
    assert refused(made(), NOW_S - CLOCK_SKEW_S_MAX - 1) == "token_invalid"


def test_the_full_media_type_is_the_same_type() -> None:
    assert verify(KEYS, made(header={"typ": "application/at+JWT"}), NOW_S) == INVESTOR


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "someone-else"},
        {"aud": "another-api"},
        {"role": "system"},
        {"role": "admin"},
        {"role": ["investor"]},
        {"account": 0},
        {"account": -1},
        {"account": True},
        {"account": "7"},
        {"account": 7.0},
        {"account": None},
        {"role": "operator", "account": 7},
        {"sub": ""},
        {"sub": 5},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": NOW_S + 3600},
        {"iat": NOW_S + 3600},
        *({name: None} for name in ("iss", "aud", "exp", "nbf", "iat", "sub", "jti", "role")),
    ],
    ids=str,
)
def test_other_claims_are_not_ours(claims: dict[str, Any]) -> None:
    assert refused(made(claims)) == "token_invalid"


@pytest.mark.parametrize(
    "header", [{"typ": "JWT"}, {"typ": "id+jwt"}, {"kid": "unknown"}, {"crit": ["x"], "x": 1}], ids=str
)
def test_another_header_is_not_ours(header: dict[str, Any]) -> None:
    assert refused(made(header=header)) == "token_invalid"


def test_a_foreign_key_with_our_key_id_is_refused() -> None:
    assert refused(made(key=Key(KEY.kid, b"f" * 32))) == "token_invalid"


def test_no_signature_and_other_algorithms_are_refused() -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    payload = made().split(".")[1]
    unsigned = part({"alg": "none", "typ": "at+jwt", "kid": KEY.kid})
    assert refused(f"{unsigned}.{payload}.") == "token_invalid"
    stronger = jwt.encode({"sub": "ada"}, "k" * 64, "HS512", headers={"typ": "at+jwt", "kid": KEY.kid})
    assert refused(stronger) == "token_invalid"


def test_a_changed_payload_is_refused() -> None:
    head, _, signature = made().split(".")
    richer = made({"account": 8}).split(".")[1]
    assert refused(f"{head}.{richer}.{signature}") == "token_invalid"


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "....", "ä.ö.ü", "e30.e30.e30", "x" * 5000, made()[:-30] + "!!"]
)
def test_what_is_not_a_token_is_malformed(text: str) -> None:
    assert refused(text) in {"token_malformed", "token_invalid"}


def test_a_payload_that_is_not_an_object_is_malformed() -> None:
    signed = jwt.PyJWS().encode(b"[1]", KEY.secret, "HS256", headers={"typ": "at+jwt", "kid": KEY.kid})
    assert refused(signed) == "token_malformed"


def test_a_short_secret_is_refused_before_anything_is_signed() -> None:
    with pytest.raises(WeakSecret):
        key_of("short")
