"""What every command of `xgw` has in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from api.cli import show
from api.cli.client_http import Api


@dataclass(frozen=True, slots=True)
class Session:
    """Where the commands of one call go, and how they answer."""

    api: Api
    as_json: bool

    def print(self, answer: Any, columns: Sequence[str] | None = None) -> None:
        if self.as_json:
            typer.echo(show.as_json(answer))
        elif columns is None:
            show.console().print(show.fields(answer))
        else:
            show.console().print(show.table(show.rows_of(answer), columns))
