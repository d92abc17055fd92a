"""Tails are limited: medians look alike in good and tired code, the longest tenth does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from tests.shape.tree import Source

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
# path, or path:function → lines. It may only shrink; an entry that is no longer needed fails too.
EXCEPTIONS: Mapping[str, int] = {}
NAMES_WITHOUT_MEANING = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "base"}


def sizes(source: Source) -> Iterator[tuple[str, int, int]]:
    """(what, lines, most lines) of a file and of each of its functions."""
    yield source.path, len(source.text.splitlines()), FILE_LINES_MAX
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield f"{source.path}:{node.name}", lines, FUNCTION_LINES_MAX


def tails_are_short(source: Source) -> Iterator[str]:
    for what, lines, most in sizes(source):
        if lines > EXCEPTIONS.get(what, most):
            yield f"{what}: {lines} lines, at most {EXCEPTIONS.get(what, most)}"


def names_say_something(path: str) -> Iterator[str]:
    """No file and no folder is named after nothing."""
    for part in PurePosixPath(path).parts:
        words = set(part.split(".")[0].lower().replace("-", "_").split("_"))
        if words & NAMES_WITHOUT_MEANING:
            yield f"{path}: the name {part} says nothing about what is in it"
