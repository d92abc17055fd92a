"""The checks can fail: worlds that are broken on purpose are caught, by the check that is there for it; and the same
seed is the same day."""

from __future__ import annotations

import pytest

from tests.simulation.day import Outcome
from tests.simulation.sabotage import SABOTAGES
from tests.simulation.seeds import run

SEEDS, ORDERS = 4, 60


@pytest.mark.parametrize("name", sorted(SABOTAGES))
async def test_a_broken_world_is_caught(name: str) -> None:
    found = await run(1, SEEDS, ORDERS, 2, ignore, name)
    assert not found.broken, found.broken
    _, check = SABOTAGES[name]
    caught = [one for one in found.outcomes if any(text.startswith(check) for text in one.findings)]
    assert caught, [one.findings[:2] for one in found.outcomes]


async def test_a_seed_is_always_the_same_day() -> None:
    first, second = [await run(5, 2, ORDERS, 1, ignore) for _ in range(2)]
    assert first.outcomes == second.outcomes
    assert first.outcomes[0].figures["callbacks"] != first.outcomes[1].figures["callbacks"]


def ignore(_: Outcome) -> None:
    """The outcomes are looked at later."""
