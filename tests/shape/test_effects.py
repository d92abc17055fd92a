"""Rules 3, 4 and the second half of 8: nothing at import, time and chance in one place, no commit after the answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shape import effect_rules as rules
from tests.shape.tree import PRODUCT, ROOT, Rule, Source, broken, imported, sources

RULES = [
    rules.importing_opens_nothing,
    rules.the_environment_is_read_at_the_entrance,
    rules.time_and_chance_come_from_the_clock,
    rules.no_dependency_commits_after_the_answer,
]
GUARD = Path(__file__).with_name("import_guard.py")
# Alembic runs these as scripts, with its own context; nobody imports them.
SCRIPTS = ("env.py",)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_holds(rule: Rule) -> None:
    assert broken(rule) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (rules.importing_opens_nothing, "import os\nHOST = os.environ['HOST']"),
        (rules.importing_opens_nothing, "from os import getenv\nHOST = getenv('HOST')"),
        (rules.importing_opens_nothing, "from sqlalchemy import create_engine\nengine = create_engine('x')"),
        (rules.importing_opens_nothing, "import redis\nclass A:\n    cache = redis.Redis()"),
        (rules.importing_opens_nothing, "import threading\nthreading.Thread(target=print).start()"),
        (rules.importing_opens_nothing, "from pathlib import Path\nTEXT = Path('a').read_text()"),
        (rules.importing_opens_nothing, "import httpx\ndef f(client=httpx.AsyncClient()): ..."),
        (rules.importing_opens_nothing, "DATA = open('file').read()"),
        (rules.importing_opens_nothing, "try:\n    import socket\n    S = socket.socket()\nexcept OSError: ..."),
        (rules.the_environment_is_read_at_the_entrance, "import os\ndef f():\n    return os.environ['A']"),
        (rules.the_environment_is_read_at_the_entrance, "from os import environ as e\ndef f():\n    return e.get('A')"),
        (rules.time_and_chance_come_from_the_clock, "import time\ndef f(): return time.time_ns()"),
        (rules.time_and_chance_come_from_the_clock, "import time\ndef f(clock=time.monotonic): ..."),
        (rules.time_and_chance_come_from_the_clock, "from uuid import uuid4\ndef f(): return uuid4()"),
        (rules.time_and_chance_come_from_the_clock, "from datetime import UTC, datetime\ndef f(): datetime.now(UTC)"),
        (rules.time_and_chance_come_from_the_clock, "import datetime as d\ndef f(): return d.date.today()"),
        (rules.time_and_chance_come_from_the_clock, "import random\ndef f(): return random.random()"),
        (rules.time_and_chance_come_from_the_clock, "import secrets\ndef f(): return secrets.token_hex()"),
        (rules.time_and_chance_come_from_the_clock, "import numpy as np\ndef f(): return np.random.default_rng()"),
        (
            rules.no_dependency_commits_after_the_answer,
            "async def session():\n    async with factory() as s:\n        yield s\n        await s.commit()",
        ),
    ],
)
def test_a_wrong_effect_is_found(rule: Rule, text: str) -> None:
    assert list(rule(Source("order_service/placing/place.py", text)))


@pytest.mark.parametrize(
    "text",
    [
        "import os\nif __name__ == '__main__':\n    print(os.environ)",
        "import structlog\nlog = structlog.get_logger(__name__)",
        "import re\nWORD = re.compile('x')",
        "import random\ndef f(chance: random.Random) -> None: ...",
        "import numpy as np\ndef f(seed): return np.random.default_rng(seed)",
        "from uuid import UUID, uuid5\ndef f(x): return uuid5(UUID(x), 'derived')",
        "def save(store):\n    store.commit()",
        "import contextlib\n@contextlib.contextmanager\ndef unit(s):\n    yield s\n    s.commit()",
    ],
)
def test_a_right_effect_is_not(text: str) -> None:
    assert [finding for rule in RULES for finding in rule(Source("order_service/placing/place.py", text))] == []


# -- the same, observed ------------------------------------------------------------------------------------------------


def observed(root: Path, modules: list[str], libraries: list[str]) -> list[str]:
    """What the modules do while they are imported in a fresh interpreter."""
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(root)}
    asked = json.dumps({"root": str(root), "modules": modules, "libraries": libraries})
    command = [sys.executable, str(GUARD)]
    done = subprocess.run(
        command, check=False, input=asked, cwd=root, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_every_module_does_nothing() -> None:
    found = [s for s in sources(*PRODUCT) if not s.path.endswith(SCRIPTS) and "/versions/" not in s.path]
    modules = [s.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for s in found]
    libraries = sorted({name for s in found for _, name in imported(s) if name.split(".")[0] not in PRODUCT})
    assert observed(ROOT, modules, libraries) == []


def test_a_module_that_acts_when_imported_is_caught(tmp_path: Path) -> None:
    acts = {
        "a_socket": "import socket\ns = socket.socket()\ns.close()",
        "a_thread": "import threading\nthreading.Thread(target=print).start()",
        "an_environment": "import os\nx = os.getenv('HOME')",
        "an_environ": "from os import environ\nx = environ.get('HOME')",
        "a_process": "import subprocess\nsubprocess.run(['true'])",
        "a_file": "open('written', 'w').close()",
        "broken": "raise RuntimeError('no')",
        "quiet": "import os, socket, threading\nx = 1",
    }
    for name, text in acts.items():
        (tmp_path / f"{name}.py").write_text(text)
    found = observed(tmp_path, list(acts), ["subprocess"])
    assert {finding.split(":")[0] for finding in found} == acts.keys() - {"quiet"}
