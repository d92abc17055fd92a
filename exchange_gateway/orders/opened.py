"""What can be read of a message on `orders`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import msgspec

from exchange_gateway.orders.wire import request_of
from infra.bus import Message
from infra.contracts import EVENT_ID, TRACEPARENT, Command, Malformed, cl_ord_id, decode, order_id_of


class _Named(msgspec.Struct, frozen=True):
    order_id: str = ""
    cl_ord_id: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A message and its command, or what is `wrong` with it. Of a command that makes no sense as a whole the order, the
    ClOrdID and the kind may still be known; they are empty when not."""

    message: Message
    order_id: str
    cl_ord_id: str
    kind: str
    command: Command | None
    wrong: str = ""

    @property
    def lane(self) -> str:
        """Commands of one lane go one after the other: those of one order."""
        return self.order_id or self.place

    @property
    def place(self) -> str:
        return f"{self.message.topic}/{self.message.partition}/{self.message.offset}"

    @property
    def event_id(self) -> str:
        return _text(self.message.header(EVENT_ID)) or self.place

    @property
    def traceparent(self) -> str:
        return _text(self.message.header(TRACEPARENT))


def opened(message: Message) -> Opened:
    try:
        command: Command = decode(Command, message.value)
        request_of(command)
        if order_id_of(command.cl_ord_id) != command.order_id:
            raise Malformed(f"{command.cl_ord_id!r} is not a ClOrdID of order {command.order_id!r}")
    except Malformed as error:
        return _unreadable(message, str(error))
    return Opened(message, command.order_id, command.cl_ord_id, command.kind, command)


def _unreadable(message: Message, wrong: str) -> Opened:
    try:
        named: _Named = decode(_Named, message.value)
    except Malformed:
        named = _Named()
    order_id = _uuid(named.order_id) or _uuid(_text(message.key))
    return Opened(
        message, order_id, named.cl_ord_id if _is_of(named.cl_ord_id, order_id) else "", named.kind, None, wrong
    )


def submit_of(order_id: str) -> str:
    """The ClOrdID of an order's first request, where the message does not say which one it was."""
    return cl_ord_id(order_id, 1)


def _is_of(request: str, order_id: str) -> bool:
    try:
        return order_id_of(request) == order_id
    except Malformed:
        return False


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return ""


def _text(value: bytes | None) -> str:
    return (value or b"").decode("ascii", "replace")
