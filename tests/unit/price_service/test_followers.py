"""Who gets what from a flush."""

from __future__ import annotations

from collections.abc import Iterator

from infra.clock import NS_PER_MS, ManualClock
from price_service.live.followers import WRITES_PER_STEP, Followers
from price_service.live.pulled import Pulled
from tests.unit.price_service.sinks import WORDS, Kept, Words, items


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wakes = 0
        self.followers = Followers(self.clock, self._wake, unsent_bytes_max=10, stuck_s=30.0)

    def _wake(self) -> None:
        self.wakes += 1

    def flush(self, **values: int) -> None:
        self.followers.publish(items(**values))
        self.followers.flush()

    def beat(self) -> None:
        for _ in self.followers.beating():
            pass

    def now_ms(self) -> int:
        return self.clock.now_ns() // NS_PER_MS


def test_a_snapshot_first_and_then_only_what_changed() -> None:
    scene, sink = Scene(), Kept()
    scene.flush(A=1, B=1, C=1)
    scene.followers.join(["B", "A", "Z"], sink, WORDS)
    assert scene.wakes == 1
    assert sink.read() == []
    scene.flush()
    assert sink.read() == ["A=1 B=1"]
    scene.flush(C=2)
    scene.flush(A=2, C=3)
    assert sink.read() == ["A=2"]
    scene.flush(Z=1)
    assert sink.read() == ["Z=1"]


def test_of_what_is_published_between_two_flushes_the_newest_goes_out() -> None:
    scene, sink = Scene(), Kept()
    scene.followers.join(["A"], sink, WORDS)
    scene.followers.publish(items(A=1))
    scene.flush(A=2)
    assert sink.read() == ["A=2"]


def test_equal_subscriptions_share_their_bytes_whatever_the_order_of_their_keys() -> None:
    scene, one, two, other = Scene(), Kept(), Kept(), Kept()
    for sink, keys, framing in ((one, ["A", "B"], WORDS), (two, ["B", "A"], WORDS), (other, ["A", "B"], Words())):
        scene.followers.join(keys, sink, framing)
    scene.flush()
    scene.flush(A=1, B=1)
    assert one.taken[0] is two.taken[0]
    assert other.taken == one.taken
    assert other.taken[0] is not one.taken[0]


def test_a_client_without_room_is_passed_over_and_gets_the_newest_of_each_key_once() -> None:
    scene, slow, quick = Scene(), Kept(), Kept()
    scene.followers.join(["A", "B", "C"], slow, WORDS)
    scene.followers.join(["A", "B", "C"], quick, WORDS)
    scene.flush(A=1, B=1, C=1)
    slow.read(), quick.read()
    slow.is_taking = False
    for number in range(10, 100):
        scene.flush(A=number, B=number)
        assert quick.read() == [f"A={number} B={number}"]
    assert slow.unsent() == len("A=10 B=10 A=11 B=11") - 1
    slow.is_taking = True
    slow.take()
    scene.flush()
    assert slow.read() == ["A=10 B=10", "A=11 B=11", "A=99 B=99"]
    assert scene.followers.counts.skips == 1
    scene.flush(C=7)
    assert slow.read() == ["C=7"]


def test_a_client_that_takes_nothing_for_long_is_cut_off_and_one_that_takes_a_little_is_not() -> None:
    scene, frozen, slow = Scene(), Kept(), Kept()
    for sink in (frozen, slow):
        scene.followers.join(["A"], sink, WORDS)
        sink.is_taking = False
    for number in range(100, 110):
        scene.flush(A=number)
    for _ in range(3):
        scene.clock.advance(20)
        slow.take(1)
        scene.flush(A=1)
    assert (frozen.ends, slow.ends) == (["aborted"], [])
    assert scene.followers.counts.stuck == 1


def test_other_keys_without_joining_anew() -> None:
    scene, sink = Scene(), Kept()
    scene.flush(A=1, B=1, C=1)
    follower = scene.followers.join(["A", "B"], sink, WORDS)
    scene.flush()
    sink.read()
    scene.followers.change(follower, ["C", "B"])
    assert follower.keys == ("B", "C")
    scene.flush(A=2, B=2)
    assert sink.read() == ["B=2 C=1"]
    scene.flush(A=3, C=2)
    assert sink.read() == ["C=2"]
    scene.followers.change(follower, ["C", "B"])
    scene.flush()
    assert sink.read() == []


