"""Declared once: topics, metrics, reason codes, settings, and the table of order states."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from infra.contracts import DLQ_SUFFIX, TOPICS
from tests.shape.tree import Source, texts

CONTRACTS = "infra/contracts.py"
TELEMETRY = "infra/telemetry.py"
METRICS_READERS = (TELEMETRY, "infra/process.py")
METRIC_KINDS = ("Counter", "Gauge", "Histogram", "Summary", "Info", "Enum")
LIFECYCLE = "order_service/domain/lifecycle.py"
REASONS = "reasons.py"

TOPIC_NAMES = {topic.name for topic in TOPICS}
# `orders` is also a path, a database and an English word: as a topic it is only known by what is done with it.
UNMISTAKABLE_TOPICS = {name for name in TOPIC_NAMES if "-" in name or name.endswith(DLQ_SUFFIX)}
BUS_CALLS = ("send", "subscribe", "produce", "tail", "read", "latest")

# What a number may count. One of these is a word of its setting's name.
UNITS = {
    *("ns", "us", "ms", "s", "port", "max", "min", "bytes", "usd", "micros", "percent", "ppm", "seed"),
    *("ticks", "rows", "symbols", "loops", "sessions", "messages", "concurrency", "shards", "partitions"),
    *("hours", "days"),
}

STATUSES = {"PENDING", "HELD", "PLACED", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED", "FAILED"}
# The others are also FIX's words for what the exchange says, and as such they are in the contracts.
OURS_ALONE = {"PENDING", "HELD", "PLACED", "FAILED"}
A_TABLE = 3


def topics_are_named_once(source: Source) -> Iterator[str]:
    if source.path == CONTRACTS:
        return
    for text in texts(source):
        if text.value in UNMISTAKABLE_TOPICS:
            yield source.at(text.lineno, f"spells the topic {text.value!r}; its name is a constant in {CONTRACTS}")
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BUS_CALLS:
            for value in _spelled(node.args[:1]):
                if value in TOPIC_NAMES - UNMISTAKABLE_TOPICS:
                    yield source.at(node.lineno, f"spells the topic {value!r}; its name is a constant in {CONTRACTS}")


def metrics_are_declared_once(source: Source) -> Iterator[str]:
    """In one file, each with a unit in its name and a sentence."""
    known = source.names
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        kind = known.of(node.func).removeprefix("prometheus_client.")
        if not known.of(node.func).startswith("prometheus_client") or kind not in METRIC_KINDS:
            continue
        if source.path != TELEMETRY:
            yield source.at(node.lineno, f"makes a {kind}; metrics are declared in {TELEMETRY}")
        words = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if len(words) < 2 or not words[1].endswith("."):
            yield source.at(node.lineno, "a metric needs its name and a sentence")
        elif kind == "Counter" and not words[0].endswith("_total"):
            yield source.at(node.lineno, f"the counter {words[0]} does not end in _total")
        elif kind == "Histogram" and not words[0].endswith(("_seconds", "_bytes")):
            yield source.at(node.lineno, f"the histogram {words[0]} has no unit in its name")


def settings_are_explained(source: Source) -> Iterator[str]:
    """Each with a sentence, and its unit in its name where it is a number."""
    for name, kind, call in _settings(source):
        doc = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "doc")]
        sentence = doc[0].value if doc and isinstance(doc[0], ast.Constant) else None
        if not (isinstance(sentence, str) and sentence.endswith(".")):
            yield source.at(call.lineno, f"the setting {name} needs a sentence")
        if kind in ("int", "float") and not UNITS & set(name.split("_")):
            yield source.at(call.lineno, f"the setting {name} has no unit in its name")


def settings_are_declared_once(found: Iterable[Source]) -> Iterator[str]:
    """A variable that two processes read is one field of one class that both contain."""
    places: dict[str, list[str]] = defaultdict(list)
    for source in found:
        for name, _, call in _settings(source):
            places[name].append(f"{source.path}:{call.lineno}")
    yield from (f"the setting {name} is declared at {' and '.join(at)}" for name, at in places.items() if len(at) > 1)


def codes_are_declared_in_reasons(source: Source) -> Iterator[str]:
    """A refusal names its code by the constant of a reasons file."""
    if source.path.endswith(REASONS):
        return
    known = source.names
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = known.of(node.func)
        if called == "infra.refusal.Refusal" and node.args and isinstance(node.args[0], ast.Constant):
            yield source.at(node.lineno, f"spells the code {node.args[0].value!r}; codes are declared in {REASONS}")
        elif called.endswith("reasons.Code"):
            yield source.at(node.lineno, f"declares a code; codes are declared in {REASONS}")


def codes_are_declared_once(found: Iterable[Source]) -> Iterator[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for source in found:
        if not source.path.endswith(REASONS):
            continue
        for node in source.nodes:
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Code":
                for value in _spelled(node.args[:1]):
                    places[value].append(f"{source.path}:{node.lineno}")
    yield from (f"the code {code} is declared at {' and '.join(at)}" for code, at in places.items() if len(at) > 1)


def states_have_one_table(source: Source) -> Iterator[str]:
    """A list of order states outside the lifecycle is a second table, and two tables differ one day."""
    if source.path == LIFECYCLE or source.path.startswith("infra/migrations/"):
        return
    seen: set[int] = set()
    for node in source.nodes:
        found = {value for value in _listed(node) if value in STATUSES}
        if len(found) >= A_TABLE and found & OURS_ALONE and node.lineno not in seen:  # type: ignore[attr-defined]
            seen.add(node.lineno)  # type: ignore[attr-defined]
            yield source.at(node.lineno, f"lists order states ({', '.join(sorted(found))})")  # type: ignore[attr-defined]
    for text in texts(source):
        found = STATUSES & set(re.findall(r"'([A-Z_]+)'", str(text.value)))
        if len(found) >= A_TABLE and found & OURS_ALONE:
            yield source.at(text.lineno, f"lists order states in SQL ({', '.join(sorted(found))})")


def _settings(source: Source) -> Iterator[tuple[str, str, ast.Call]]:
    for node in source.nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        for item in node.body:
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(item.target, ast.Name)
                and isinstance(item.value, ast.Call)
                and ast.unparse(item.value.func).split(".")[-1] == "setting"
            ):
                yield item.target.id, ast.unparse(item.annotation), item.value


def _spelled(nodes: list[ast.expr]) -> Iterator[str]:
    """Strings among the arguments, also inside a list of them."""
    for node in nodes:
        inner = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else [node]
        yield from (each.value for each in inner if isinstance(each, ast.Constant) and isinstance(each.value, str))


def _listed(node: ast.AST) -> Iterator[str]:
    """The strings that a collection, a Literal, a match or the body of a class puts side by side."""
    match node:
        case ast.Dict(keys=keys, values=values):
            parts: list[ast.AST] = [part for part in [*keys, *values] if part is not None]
        case ast.Set(elts=elts) | ast.List(elts=elts) | ast.Tuple(elts=elts):
            parts = list(elts)
        case ast.Match(cases=cases):
            parts = [case.pattern for case in cases]
        case ast.ClassDef(body=body):
            parts = [item.value for item in body if isinstance(item, ast.Assign)]
            for item in body:
                if isinstance(item, ast.Assign):
                    yield from (target.id for target in item.targets if isinstance(target, ast.Name))
        case _:
            return
    for part in parts:
        yield from _strings_in(part)


def _strings_in(part: ast.AST) -> Iterator[str]:
    for inner in ast.walk(part):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
