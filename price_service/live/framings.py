"""How quotes go on a wire as server-sent events: as they are, and as the chunks of an HTTP/1.1 answer."""

from __future__ import annotations

from collections.abc import Sequence

from infra.sse import BEAT, frame
from price_service.live.followers import Item

# RFC 9112 §7.1: an answer in chunks ends with an empty one.
_LAST_CHUNK = b"0\r\n\r\n"


class EventStream:
    """The events themselves, for a server that does the rest."""

    last = b""

    @property
    def beat(self) -> bytes:
        return b""  # the server's own comments keep it alive (`infra/sse.py`)

    def event(self, data: bytes) -> bytes:
        """Some of the stream, ready to write; not empty."""
        return data

    def frame(self, key: str, item: Item) -> bytes:
        return self.event(frame(item.json, id=item.id))

    def chunk(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class ChunkedEventStream(EventStream):
    """The same events on a connection that was taken over in the middle of an answer in chunks. Each event is a chunk,
    so that the length is put before it once for all its clients and not once per client and write."""

    last = _LAST_CHUNK

    def event(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    @property
    def beat(self) -> bytes:
        return self.event(BEAT)


# One object for all clients, so that equal subscriptions share their bytes.
EVENTS = EventStream()
CHUNKED_EVENTS = ChunkedEventStream()
