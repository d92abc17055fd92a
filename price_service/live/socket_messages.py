"""What is said on the WebSocket `/ws`, as JSON in text messages (RFC 6455 §5.6). Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from infra.refusal import Refusal
from price_service.domain import reasons
from price_service.domain.reasons import refusal
from price_service.live.followers import Item

Channel = Literal["quotes", "books"]
CHANNELS: tuple[Channel, ...] = ("quotes", "books")


class Subscribe(msgspec.Struct, frozen=True, tag_field="type", tag="subscribe", forbid_unknown_fields=True):
    """Follow these symbols too."""

    channel: Channel
    symbols: list[str]


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="type", tag="unsubscribe", forbid_unknown_fields=True):
    """Follow these symbols no more; without symbols, none of the channel."""

    channel: Channel
    symbols: list[str] | None = None


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping", forbid_unknown_fields=True):
    """For clients that cannot send a WebSocket ping: answered with a pong."""


Asked = Subscribe | Unsubscribe | Ping
PONG = b'{"type":"pong"}'
_decoder: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(Asked)


def asked(message: str | bytes) -> Asked:
    """Raises Refusal when it is no message of ours."""
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(reasons.MESSAGE_INVALID, why=str(error)) from error


def subscribed(channel: Channel, symbols: Collection[str]) -> bytes:
    """Everything that is followed on the channel from now on. The state of new symbols comes next."""
    return msgspec.json.encode({"type": "subscribed", "channel": channel, "symbols": sorted(symbols)})


def refused(error: Refusal) -> bytes:
    """As the problem documents of HTTP say it."""
    details = {name: value for name, value in error.details.items() if name != "fix"}
    said = {"type": "error", "code": error.code, "detail": error.text, "field": error.field, "details": details}
    return msgspec.json.encode({**said, "fix": error.details.get("fix")})


class Messages:
    """A framing: what one flush brings to a client of a channel is one message, `{"type":"quotes","quotes":[…]}`."""

    beat = b""  # the server's pings keep the connection alive

    def __init__(self, channel: Channel) -> None:
        self._head = f'{{"type":"{channel}","{channel}":['.encode()

    def frame(self, key: str, item: Item) -> bytes:
        return item.json

    def chunk(self, frames: Sequence[bytes]) -> bytes:
        return b"%b%b]}" % (self._head, b",".join(frames))


# One object per channel for all clients, so that equal subscriptions share their bytes.
FRAMINGS = {channel: Messages(channel) for channel in CHANNELS}
