"""Which doors this process opens: the read-heavy side scales without the write side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Door = Literal["prices", "orders", "ops"]
DOORS: tuple[Door, ...] = get_args(Door)


class UnknownRole(ValueError):
    """A role that this process does not have."""


def parse(text: str) -> tuple[Door, ...]:
    """`prices,ops` in declared order; `all` is every one."""
    asked = {word.strip() for word in text.split(",") if word.strip()}
    if asked == {"all"}:
        return DOORS
    unknown = sorted(asked - set(DOORS))
    if unknown or not asked:
        raise UnknownRole(f"{', '.join(unknown) or 'nothing'} is not a role of the api; roles are {', '.join(DOORS)}")
    return tuple(door for door in DOORS if door in asked)


def from_arguments(arguments: Sequence[str]) -> tuple[Door, ...]:
    """`--roles prices,orders`, default all."""
    match list(arguments):
        case []:
            return DOORS
        case ["--roles", text]:
            return parse(text)
        case [word] if word.startswith("--roles="):
            return parse(word.removeprefix("--roles="))
        case other:
            raise UnknownRole(f"the only option is --roles {','.join(DOORS)}, not {' '.join(other)}")
