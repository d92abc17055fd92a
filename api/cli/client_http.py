"""The HTTP side of `xgw`: requests, problem documents, event streams (WHATWG HTML §9.2)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

TIMEOUT_S = 10.0
# Longer than the pause between two keep-alive comments of a stream.
STREAM_TIMEOUT_S = 40.0


class Refused(Exception):
    """The api said no, in a problem document or, if it is not the api, in whatever it has."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(body.get("detail", ""))
        self.status = status
        self.code = str(body.get("code", f"http_{status}"))
        self.detail = str(body.get("detail") or f"The api answered {status}.")
        self.fix = body.get("fix")
        self.body = dict(body)


class Unreachable(Exception):
    """Nobody answers, or the answer was cut. `may_have_happened` when the request may have arrived."""

    def __init__(self, text: str, may_have_happened: bool) -> None:
        super().__init__(text)
        self.may_have_happened = may_have_happened


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `data` is decoded JSON."""

    name: str
    id: str
    data: Any


class Api:
    """The routes of the api, one method for each verb of HTTP."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False, verify=True
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, timeout_s: float = TIMEOUT_S, **query: str | None) -> Any:
        said = {name: value for name, value in query.items() if value is not None}
        return self._asked("GET", path, params=said, timeout=timeout_s)

    def post(self, path: str, body: Mapping[str, Any], key: str | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        return self._asked("POST", path, json=dict(body), headers=headers, timeout=timeout_s)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._asked("PUT", path, json=dict(body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._asked("PATCH", path, json=dict(body))

    def delete(self, path: str) -> Any:
        return self._asked("DELETE", path)

    def stream(self, path: str, **query: str) -> Iterator[Event]:
        """Events until the api ends the stream."""
        timeout = httpx.Timeout(TIMEOUT_S, read=STREAM_TIMEOUT_S)
        with _reached(self.url), self._http.stream("GET", path, params=query, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            yield from events(answer.iter_lines())

    def _asked(self, method: str, path: str, **request: Any) -> Any:
        with _reached(self.url):
            answer = self._http.request(method, path, **request)
            if answer.is_error:
                raise _refused(answer)
            return _decoded(answer.text) if answer.content else None


def events(lines: Iterator[str]) -> Iterator[Event]:
    """The events in the lines of a stream; comments and events without data are passed over."""
    name, identity = "message", ""
    data: list[str] = []
    for line in lines:
        word, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(name, identity, _decoded("\n".join(data)))
            name, data = "message", []
        elif word == "data":
            data.append(value)
        elif word == "event":
            name = value
        elif word == "id":
            identity = value


def _decoded(text: str) -> Any:
    """JSON with exact numbers: a price is never a float."""
    return json.loads(text, parse_float=Decimal)


def _refused(answer: httpx.Response) -> Refused:
    try:
        body = _decoded(answer.text)
    except ValueError:
        body = {}
    return Refused(answer.status_code, body if isinstance(body, dict) else {})


@contextlib.contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Unreachable(f"Nobody answers at {url} ({error}).", may_have_happened=False) from error
    except (httpx.TransportError, ValueError) as error:
        raise Unreachable(f"The answer of {url} was cut or unreadable ({error!r}).", may_have_happened=True) from error
