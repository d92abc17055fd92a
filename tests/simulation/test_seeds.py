"""A thousand bad days on the twins, in virtual time: nothing lost, nothing doubled, nothing misstated."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import THOUSAND_DAYS
from tests.simulation.beside import ORDERS
from tests.simulation.seeds import replay

# A slow machine does fewer of them.
SEEDS_MIN = 100


@pytest.mark.timeout(600)
async def test_no_seed_finds_a_difference(request: pytest.FixtureRequest) -> None:
    found = await asyncio.to_thread(request.config.stash[THOUSAND_DAYS].done)
    seeds = len(found.outcomes)
    print(f"{seeds} seeds, {found.total('placed')} orders, {found.total('kills')} kills")
    assert not found.broken, found.broken
    failed = [f"seed {one.seed}: {one.findings[:3]}; {replay(one.seed, ORDERS)}" for one in found.failed]
    assert not failed, "\n".join([f"{len(failed)} of {seeds} seeds have findings", *failed[:20]])
    assert seeds >= SEEDS_MIN
    # Days on which nothing happened would prove nothing.
    assert found.total("placed") > seeds * ORDERS / 2
    assert found.total("fills") > seeds * ORDERS / 4
    assert found.total("kills") > seeds * 4
