"""Rule 5 and the names: files of 400 lines, functions of 70, and no name that means nothing."""

from __future__ import annotations

import pytest

from tests.shape import size_rules as rules
from tests.shape.tree import PRODUCT, Source, broken, files, sources


def test_the_tree_holds() -> None:
    assert broken(rules.tails_are_short, *PRODUCT, "tests") == []


def test_the_list_of_exceptions_only_shrinks() -> None:
    needed = {what for s in sources(*PRODUCT, "tests") for what, lines, most in rules.sizes(s) if lines > most}
    assert set(rules.EXCEPTIONS) == needed
    assert len(rules.EXCEPTIONS) == 0


@pytest.mark.parametrize("text", ["x = 1\n" * 401, "def f():\n" + "    x = 1\n" * 70])
def test_too_long_is_found(text: str) -> None:
    assert list(rules.tails_are_short(Source("infra/long.py", text)))


def test_just_long_enough_is_not() -> None:
    text = "def f():\n" + "    x = 1\n" * 69 + "y = 1\n" * 330
    assert list(rules.tails_are_short(Source("infra/long.py", text))) == []


def test_names_in_the_tree_say_something() -> None:
    assert [finding for path in files() for finding in rules.names_say_something(path)] == []


@pytest.mark.parametrize("path", ["infra/utils.py", "api/helpers/x.py", "a/order_manager.py", "common/x", "base.html"])
def test_empty_names_are_found(path: str) -> None:
    assert list(rules.names_say_something(path))


def test_names_that_only_contain_such_a_word_are_not() -> None:
    assert list(rules.names_say_something("infra/database.py")) == []
