"""Commands for operators: dead letters, kill switches, breaks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from api.cli import show
from api.cli.session import Session

# Longer than the longest replay that the api does in one request.
LONG_TIMEOUT_S = 60.0
TEXT_CHARACTERS_MAX = 80
# A letter that somebody replayed or discarded before is no failure of this replay.
SETTLED = ("replayed", "not_parked")
EXIT_NOT_ALL = 1

dlq = typer.Typer(help="Dead letters: what could not be handled, why, and what to do about it.", no_args_is_help=True)
kill = typer.Typer(help="Kill switches: stop trading, or let it go on.", no_args_is_help=True)
breaks = typer.Typer(help="Differences between our books and the exchange's.", no_args_is_help=True)


class Mode(StrEnum):
    """`normal` lifts a switch."""

    CANCEL_ONLY = "cancel_only"
    REDUCE_ONLY = "reduce_only"
    NORMAL = "normal"


LetterId = Annotated[str, typer.Argument(metavar="ID")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is logged with your name.")]
How = Annotated[Mode, typer.Option("--mode", help="What still goes through; normal lifts the switch.")]
Topic = Annotated[str | None, typer.Option(help="Only those of this topic.")]
Code = Annotated[str | None, typer.Option(help="Only those with this code.")]
Cursor = Annotated[str | None, typer.Option(help="Where the page before ended.")]


def add_to(cli: typer.Typer) -> None:
    for name, commands in (("dlq", dlq), ("kill", kill), ("breaks", breaks)):
        cli.add_typer(commands, name=name)


@dlq.command("ls")
def dlq_ls(
    context: typer.Context,
    topic: Topic = None,
    code: Code = None,
    state: Annotated[str | None, typer.Option(help="parked, replayed or discarded.")] = None,
    order: Annotated[str | None, typer.Option(help="Only those of this order.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.")] = 100,
    cursor: Cursor = None,
) -> None:
    """Dead letters, newest first."""
    here: Session = context.obj
    found = here.api.get(
        "/ops/dlq", topic=topic, code=code, state=state, orderId=order, limit=str(limit), cursor=cursor
    )
    if here.as_json:
        here.print(found)
        return
    here.print(
        [row | {"text": str(row["text"])[:TEXT_CHARACTERS_MAX]} for row in found["letters"]], show.LETTER_COLUMNS
    )
    _more(found)


@dlq.command("show")
def dlq_show(context: typer.Context, letter_id: LetterId) -> None:
    """One dead letter with its record."""
    here: Session = context.obj
    letter = here.api.get(f"/ops/dlq/{letter_id}")
    if not here.as_json:
        letter |= {name: _readable(letter[name]) for name in ("key", "value") if letter[name] is not None}
        letter["headers"] = {header["name"]: _readable(header) for header in letter["headers"]}
    here.print(letter)


@dlq.command("replay")
def dlq_replay(
    context: typer.Context,
    reason: Why,
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    topic: Topic = None,
    code: Code = None,
    rate: Annotated[int, typer.Option(help="So many a second at most.")] = 100,
) -> None:
    """Send dead letters back to their topic: these, or all that are parked of a topic with a code. Exit code 1 when one
    of them could not be sent."""
    named = {"ids": letter_ids or None, "topic": topic, "code": code}
    body = {name: value for name, value in named.items() if value is not None}
    here: Session = context.obj
    done = here.api.post("/ops/dlq/replays", body | {"ratePerS": rate, "reason": reason}, timeout_s=LONG_TIMEOUT_S)
    here.print(done if here.as_json else done["results"], show.REPLAY_COLUMNS)
    if done["more"] and not here.as_json:
        typer.echo("Others are still parked; the same command sends the next ones.", err=True)
    if any(result["outcome"] not in SETTLED for result in done["results"]):
        raise typer.Exit(EXIT_NOT_ALL)


@dlq.command("discard")
def dlq_discard(context: typer.Context, letter_id: LetterId, reason: Why) -> None:
    """Let a dead letter be. It is kept and can be restored."""
    here: Session = context.obj
    here.print(here.api.post(f"/ops/dlq/{letter_id}/discard", {"reason": reason}))


@dlq.command("restore")
def dlq_restore(context: typer.Context, letter_id: LetterId, reason: Why) -> None:
    """Take a discard back."""
    here: Session = context.obj
    here.print(here.api.post(f"/ops/dlq/{letter_id}/restore", {"reason": reason}))


@kill.command("ls")
def kill_ls(context: typer.Context) -> None:
    """The last word on every scope."""
    here: Session = context.obj
    here.print(here.api.get("/ops/switches"), show.SWITCH_COLUMNS)


@kill.command("global")
def kill_global(context: typer.Context, mode: How, reason: Why) -> None:
    """For every order."""
    _switch(context, "global", mode, reason)


@kill.command("symbol")
def kill_symbol(context: typer.Context, symbol: str, mode: How, reason: Why) -> None:
    """For the orders of one symbol."""
    _switch(context, f"symbol:{symbol.upper()}", mode, reason)


@kill.command("account")
def kill_account(context: typer.Context, account: int, mode: How, reason: Why) -> None:
    """For the orders of one account."""
    _switch(context, f"account:{account}", mode, reason)


@breaks.command("ls")
def breaks_ls(context: typer.Context, cursor: Cursor = None) -> None:
    """Breaks with both sides and what would mend them."""
    here: Session = context.obj
    found = here.api.get("/ops/breaks", cursor=cursor)
    here.print(found if here.as_json else found["breaks"], show.BREAK_COLUMNS)
    if not here.as_json:
        _more(found)


def _switch(context: typer.Context, scope: str, mode: Mode, reason: str) -> None:
    here: Session = context.obj
    here.print(here.api.put(f"/ops/switches/{quote(scope, safe=':')}", {"mode": mode.value, "reason": reason}))


def _more(page: Mapping[str, Any]) -> None:
    if page.get("next"):
        typer.echo(f"There are more: --cursor {page['next']}", err=True)


def _readable(shown: Mapping[str, Any]) -> str:
    text = shown["text"] if shown["text"] is not None else f"base64 {shown['base64']}"
    return f"{text} … ({shown['bytes']} bytes)" if shown["cut"] else str(text)
