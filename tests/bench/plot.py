"""`python -m tests.bench.plot`: draws the price path's ratios from bench-results.json and prints the README's table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.stack.layout import REPOSITORY
from tests.bench.figures import Figure

RESULTS = REPOSITORY / "bench-results.json"
TARGET = REPOSITORY / "docs" / "price-path.svg"
# How the names of the price path's figures begin.
PRICE_PATH = (
    "Kafka to committed",
    "quote reads",
    "price fan-out",
    "one channel",
    "memory per client",
    "cost per event",
)
GOAL = re.compile(r"([≥≤]) ([\d.]+)")
MET, MISSED, NO_GOAL = "#2a7f62", "#c0392b", "#7f8c8d"
ROW_INCHES, WIDTH_INCHES = 0.36, 9.0


def read(source: Path) -> list[Figure]:
    """The price path's figures, in the order in which they were measured."""
    found = [Figure(**each) for each in json.loads(source.read_text(encoding="utf-8"))]
    return [figure for figure in found if figure.name.startswith(PRICE_PATH)]


def is_met(figure: Figure) -> bool | None:
    """None for a figure without a goal. A goal is for the ratio where there is one, else for the number itself."""
    said = GOAL.match(figure.goal)
    number = figure.ours if figure.ratio is None else figure.ratio
    if said is None:
        return number == float(figure.goal) if figure.goal.isdigit() else None
    return number >= float(said[2]) if said[1] == "≥" else number <= float(said[2])


def table(figures: Sequence[Figure]) -> str:
    """In Markdown."""
    rows = ["| figure | ours | peer | ratio | goal |", "| --- | ---: | ---: | ---: | --- |"]
    for each in figures:
        peer = "" if each.peer is None else _number(each.peer)
        ratio = "" if each.ratio is None else f"{each.ratio:g} ×"
        mark = {True: " ✓", False: " ✗", None: ""}[is_met(each)]
        rows.append(f"| {each.name} | {_number(each.ours)} {each.unit} | {peer} | {ratio} | {each.goal}{mark} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def draw(figures: Sequence[Figure], target: Path) -> None:
    """One row a ratio, with a stroke where its goal is; logarithmic, since the ratios are from tenths to dozens."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures make the same file.
    mpl.rcParams.update({"svg.hashsalt": "price-path", "font.size": 9})
    from matplotlib import pyplot as plt

    rows = [figure for figure in figures if figure.ratio]
    canvas, axes = plt.subplots(figsize=(WIDTH_INCHES, 1.1 + ROW_INCHES * len(rows)), layout="constrained")
    for place, figure in enumerate(reversed(rows)):
        _row(axes, place, figure)
    axes.set_yticks(range(len(rows)), [figure.name for figure in reversed(rows)])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    axes.set_xlabel("ours ÷ peer in the same run (stroke: the goal; ≥ more is better, ≤ less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.savefig(target, metadata={"Date": None})
    plt.close(canvas)


def _row(axes: Any, place: int, figure: Figure) -> None:
    assert figure.ratio is not None
    colour = {True: MET, False: MISSED, None: NO_GOAL}[is_met(figure)]
    axes.barh(place, figure.ratio - 1, left=1, height=0.55, color=colour)
    beside = {"ha": "left", "xytext": (4, 0)} if figure.ratio >= 1 else {"ha": "right", "xytext": (-4, 0)}
    axes.annotate(f"{figure.ratio:g}", (figure.ratio, place), va="center", textcoords="offset points", **beside)
    if said := GOAL.match(figure.goal):
        axes.plot([float(said[2])] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2)


def main() -> int:
    if not RESULTS.exists():
        sys.stderr.write(f"{RESULTS} is missing: `make bench` writes it\n")
        return 1
    figures = read(RESULTS)
    draw(figures, TARGET)
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
