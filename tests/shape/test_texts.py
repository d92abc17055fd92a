"""What no file may say, and how long the papers may be."""

from __future__ import annotations

import pytest

from tests.shape import text_rules as rules
from tests.shape.tree import ROOT, files


def readable() -> list[tuple[str, str]]:
    return [
        (path, (ROOT / path).read_text(encoding="utf-8"))
        for path in files()
        if not path.endswith(rules.BINARY) and b"\0" not in (ROOT / path).read_bytes()[:4096]
    ]


def test_the_tree_names_no_machine_and_no_registry() -> None:
    assert [finding for path, text in readable() for finding in rules.no_machine_and_no_registry(path, text)] == []


def test_the_papers_are_short() -> None:
    assert [finding for path, text in readable() for finding in rules.papers_are_short(path, text)] == []


@pytest.mark.parametrize("host", rules.HOSTS)
def test_a_registry_is_found(host: str) -> None:
    assert list(rules.no_machine_and_no_registry("package-lock.json", f'"resolved": "{host}/x"'))


@pytest.mark.parametrize("folder", ["home/ada", "Users/ada", "root/x", "work/x"])
def test_a_machine_is_found(folder: str) -> None:
    assert list(rules.no_machine_and_no_registry("a.py", f'PATH = "/{folder}"'))


@pytest.mark.parametrize("text", ["/usr/bin/sh", "chroot/root/x", "{dir}/home/x", "GET /orders", "/tmp/x", "./work/x"])
def test_other_paths_are_not(text: str) -> None:
    assert list(rules.no_machine_and_no_registry("a.py", text)) == []


def test_the_licence_may_name_its_home() -> None:
    assert list(rules.no_machine_and_no_registry("LICENSE", rules.HOSTS[0])) == []


@pytest.mark.parametrize(("path", "lines"), [("ARCHITECTURE.md", 151), ("docs/adr/0001-x.md", 41)])
def test_a_long_paper_is_found(path: str, lines: int) -> None:
    assert list(rules.papers_are_short(path, "x\n" * lines))
    assert list(rules.papers_are_short(path, "x\n" * (lines - 1))) == []