def test_a_change_before_the_first_flush_leaves_nothing_out() -> None:
    scene, sink = Scene(), Kept()
    scene.flush(A=1, B=1)
    follower = scene.followers.join(["A"], sink, WORDS)
    scene.followers.change(follower, ["A", "B"])
    scene.flush()
    assert sink.read() == ["A=1 B=1"]


def test_a_change_in_the_middle_of_a_flush_leaves_nothing_out() -> None:
    scene = Scene()
    sinks = [Kept() for _ in range(2 * WRITES_PER_STEP)]
    joined = [scene.followers.join(["A"], sink, WORDS) for sink in sinks]
    scene.followers.publish(items(A=1, B=1))
    steps = scene.followers.flushing()
    next(steps)
    for follower in joined:
        scene.followers.change(follower, ["A", "B"])
    _finish(steps)
    scene.flush()
    assert all({"A=1", "B=1"} == set(" ".join(sink.read()).split()) for sink in sinks)


def test_what_is_published_in_the_middle_of_a_flush_goes_out_with_the_next() -> None:
    scene = Scene()
    sinks = [Kept() for _ in range(2 * WRITES_PER_STEP)]
    for sink in sinks:
        scene.followers.join(["A"], sink, WORDS)
    scene.flush()
    scene.followers.publish(items(A=1))
    steps = scene.followers.flushing()
    next(steps)
    late = Kept()
    scene.followers.join(["A"], late, WORDS)
    scene.flush(A=2)
    assert [sink.read() for sink in sinks] == [["A=1", "A=2"]] * len(sinks)
    assert late.read() == ["A=1", "A=2"]
    _finish(steps)


def test_a_resume_brings_what_has_changed_since_less_a_margin() -> None:
    scene = Scene()
    scene.flush(OLD=1)
    scene.clock.advance(10)
    seen_ms = scene.now_ms()
    scene.clock.advance(-0.9)
    scene.flush(BARELY=1)
    scene.clock.advance(5)
    scene.flush(NEW=1)
    sink, other = Kept(), Kept()
    scene.followers.join(["OLD", "BARELY", "NEW"], sink, WORDS, since_ms=seen_ms)
    scene.followers.join(["OLD"], other, WORDS, since_ms=seen_ms)
    scene.flush()
    assert sink.read() == ["BARELY=1 NEW=1"]
    assert other.read() == []
    scene.flush(OLD=2)
    assert (sink.read(), other.read()) == (["OLD=2"], ["OLD=2"])


def test_who_leaves_gets_nothing_more_and_leaves_nothing_behind() -> None:
    scene, sink = Scene(), Kept()
    follower = scene.followers.join(["A"], sink, WORDS)
    assert len(scene.followers) == 1
    assert scene.followers.leave(follower)
    assert not scene.followers.leave(follower)
    scene.followers.change(follower, ["B"])
    scene.flush(A=1, B=1)
    scene.beat()
    assert (sink.read(), follower.left, len(scene.followers)) == ([], True, 0)


def test_a_heartbeat_goes_to_those_that_were_written_nothing_since_the_last() -> None:
    scene, quiet, busy = Scene(), Kept(), Kept()
    scene.followers.join(["A"], busy, WORDS)
    scene.followers.join(["B"], quiet, WORDS)
    scene.flush(A=1, B=1)
    scene.beat()
    quiet.read(), busy.read()
    scene.flush(A=2)
    scene.beat()
    assert (quiet.read(), busy.read()) == (["beat"], ["A=2"])
    scene.beat()
    assert (quiet.read(), busy.read()) == (["beat"], ["beat"])


async def test_a_pulling_client_gets_what_was_written_in_one_piece_and_an_end() -> None:
    sink = Pulled()
    sink.write(b"a")
    sink.write(b"b")
    assert sink.unsent() == 2
    assert await sink.pull() == b"ab"
    assert sink.unsent() == 0
    sink.write(b"c")
    sink.close()
    sink.write(b"d")
    assert [await sink.pull(), await sink.pull()] == [b"c", b""]


async def test_a_pulling_client_that_is_cut_off_gets_no_more() -> None:
    sink = Pulled()
    sink.write(b"a")
    sink.abort()
    assert (await sink.pull(), sink.unsent()) == (b"", 0)


def _finish(steps: Iterator[None]) -> None:
    for _ in steps:
        pass
