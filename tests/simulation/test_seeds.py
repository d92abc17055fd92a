"""A thousand bad days on the twins, in virtual time: nothing lost, nothing doubled, nothing misstated."""

from __future__ import annotations

import pytest

from tests.simulation.day import Outcome
from tests.simulation.seeds import replay, run

SEEDS, ORDERS, PROCESSES = 1000, 100, 2
# A slow machine does fewer of them.
SECONDS, SEEDS_MIN = 300.0, 100


@pytest.mark.timeout(600)
async def test_no_seed_finds_a_difference() -> None:
    found = await run(1, SEEDS, ORDERS, PROCESSES, told, seconds=SECONDS)
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


def told(outcome: Outcome) -> None:
    if outcome.findings:
        print(f"seed {outcome.seed}: {outcome.findings[0]}; {replay(outcome.seed, ORDERS)}")
