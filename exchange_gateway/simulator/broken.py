"""Answers that break: what a request gets when a misbehaviour strikes it, down to the bytes and the socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from exchange_gateway.simulator.answers import error_answer, json_response
from exchange_gateway.simulator.chaos import Chaos, Operation, Rule
from exchange_gateway.simulator.struck import GARBAGE, TOO_MANY, Work, done, page
from exchange_gateway.simulator.trouble import Trouble

TRANSPORT = "simulator.transport"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for no time: the close is a TCP reset


class VenueApp(FastAPI):
    """FastAPI that lets an answer reach its connection, to break it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        scope[TRANSPORT] = getattr(cycle, "transport", None)
        await super().__call__(scope, receive, send)


class NoAnswer(Response):
    """The connection is closed without a byte."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(scope)
        transport.abort()
        await _gone(receive)


class CutAnswer(Response):
    """Half of the body, then the end: a close, or a reset."""

    def __init__(self, content: bytes, status: int, *, reset: bool) -> None:
        super().__init__(content, status, media_type="application/json")
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = _transport(scope)
        await self._begin(send)
        await self._send(send, self.body[: len(self.body) // 2])
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - uvicorn sets no event when it is empty
            await asyncio.sleep(0)
        if self._reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()
        await _gone(receive)

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send(self, send: Send, part: bytes | memoryview, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": bytes(part), "more_body": more})


class DrippingAnswer(CutAnswer):
    """The whole answer, one byte at a time."""

    def __init__(self, content: bytes, status: int, pause_s: float) -> None:
        super().__init__(content, status, reset=False)
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._begin(send)
        last = len(self.body) - 1
        for i in range(last):
            await self._send(send, self.body[i : i + 1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await _gone(receive)
                    return
        await self._send(send, self.body[last:], more=False)


class Answering:
    """Every request of order entry is answered through here, so that every one can be struck."""

    def __init__(self, chaos: Chaos, trouble: Trouble) -> None:
        self._chaos = chaos
        self._trouble = trouble

    def answer(self, on: Operation, symbols: list[str], work: Work) -> Response:
        """`work` does what was asked and returns the answer's body, or raises VenueError."""
        if on != "query" and not self._trouble.before(on, symbols):
            return NoAnswer()
        rule = self._chaos.ask("request", on, symbols)
        return json_response(work()) if rule is None else self._struck(rule, work)

    def _struck(self, rule: Rule, work: Work) -> Response:
        match rule.kind:
            case "too_many_requests":
                response = json_response(error_answer(TOO_MANY), TOO_MANY.status)
                response.headers["retry-after"] = str(rule.retry_after_s)
                return response
            case "server_error_before":
                return _page(rule.status)
            case "delayed_acceptance":
                self._trouble.later(rule.delay, work)
                return NoAnswer()
        status, content = done(work)
        match rule.kind:
            case "server_error_after":
                return _page(rule.status)
            case "slow_drip":
                return DrippingAnswer(content, status, rule.delay)
            case "truncated_body":
                return CutAnswer(content, status, reset=False)
            case "reset_mid_body":
                return CutAnswer(content, status, reset=True)
            case "garbage_body":
                return json_response(GARBAGE)
        assert rule.kind == "lost_response"
        return NoAnswer()


def _page(status: int) -> Response:
    return Response(page(status)[1], status, media_type="text/html")


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport | None = scope.get(TRANSPORT)
    assert transport is not None, "an answer breaks on a real connection"
    return transport


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
