"""The api's HTTP/1.1 protocol: uvicorn's, with two shorter ways for what is asked most.

A stream may take over its connection once its head is sent: the request is forgotten, the hub writes to the socket, and
a client costs no task, no queue and no ASGI message.

Requests whose answers are ready are answered as they are read (`api/quick.py`), as long as nothing else is going on
with the connection: no request half read, none being answered or waiting, and nothing that the client does not take.
"""

from __future__ import annotations

import asyncio
from typing import Any

from api.line import TakenLine
from api.quick import QuickAnswers
from api.unread import Bounded
from infra.direct import Gone, Line, with_take_over


class WireProtocol(Bounded):
    """One connection."""

    # Attributes in slots are found faster than among the thirty of the base class.
    __slots__ = ("_answering", "_idle_quick", "_is_reading", "_was_quick")

    quick: QuickAnswers | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answering: Any = None
        self._is_reading = False  # a request has begun and not ended
        self._idle_quick = self.quick  # None while something else is going on
        self._was_quick = False  # something was answered since the timer was looked at

    def data_received(self, data: bytes) -> None:
        quick = self._idle_quick
        if quick is not None:
            answer = quick.one(data, self.server_state)
            if answer is not None:
                self.transport.write(answer)
                if not self._was_quick:
                    self._keep_alive()
                return
            data = self._answer_several(quick, data)
            if not data:
                return
        super().data_received(data)

    # -- when nothing is going on --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_reading, self._idle_quick = True, None
        super().on_message_begin()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_reading = False
        self._look_if_idle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look_if_idle()

    def send_400_response(self, msg: str) -> None:
        self._idle_quick = None
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        self._idle_quick = None
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look_if_idle()

    def _look_if_idle(self) -> None:
        is_busy = self._is_reading or self._is_refused or self.flow.write_paused
        is_answering = self.cycle is not None and not self.cycle.response_complete
        self._idle_quick = None if is_busy or is_answering else self.quick

    # -- answers that are ready ----------------------------------------------------------------------------------------

    def _answer_several(self, quick: QuickAnswers, data: bytes) -> bytes:
        """Answers what can be from the beginning; the rest is for the ordinary way."""
        answers, taken = quick.several(data, self.server_state)
        if not taken:
            return data
        self.transport.write(b"".join(answers))
        self._keep_alive()
        return data[taken:]

    def _keep_alive(self) -> None:
        """To set the timer anew for each quick answer would cost more than the answer: it runs on and is looked at when
        it ends, so a connection that falls silent is closed after once to twice the time."""
        self._was_quick = True
        if self.timeout_keep_alive_task is None:
            self._set_timer()

    def _set_timer(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        if self._was_quick:
            self._was_quick = False
            self._set_timer()
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._was_quick = False
        super()._unset_keepalive_if_required()

    # -- connections that are taken over -------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() == "1.1":
            with_take_over(self.scope, self._taken_over)  # type: ignore[arg-type]
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle  # `cycle` is of the newest request, which may still wait for this one
        super()._start_asgi_task(cycle, app)

    def _let_go(self) -> None:
        super()._let_go()
        if self.cycle is None:
            self._answering = None

    def _taken_over(self, gone: Gone) -> Line:
        """Called from the running ASGI application, after `http.response.start`."""
        cycle = self._answering
        cycle.response_complete = True  # for uvicorn the exchange is over; nothing else may be sent by it
        line = TakenLine(self.transport, self.connections, gone)
        if cycle.disconnected or self.transport.is_closing():
            asyncio.get_running_loop().call_soon(line.connection_lost, None)
        self._forget()
        return line

    def _forget(self) -> None:
        """What refers to this object, and what is held for the next request of this connection, which never comes."""
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.flow.resume_reading()  # a request behind this one may have paused it; the client's end must be seen
        empty: Any = None
        self.scope = self.headers = self.cycle = self._answering = self.parser = empty
        self.pipeline.clear()


def speaking(quick: QuickAnswers | None) -> type[WireProtocol]:
    """The protocol of a process that has these answers ready; uvicorn makes one object of it per connection."""
    return type("WireProtocol", (WireProtocol,), {"quick": quick})
