"""Run as a script, in an interpreter of its own: imports the modules named on stdin and reports what they did.

The libraries are imported first, unwatched: what they do when they are imported is not ours.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import json
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator, MutableMapping
from types import FrameType
from typing import Any

WATCHED = ("socket.", "subprocess.", "os.system", "os.fork", "os.exec", "os.posix_spawn")
WRITING = set("wax+")
FROZEN = ("<frozen os>", "<frozen _collections_abc>")
STANDARD_LIBRARY = sysconfig.get_path("stdlib")


class Watch:
    """Writes down what happens, and by which module."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.module = ""
        self.found: list[str] = []

    def note(self, what: str) -> None:
        if self.module and f"{self.module}: {what}" not in self.found:
            self.found.append(f"{self.module}: {what}")

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(WATCHED):
            self.note(event)
        elif event == "open" and isinstance(arguments[1], str) and WRITING & set(arguments[1]):
            self.note(f"writes {arguments[0]}")

    def threads(self, *arguments: Any, **named: Any) -> int:
        self.note("starts a thread")
        return _thread.start_new_thread(*arguments, **named)

    def is_ours(self, frame: FrameType | None) -> bool:
        """Whether the nearest code outside the standard library is of the watched tree."""
        while frame is not None and _is_standard(frame.f_code.co_filename):
            frame = frame.f_back
        name = frame.f_code.co_filename if frame is not None else ""
        return name.startswith(self.root) and "site-packages" not in name and name != __file__


def _is_standard(file: str) -> bool:
    return file in FROZEN or (file.startswith(STANDARD_LIBRARY) and "site-packages" not in file)


class Environment(MutableMapping[str, str]):
    """The environment, with a witness."""

    def __init__(self, real: MutableMapping[str, str], watch: Watch) -> None:
        self._real = real
        self._watch = watch

    def __getitem__(self, name: str) -> str:
        if self._watch.is_ours(sys._getframe(1)):
            self._watch.note(f"reads the environment variable {name}")
        return self._real[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)


def main() -> None:
    asked = json.load(sys.stdin)
    sys.path.insert(0, asked["root"])
    for name in asked["libraries"]:
        while name:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
                break
            name = name.rpartition(".")[0]
    watch = Watch(asked["root"])
    sys.addaudithook(watch.hook)
    setattr(os, "environ", Environment(os.environ, watch))  # noqa: B010 - a witness, not a new environment
    setattr(threading, "_start_new_thread", watch.threads)  # noqa: B010 - threads raise no audit event before 3.12
    for module in asked["modules"]:
        watch.module = module
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what happens on import
            watch.note(f"cannot be imported: {error!r}")
    watch.module = ""
    sys.stdout.write(json.dumps(watch.found) + "\n")


if __name__ == "__main__":
    main()
