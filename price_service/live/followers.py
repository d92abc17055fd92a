"""Who follows which keys, and what goes to each of them.

Fan-out costs socket writes, so a flush makes as few as it can: what changed in a client's keys is one write, and
clients with equal subscriptions share its bytes. A client that does not take what it was sent is passed over, not
queued for: what it misses is a number and a set of its own keys, and when it has room again it gets the newest state of
each once.

Three moments matter for a value: *published* (newest wins), *spread* (framed, and added to what each group is due), and
*written*. A client is current, and then a member of its group, or behind; it changes over only where it can neither
miss a value nor see an older one after a newer one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from infra.clock import NS_PER_MS, Clock

UNSENT_BYTES_MAX = 64 * 1024
STUCK_S = 30.0
# A resume is by receive times of another process or another partition, which may have been that much behind.
RESUME_MARGIN_MS = 1_000
# Clients written to, or additions to groups made, between two chances for the caller to look at its clock.
WRITES_PER_STEP = 32
ADDITIONS_PER_STEP = 2_000


class Item(NamedTuple):
    """The newest state of one key: one line of JSON, and the SSE id (receive time, Unix milliseconds)."""

    json: bytes
    id: str


class Framing(Protocol):
    """How items go on a wire. Compared by identity: one object for all clients of a kind."""

    @property
    def beat(self) -> bytes:
        """What keeps a quiet line alive, ready to write; empty: nothing does."""
        ...

    def frame(self, key: str, item: Item) -> bytes:
        """Made once per change, for all clients."""
        ...

    def chunk(self, frames: Sequence[bytes]) -> bytes:
        """What one flush writes; never called without frames."""
        ...


class Sink(Protocol):
    """A client's end. None of these may call back into Followers before it returns."""

    def write(self, data: bytes) -> None: ...

    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        ...

    def close(self) -> None:
        """End once everything is sent."""
        ...

    def abort(self) -> None:
        """End now: the client takes nothing any more."""
        ...


# Key → the item that was framed last, and its frame.
Frames = dict[str, tuple[Item, bytes]]


class Follower:
    """One client. `group` is None once it has left."""

    __slots__ = ("group", "sink", "whose")

    def __init__(self, whose: Followers, sink: Sink, group: _Group) -> None:
        self.whose = whose
        self.sink = sink
        self.group: _Group | None = group

    @property
    def keys(self) -> tuple[str, ...]:
        return self.group.keys if self.group is not None else ()

    @property
    def left(self) -> bool:
        return self.group is None


class _Group:
    """Clients with the same keys and framing. `due` holds the frames of the flush under way, `written` is the number of
    the spread that was last written to its members; `size` counts those that are behind too."""

    __slots__ = ("due", "keys", "members", "size", "wire", "written")

    def __init__(self, wire: _Wire, keys: tuple[str, ...]) -> None:
        self.wire = wire
        self.keys = keys
        self.members: set[Follower] = set()
        self.due: list[bytes] = []
        self.size = 0
        self.written = -1


class _Wire:
    """All groups of one framing."""

    __slots__ = ("_frames", "following", "framing", "groups")

    def __init__(self, framing: Framing, frames: Frames) -> None:
        self.framing = framing
        self._frames = frames
        self.groups: dict[tuple[str, ...], _Group] = {}
        self.following: dict[str, set[_Group]] = {}

    def group(self, keys: Iterable[str]) -> _Group:
        found = tuple(sorted(map(sys.intern, keys)))
        group = self.groups.get(found)
        if group is None:
            group = self.groups[found] = _Group(self, found)
            for key in found:
                self.following.setdefault(key, set()).add(group)
        return group

    def drop(self, group: _Group) -> None:
        del self.groups[group.keys]
        for key in group.keys:
            following = self.following[key]
            following.discard(group)
            if not following:
                del self.following[key]

    def frame(self, key: str, item: Item) -> bytes:
        made = self._frames.get(key)
        if made is None or made[0] is not item:
            made = self._frames[key] = (item, self.framing.frame(key, item))
        return made[1]


class _Behind:
    """What a client that is not current has to get: the keys that it is `owed`, and those spread after `seen`. `unsent`
    bytes were left when it last took some, at `taken_s`."""

    __slots__ = ("owed", "seen", "taken_s", "unsent")

    def __init__(self, seen: int, owed: Collection[str], unsent: int, taken_s: float) -> None:
        self.seen = seen
        self.owed = owed
        self.unsent = unsent
        self.taken_s = taken_s


