"""Whatever happens in whatever order: who keeps up has the newest of each key, and nobody sees an older value after a
newer one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from infra.clock import NS_PER_MS, ManualClock
from price_service.live import followers as module
from price_service.live.followers import Follower, Followers
from tests.unit.price_service.sinks import WORDS, Kept, Words, items

KEYS = st.sets(st.sampled_from("ABCDE"), min_size=1)
OTHER_WORDS = Words()
UNSENT_BYTES_MAX = 4


@dataclass
class Client:
    follower: Follower
    sink: Kept
    keys: set[str]
    # What it saw before, on another stream: a resume need not repeat that.
    seen: dict[str, int] = field(default_factory=dict)

    def look(self) -> None:
        for word in " ".join(self.sink.read()).split():
            key, _, number = word.partition("=")
            if word != "beat":
                assert int(number) >= self.seen.get(key, 0), "an older value after a newer one"
                self.seen[key] = int(number)


class Fanout(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.followers = Followers(self.clock, lambda: None, UNSENT_BYTES_MAX, stuck_s=1e9)
        self.clients: list[Client] = []
        self.published: dict[str, int] = {}
        self.steps: Iterator[None] | None = None
        self.count = 0

    @rule(keys=KEYS, other=st.booleans())
    def join(self, keys: set[str], other: bool) -> None:
        sink = Kept()
        self.clients.append(Client(self.followers.join(keys, sink, OTHER_WORDS if other else WORDS), sink, keys))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """It kept up until now, loses its connection, and comes back."""
        gone = self._one(data)
        if not gone.sink.is_taking or gone.sink.unsent():
            return
        self._finish()
        self.followers.flush()
        gone.look()
        self._drop(gone)
        now_ms, sink = self.clock.now_ns() // NS_PER_MS, Kept()
        self.clock.advance(data.draw(st.sampled_from([0, 0.5, 60])))
        follower = self.followers.join(gone.keys, sink, WORDS, since_ms=now_ms)
        self.clients.append(Client(follower, sink, gone.keys, gone.seen))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), keys=KEYS)
    def change(self, data: st.DataObject, keys: set[str]) -> None:
        client = self._one(data)
        self.followers.change(client.follower, keys)
        client.keys = keys

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self._drop(self._one(data))

    @rule(keys=KEYS)
    def publish(self, keys: set[str]) -> None:
        for key in keys:
            self.count += 1
            self.published[key] = self.count
        self.followers.publish(items(**{key: self.published[key] for key in keys}))

    @rule(seconds=st.sampled_from([0.1, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def flush(self) -> None:
        self.followers.flush()

    @rule(steps=st.integers(1, 4))
    def flush_a_part(self, steps: int) -> None:
        if self.steps is None:
            self.steps = self.followers.flushing()
        for _ in range(steps):
            if next(self.steps, self) is self:
                self.steps = None
                return

    @rule()
    def beat(self) -> None:
        for _ in self.followers.beating():
            pass

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def become_slow(self, data: st.DataObject) -> None:
        self._one(data).sink.is_taking = False

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def become_quick(self, data: st.DataObject) -> None:
        self._recover(self._one(data))

    @invariant()
    def nobody_sees_an_older_value_after_a_newer_one(self) -> None:
        for client in self.clients:
            client.look()

    @invariant()
    def nobody_is_queued_for(self) -> None:
        most = len("beat") * 100 + UNSENT_BYTES_MAX + len("A=1000 B=1000 C=1000 D=1000 E=1000")
        assert all(client.sink.unsent() <= most for client in self.clients)

    def teardown(self) -> None:
        """Once all keep up, all are current."""
        for client in self.clients:
            self._recover(client)
        self._finish()
        self.followers.flush()
        for client in self.clients:
            client.look()
            newest = {key: self.published[key] for key in client.keys if key in self.published}
            assert {key: client.seen.get(key) for key in newest} == newest
            self.followers.leave(client.follower)
        assert len(self.followers) == 0

    def _one(self, data: st.DataObject) -> Client:
        return data.draw(st.sampled_from(self.clients))

    def _drop(self, client: Client) -> None:
        self.clients.remove(client)
        assert self.followers.leave(client.follower)

    def _recover(self, client: Client) -> None:
        client.sink.is_taking = True
        client.sink.take()

    def _finish(self) -> None:
        for _ in self.steps or ():
            pass
        self.steps = None


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a flush of a few clients has many places where something can come in between."""
    monkeypatch.setattr(module, "WRITES_PER_STEP", 1)
    monkeypatch.setattr(module, "ADDITIONS_PER_STEP", 1)


def test_every_client_that_keeps_up_is_current() -> None:
    run_state_machine_as_test(Fanout, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
