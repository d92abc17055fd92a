"""Standard Webhooks 1.0 signatures: who sent these bytes, and when. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
SECRET_PREFIX = "whsec_"
WINDOW_S = 300
# More are not looked at: nobody signs with so many keys at once.
SIGNATURES_MAX = 8


class BadSignature(ValueError):
    """The request is not proved to come from the venue, now. The message says what was wrong."""


def key_of(secret: str) -> bytes:
    """The signing key in a `whsec_` secret. Raises ValueError."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is `whsec_` and base64") from error


def verify(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now_s: int) -> None:
    """Raises BadSignature unless one of the `v1` signatures fits one of our keys and the timestamp is within WINDOW_S
    of `now_s`. While keys are changed the sender signs with several, or we accept several.

    All signatures are compared with all keys, each in constant time, so that neither a position nor a prefix leaks.
    """
    identity, stamp, signatures = (headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (identity and stamp and signatures):
        raise BadSignature("a signature header is missing")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise BadSignature("the timestamp is not a number of seconds")
    if abs(now_s - int(stamp)) > WINDOW_S:
        raise BadSignature(f"the timestamp is more than {WINDOW_S} s away")
    given = [candidate.encode("utf-8", "replace") for candidate in signatures.split()[:SIGNATURES_MAX]]
    expected = [signature(identity, stamp, body, key).encode() for key in keys]
    fits = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(fits):
        raise BadSignature("no signature fits")


def signature(identity: str, stamp: str, body: bytes, key: bytes) -> str:
    """`v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{identity}.{stamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
