"""The README's table says which goals were met."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure
from tests.bench.plot import is_met, table


def _figure(ours: float, ratio: float | None, goal: str) -> Figure:
    return Figure("price fan-out", ours, None if ratio is None else ours / ratio, ratio, goal, "ms", "alone")


@pytest.mark.parametrize(
    ("ours", "ratio", "goal", "met"),
    [
        (700_000.0, 15.0, "≥ 15 ×", True),
        (700_000.0, 14.9, "≥ 15 ×", False),
        (9.0, 0.9, "≤ 1 ×", True),
        (9.0, 1.1, "≤ 1 ×", False),
        (49.0, None, "≤ 50", True),
        (51.0, None, "≤ 50", False),
        (0.0, None, "0", True),
        (3.0, None, "0", False),
        (3.0, 1.0, "", None),
        (3.0, 1.0, "flat", None),
    ],
)
def test_a_goal_is_for_the_ratio_where_there_is_one(
    ours: float, ratio: float | None, goal: str, met: bool | None
) -> None:
    assert is_met(_figure(ours, ratio, goal)) is met


def test_the_table_marks_what_was_met_and_what_was_missed() -> None:
    head, line, met, missed, without = table(
        [_figure(700_000.0, 16.0, "≥ 15 ×"), _figure(51.25, None, "≤ 50"), _figure(1.0, 2.0, "")]
    ).splitlines()
    assert head.count("|") == line.count("|")
    assert met == "| price fan-out | 700,000 ms | 43,750 | 16 × | ≥ 15 × ✓ |"
    assert missed == "| price fan-out | 51.25 ms |  |  | ≤ 50 ✗ |"
    assert without == "| price fan-out | 1 ms | 0.5 | 2 × |  |"
