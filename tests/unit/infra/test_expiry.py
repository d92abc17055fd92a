"""Streams end with the token they were opened with."""

from __future__ import annotations

import asyncio

from infra.clock import NS_PER_S, ManualClock, SystemClock
from infra.expiry import Expiries

NOW_S = 1_700_000_000


async def test_each_ends_once_at_its_second() -> None:
    clock = ManualClock(NOW_S * NS_PER_S)
    expiries, ended = Expiries(clock), list[str]()
    for name, after_s in (("late", 20), ("soon", 10), ("also soon", 10)):
        expiries.at(NOW_S + after_s, lambda name=name: ended.append(name))  # type: ignore[misc]
    expiries.at(None, lambda: ended.append("never"))
    clock.advance(9.9)
    expiries.look()
    assert ended == []
    clock.advance(0.1)
    expiries.look()
    expiries.look()
    assert sorted(ended) == ["also soon", "soon"]
    clock.advance(100)
    expiries.look()
    assert ended[2:] == ["late"]


async def test_what_has_left_is_not_ended_and_not_kept() -> None:
    clock = ManualClock(NOW_S * NS_PER_S)
    expiries, ended = Expiries(clock), list[int]()
    ends = [lambda n=n: ended.append(n) for n in range(3)]
    for end in ends:
        expiries.at(NOW_S + 5, end)
    expiries.forget(NOW_S + 5, ends[1])
    expiries.forget(NOW_S + 6, ends[0])
    expiries.forget(None, ends[0])
    clock.advance(5)
    expiries.look()
    assert sorted(ended) == [0, 2]
    assert (expiries._due, expiries._order) == ({}, [])


async def test_it_looks_by_itself() -> None:
    ended = asyncio.Event()
    Expiries(SystemClock()).at(NOW_S, ended.set)
    async with asyncio.timeout(10):
        await ended.wait()
    assert ended.is_set()
