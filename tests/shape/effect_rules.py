"""What code may do when: nothing at import, time and chance in one place, the commit before the answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.shape.tree import Names, Source

# What opens something. A call of one of these while a module is imported is one too many.
OPENERS = (
    "open",
    "os.getenv",
    "os.environ",
    "threading.",
    "multiprocessing.",
    "concurrent.futures.",
    "subprocess.",
    "socket.",
    "asyncio.run",
    "asyncio.new_event_loop",
    "asyncio.get_event_loop",
    "sqlalchemy.create_engine",
    "sqlalchemy.ext.asyncio.create_async_engine",
    "psycopg.",
    "redis.",
    "httpx.Client",
    "httpx.AsyncClient",
    "httpx.get",
    "confluent_kafka.",
    "uvicorn.",
    "infra.db.engine",
    "infra.bus_kafka.",
)
OPENING_METHODS = ("connect", "start", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "from_url")

# Where a process begins, and where it may therefore look at its environment.
ENTRANCES = ("api/cli/__init__.py",)

CLOCK = "infra/clock.py"
# The local stack starts servers and waits for them; it is not part of a run that a seed replays.
CLOCK_FREE = (CLOCK, "infra/stack/", "infra/migrations/")
CLOCKS = (
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    *("time.sleep", "time.localtime", "time.gmtime", "time.process_time"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    *("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "os.urandom"),
)
CHANCE = ("random.", "secrets.", "numpy.random.")
# A key that a seed could replay would be no key.
KEY_MAKERS = ("api/demo.py", "api/auth/tickets.py")


def importing_opens_nothing(source: Source) -> Iterator[str]:
    """At module level: no connection, no thread, no file, no environment."""
    known = source.names
    for node in _at_import(source.tree):
        name = known.of(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Attribute | ast.Name) and known.of(node) == "os.environ":
            yield source.at(node.lineno, "reads the environment when it is imported")
        elif isinstance(node, ast.Call) and name and _is_one_of(name, OPENERS):
            yield source.at(node.lineno, f"calls {name} when it is imported")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OPENING_METHODS:
            yield source.at(node.lineno, f"calls .{node.func.attr}() when it is imported")


def the_environment_is_read_at_the_entrance(source: Source) -> Iterator[str]:
    """Settings are made in `__main__`, or under `if __name__ == "__main__"`, and passed down."""
    if source.stem == "__main__" or source.path in ENTRANCES or source.path.startswith(("infra/stack/", "tests/")):
        return
    known = source.names
    entrance = {id(inner) for node in source.tree.body if _is_main_block(node) for inner in ast.walk(node)}
    for node in source.nodes:
        if id(node) in entrance or not isinstance(node, ast.Attribute | ast.Name):
            continue
        if known.of(node) in ("os.environ", "os.getenv"):
            yield source.at(node.lineno, "reads the environment outside __main__")


def time_and_chance_come_from_the_clock(source: Source) -> Iterator[str]:
    """Only `infra/clock.py` asks the machine for time, ids and randomness, so that a seed replays a run."""
    if source.path.startswith(CLOCK_FREE):
        return
    known = source.names
    for node in source.nodes:
        if isinstance(node, ast.Attribute | ast.Name) and known.of(node) in CLOCKS:
            yield source.at(node.lineno, f"uses {known.of(node)}; time and ids come from {CLOCK}")
        elif isinstance(node, ast.Call) and known.of(node.func).startswith(CHANCE) and not _is_seeded(node, known):
            if source.path in KEY_MAKERS and known.of(node.func).startswith("secrets."):
                continue
            yield source.at(node.lineno, f"calls {known.of(node.func)}; randomness comes from {CLOCK}")


def no_dependency_commits_after_the_answer(source: Source) -> Iterator[str]:
    """FastAPI runs what follows the `yield` of a dependency after the answer has left: a commit there fails unseen."""
    for node in source.nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_context_manager(node):
            continue
        yields = [inner.lineno for inner in _own(node) if isinstance(inner, ast.Yield)]
        for inner in _own(node):
            if (
                isinstance(inner, ast.Call)
                and isinstance(inner.func, ast.Attribute)
                and inner.func.attr == "commit"
                and any(line < inner.lineno for line in yields)
            ):
                yield source.at(inner.lineno, f"{node.name} commits after its yield")


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported."""
    waiting: list[ast.AST] = [node for node in tree.body if not _is_main_block(node) and not _is_typing_block(node)]
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [default for default in node.args.kw_defaults if default is not None]
            waiting += [*node.decorator_list, *node.args.defaults, *defaults]
        elif isinstance(node, ast.Lambda):
            waiting += node.args.defaults
        elif isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value else []
        else:
            waiting += ast.iter_child_nodes(node)


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _is_one_of(name: str, forbidden: tuple[str, ...]) -> bool:
    return any(name == word or (word.endswith(".") and name.startswith(word)) for word in forbidden)


def _is_seeded(call: ast.Call, known: Names) -> bool:
    """A generator of numpy made from a given seed repeats itself."""
    return known.of(call.func) == "numpy.random.default_rng" and bool(call.args or call.keywords)


def _is_context_manager(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("contextmanager" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _is_typing_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
