"""The tree as the rules see it: sources, their imports, and what a name stands for."""

from __future__ import annotations

import ast
import builtins
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("price_service", "order_service", "exchange_gateway", "outbox_relay")
PRODUCT = ("api", *SERVICES, "infra")
BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root, and its text. A broken example is one too."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def names(self) -> Names:
        return Names(self.tree)

    @property
    def top(self) -> str:
        return PurePosixPath(self.path).parts[0]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    def at(self, line: int, why: str) -> str:
        return f"{self.path}:{line}: {why}"


Rule = Callable[[Source], Iterator[str]]


@cache
def files() -> list[str]:
    """What a clone would hold: tracked files and new ones, ignored ones not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted({name for name in listed if name and (ROOT / name).is_file()})


@cache
def sources(*tops: str) -> list[Source]:
    """Every Python file under these top folders."""
    return [
        Source(name, (ROOT / name).read_text(encoding="utf-8"))
        for name in files()
        if name.endswith(".py") and name.split("/", 1)[0] in tops
    ]


def broken(rule: Rule, *tops: str) -> list[str]:
    """Where the tree breaks a rule."""
    return [finding for source in sources(*(tops or PRODUCT)) for finding in rule(source)]


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, `from a import b` as `a.b`, relative names made absolute."""
    folder = PurePosixPath(source.path).parent.parts
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            origin = ".".join((*above, node.module) if node.module else above)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and source.names.of(node.func) in {"importlib.import_module", "__import__"}:
            yield from ((node.lineno, arg.value) for arg in node.args if _is_text(arg))  # type: ignore[attr-defined]


class Names:
    """What the names of a file stand for, as far as its imports tell."""

    def __init__(self, tree: ast.Module) -> None:
        self._known: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    self._known[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self._known[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def of(self, node: ast.expr) -> str:
        """`dt.now` → `datetime.datetime.now`; empty for a name that is neither imported nor built in."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id, node.id if node.id in BUILTINS else "")
        if isinstance(node, ast.Attribute):
            before = self.of(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""


def docstrings(source: Source) -> set[int]:
    """Ids of the nodes that are only words: strings that stand alone."""
    return {id(node.value) for node in source.nodes if isinstance(node, ast.Expr)}


def texts(source: Source) -> Iterator[ast.Constant]:
    """Every string that the program uses."""
    words = docstrings(source)
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in words:
            yield node


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
