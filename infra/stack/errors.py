"""The one error of this package: its text says what is wrong and what to do, and the command ends with it."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked; the message names what to do."""
