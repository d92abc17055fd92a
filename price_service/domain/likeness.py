"""When a symbol matches what was typed, and how well. Pure; the store does the same with PostgreSQL's pg_trgm.

Trigrams as there: of each word in lower case with two spaces before and one after it, every three letters.
"""

from __future__ import annotations

import re
from itertools import combinations

# The better rank comes first: exactly this symbol; it begins so; each word typed begins a word of the name; the name
# contains what was typed (from three characters on: less is in half of all names); symbol or name are only like it.
RANKS = EXACT, BEGINS, WORDS, CONTAINS, LIKE = range(5)
CONTAINED_CHARACTERS_MIN = 3
WORDS_MAX = 8
# The share of common trigrams from which a symbol, or a part of a name, is like what was typed. "APPL" is still like
# AAPL, and "micorsoft" like Microsoft Corporation.
SYMBOL_LIKENESS_MIN = 0.25
NAME_LIKENESS_MIN = 0.42

_WORD = re.compile(r"[^\W_]+")


def rank(typed: str, symbol: str, name: str) -> int | None:
    """`typed` is in capitals. None where nothing matches."""
    known = name.upper()
    if symbol == typed:
        return EXACT
    if symbol.startswith(typed):
        return BEGINS
    if all(f" {known}".find(f" {word}") >= 0 for word in words(typed)):
        return WORDS
    if len(typed) >= CONTAINED_CHARACTERS_MIN and typed in known:
        return CONTAINS
    likely = likeness(typed, symbol) >= SYMBOL_LIKENESS_MIN or word_likeness(typed, known) >= NAME_LIKENESS_MIN
    return LIKE if likely else None


def words(typed: str) -> list[str]:
    """The words that each must begin a word of the name: what spaces divide."""
    return typed.split()[:WORDS_MAX]


def likeness(one: str, other: str) -> float:
    """Common trigrams of both among all of them, 0 to 1."""
    return _common(set(_trigrams(one)), set(_trigrams(other)))


def word_likeness(typed: str, known: str) -> float:
    """Of what was typed and the likest stretch of a word of `known`, 0 to 1."""
    mine, best = set(_trigrams(typed)), 0.0
    for word in _WORD.findall(known):
        its = _trigrams(word)
        for start, end in combinations(range(len(its) + 1), 2):
            best = max(best, _common(mine, set(its[start:end])))
    return best


def _common(mine: set[str], its: set[str]) -> float:
    return len(mine & its) / len(mine | its) if mine and its else 0.0


def _trigrams(text: str) -> list[str]:
    padded = [f"  {word} " for word in _WORD.findall(text.lower())]
    return [word[at : at + 3] for word in padded for at in range(len(word) - 2)]
