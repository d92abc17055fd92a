"""The index of dead letters in this process's memory: the twin of `letters_pg`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from infra.clock import Clock
from infra.dlq.letters import DeadLetter, Filter, State
from infra.principal import Principal


class MemoryLetters:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._letters: dict[str, DeadLetter] = {}  # in order of arrival

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self._letters.setdefault(letter.id, letter)

    async def page(self, wanted: Filter) -> list[DeadLetter]:
        bounds = {"topic": wanted.topic, "code": wanted.code, "state": wanted.state, "order_id": wanted.order_id}

        def fits(letter: DeadLetter) -> bool:
            named = wanted.ids is None or letter.id in wanted.ids
            return named and all(value is None or getattr(letter, name) == value for name, value in bounds.items())

        found = list(self._letters.values())
        if wanted.before is not None:
            found = found[: list(self._letters).index(wanted.before)] if wanted.before in self._letters else []
        found = [replace(letter, record=None) for letter in found if fits(letter)]
        return (found if wanted.oldest_first else found[::-1])[: wanted.limit]

    async def find(self, letter_id: str) -> DeadLetter | None:
        return self._letters.get(letter_id)

    async def mark(
        self, asker: Principal, letter_id: str, before: State, after: State, reason: str
    ) -> DeadLetter | None:
        letter = self._letters.get(letter_id)
        if letter is None or letter.state != before:
            return None
        now_us = self._clock.now_ns() // 1000
        marked = replace(letter, state=after, state_us=now_us, state_by=asker.subject, state_reason=reason)
        self._letters[letter_id] = marked
        return replace(marked, record=None)

    async def ids(self, topic: str) -> set[str]:
        parked = (letter for letter in self._letters.values() if letter.topic == topic and letter.state == "parked")
        return {letter.order_id for letter in parked if letter.order_id is not None}