@dataclass(slots=True)
class Counts:
    """What was done since the start: frames handed to clients, writes that carried them, and clients passed over."""

    frames: int = 0
    writes: int = 0
    skips: int = 0
    stuck: int = 0


class Followers:
    """All clients of one kind of news. Used from one event loop; nothing here waits."""

    def __init__(
        self,
        clock: Clock,
        wake: Callable[[], None],
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
        stuck_s: float = STUCK_S,
        frames: dict[Framing, Frames] | None = None,
    ) -> None:
        """`wake` is called when a client waits for something that the next flush brings. `frames` may be shared by
        several, so that each frame is made once for all of them."""
        self.counts = Counts()
        self._wake = wake
        self._clock = clock
        self._unsent_bytes_max = unsent_bytes_max
        self._stuck_s = stuck_s
        self._frames: dict[Framing, Frames] = {} if frames is None else frames
        self._wires: dict[Framing, _Wire] = {}
        self._items: dict[str, Item] = {}
        self._fresh: dict[str, Item] = {}
        self._spread_ms: dict[str, int] = {}
        # The number of the newest spread, and of the one in which each key last took part.
        self._spread = 0
        self._spread_of: dict[str, int] = {}
        self._behind: dict[Follower, _Behind] = {}
        self._under_way: Iterator[None] | None = None
        self._beaten = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def join(self, keys: Collection[str], sink: Sink, framing: Framing, since_ms: int | None = None) -> Follower:
        """A new client: the next flush brings the newest state of its keys, with `since_ms` (an id that it has seen)
        only of what changed since then, less a margin; then come the changes."""
        follower = Follower(self, sink, self._enter(framing, keys))
        self._size += 1
        self._owe(follower, self._spread_since(keys, since_ms))
        return follower

    def change(self, follower: Follower, keys: Collection[str]) -> None:
        """From now on these keys; the state of those that it did not have before comes with the next flush."""
        old = follower.group
        if old is None:
            return
        new = self._enter(old.wire.framing, keys)
        owing = self._behind.get(follower)
        had = set(old.keys) if owing is None else set(old.keys).difference(owing.owed)
        added = set(new.keys) - had
        old.members.discard(follower)
        follower.group = new
        self._exit(old)
        if owing is None:
            self._owe(follower, added)
        else:
            owing.owed = added

    def leave(self, follower: Follower) -> bool:
        """False when it had left before."""
        group = follower.group
        if group is None:
            return False
        follower.group = None
        group.members.discard(follower)
        self._behind.pop(follower, None)
        self._exit(group)
        self._size -= 1
        return True

    def publish(self, items: Mapping[str, Item]) -> None:
        """The newest state of some keys, for the next flush."""
        self._fresh.update(items)

    def flush(self) -> None:
        """Everything that `flushing` does, at once."""
        for _ in self.flushing():
            pass

    def flushing(self) -> Iterator[None]:
        """Write to each client what changed for it. Gives way after every few writes; joins, changes and publishing may
        come in between. A flush that another one left unfinished is finished first."""
        if self._under_way is not None:
            for _ in self._under_way:
                pass
        self._under_way = steps = self._flush()
        yield from steps

    def beating(self) -> Iterator[None]:
        """A heartbeat to all current clients that were written nothing since the last one. Gives way as `flushing`."""
        beaten, self._beaten = self._beaten, self._spread
        left = WRITES_PER_STEP
        for wire in [wire for wire in self._wires.values() if wire.framing.beat]:
            beat = wire.framing.beat
            for group in [group for group in wire.groups.values() if group.written <= beaten]:
                for follower in list(group.members):
                    if follower.sink.unsent() <= self._unsent_bytes_max:
                        follower.sink.write(beat)
                    left -= 1
                    if not left:
                        left = WRITES_PER_STEP
                        yield

    # -- a flush -------------------------------------------------------------------------------------------------------

    def _flush(self) -> Iterator[None]:
        try:
            if self._fresh:
                yield from self._spread_fresh()
                for wire in list(self._wires.values()):
                    yield from self._write_due(wire)
            if self._behind:
                yield from self._catch_up()
        finally:
            self._under_way = None

    def _spread_fresh(self) -> Iterator[None]:
        """Make the frames of what is new, and add each to what the groups of its key are due."""
        fresh, self._fresh = self._fresh, {}
        self._spread += 1
        self._items.update(fresh)
        now_ms = self._clock.now_ns() // NS_PER_MS
        additions = 0
        for key, item in fresh.items():
            self._spread_ms[key] = now_ms
            self._spread_of[key] = self._spread
            for wire in self._wires.values():
                if (following := wire.following.get(key)) is not None:
                    frame = wire.frame(key, item)
                    for group in following:
                        group.due.append(frame)
                    additions += len(following)
            if additions >= ADDITIONS_PER_STEP:
                additions = 0
                yield

    def _write_due(self, wire: _Wire) -> Iterator[None]:
        """One write per client. What a group is due is kept until all of it was written: until then, a member that
        moves elsewhere counts as not having got it."""
        counts, unsent_bytes_max, spread = self.counts, self._unsent_bytes_max, self._spread
        chunk = wire.framing.chunk
        left = WRITES_PER_STEP
        for group in [group for group in wire.groups.values() if group.due]:
            if not group.members:
                group.due.clear()
                continue
            data, frames = chunk(group.due), len(group.due)
            for follower in list(group.members):
                sink = follower.sink
                if follower.group is not group:
                    continue
                if (unsent := sink.unsent()) > unsent_bytes_max:
                    counts.skips += 1
                    group.members.discard(follower)
                    self._behind[follower] = _Behind(spread - 1, (), unsent, self._clock.monotonic_s())
                    continue
                sink.write(data)
                counts.frames += frames
                counts.writes += 1
                left -= 1
                if not left:
                    left = WRITES_PER_STEP
                    yield
            group.due.clear()
            group.written = spread

    def _catch_up(self) -> Iterator[None]:
        """Those that are behind and have room get what they miss, and are members of their group from then on."""
        counts, now_s = self.counts, self._clock.monotonic_s()
        left = WRITES_PER_STEP
        for follower, owing in list(self._behind.items()):
            group = follower.group
            if group is None:
                continue  # has left meanwhile
            if (unsent := follower.sink.unsent()) > self._unsent_bytes_max:
                self._wait_for(follower, owing, unsent, now_s)
                continue
            if frames := self._missed(group, owing):
                follower.sink.write(group.wire.framing.chunk(frames))
                counts.frames += len(frames)
                counts.writes += 1
            del self._behind[follower]
            group.members.add(follower)
            left -= 1
            if not left:
                left = WRITES_PER_STEP
                yield

    def _missed(self, group: _Group, owing: _Behind) -> list[bytes]:
        items, spread_of, wire, seen, owed = self._items, self._spread_of, group.wire, owing.seen, owing.owed
        return [
            wire.frame(key, items[key]) for key in group.keys if key in items and (spread_of[key] > seen or key in owed)
        ]

    def _wait_for(self, follower: Follower, owing: _Behind, unsent: int, now_s: float) -> None:
        if unsent < owing.unsent:
            owing.unsent, owing.taken_s = unsent, now_s
        elif now_s - owing.taken_s > self._stuck_s:
            owing.taken_s = now_s
            self.counts.stuck += 1
            follower.sink.abort()

    # -- groups --------------------------------------------------------------------------------------------------------

    def _enter(self, framing: Framing, keys: Iterable[str]) -> _Group:
        wire = self._wires.get(framing)
        if wire is None:
            wire = self._wires[framing] = _Wire(framing, self._frames.setdefault(framing, {}))
        group = wire.group(keys)
        group.size += 1
        return group

    def _exit(self, group: _Group) -> None:
        group.size -= 1
        if not group.size:
            group.wire.drop(group)

    def _owe(self, follower: Follower, owed: Collection[str]) -> None:
        # While a flush is under way, what a client has got of it is not known: it may get a part of it again.
        seen = self._spread if self._under_way is None else self._spread - 1
        self._behind[follower] = _Behind(seen, owed, follower.sink.unsent(), self._clock.monotonic_s())
        self._wake()

    def _spread_since(self, keys: Collection[str], since_ms: int | None) -> Collection[str]:
        if since_ms is None:
            return frozenset(keys)
        from_ms = since_ms - RESUME_MARGIN_MS
        return frozenset(key for key in keys if self._spread_ms.get(key, 0) >= from_ms)
