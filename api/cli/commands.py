"""The commands of `xgw`. Exit codes: 0 done, 1 the api refused or what was looked for is wrong, 2 the api cannot be
reached or the command is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer
from rich.live import Live

from api.cli import operators, show
from api.cli.client_http import Api, Refused, Unreachable
from api.cli.session import Session
from api.settings import CliSettings
from infra.clock import Ids, SystemClock
from infra.settings import SettingsError, load

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 2

Connect = Callable[[str, str], Api]
Symbols = Annotated[list[str], typer.Argument(metavar="SYMBOL...", help="One or more symbols, for example AAPL.")]
Quantity = Annotated[int, typer.Argument(metavar="QTY", help="Whole shares.")]
Limit = Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="Limit price per share; else MARKET.")]
Tif = Annotated[str, typer.Option("--tif", help="DAY, GTC, IOC or FOK.")]
Key = Annotated[str | None, typer.Option("--key", help="Idempotency-Key: a repeat with the same key is one order.")]
EventsMax = Annotated[int, typer.Option("--events-max", help="Stop after so many events; 0 never.")]

cli = typer.Typer(
    name="xgw",
    help="Prices and orders at the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
orders = typer.Typer(help="Your orders; for operators, whether they are what their events say.")
cli.add_typer(orders, name="orders", invoke_without_command=True)
operators.add_to(cli)

JSON = "--json"


def run(argv: Sequence[str], environ: Mapping[str, str], connect: Connect = Api) -> int:
    """Run one command and say how it ended. `--json` may stand anywhere."""
    words = [JSON] * (JSON in argv) + [word for word in argv if word != JSON]
    try:
        cli(words, prog_name="xgw", obj=(load(CliSettings, environ), connect))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except Refused as error:
        return _complain(f"{error.detail} {error.fix or ''}".strip(), f"[{error.code}]", EXIT_REFUSED)
    except Unreachable as error:
        return _complain(str(error), "Is the system up? `make status` shows it.", EXIT_UNREACHABLE)
    except SettingsError as error:
        return _complain(str(error), "", EXIT_UNREACHABLE)
    return 0


@cli.callback()
def session(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="Address of the api (XGW_API_URL).")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token (XGW_TOKEN).")] = None,
    as_json: Annotated[bool, typer.Option(JSON, help="Print JSON, one document a line.")] = False,
) -> None:
    defaults, connect = context.obj
    api = connect(url or defaults.api_url, token or defaults.token)
    context.call_on_close(api.close)
    context.obj = Session(api, as_json)


@cli.command()
def quote(context: typer.Context, symbols: Symbols) -> None:
    """The latest quote of each symbol."""
    here: Session = context.obj
    found = [row for symbol in symbols for row in show.rows_of(here.api.get("/stockPrices", symbol=symbol))]
    here.print(found, show.QUOTE_COLUMNS)


@cli.command()
def watch(context: typer.Context, symbols: Symbols, events_max: EventsMax = 0) -> None:
    """Quotes as they change, until Ctrl-C."""
    here: Session = context.obj
    rows = _quotes(here.api, symbols, events_max)
    terminal = show.console()
    if here.as_json or not terminal.is_terminal:
        for changed in rows:
            for row in changed:
                here.print(row) if here.as_json else typer.echo(_line(row))
        return
    newest: dict[str, Mapping[str, Any]] = {}
    with Live(console=terminal, auto_refresh=False) as live:
        for changed in rows:
            newest.update((str(row.get("symbol")), row) for row in changed)
            live.update(show.table([newest[name] for name in sorted(newest)], show.QUOTE_COLUMNS), refresh=True)


@cli.command()
def buy(
    context: typer.Context, symbol: str, quantity: Quantity, limit: Limit = None, tif: Tif = "DAY", key: Key = None
) -> None:
    """Buy shares: at a limit price, or at the market's."""
    _place(context.obj, "buy", symbol, quantity, limit, tif, key)


@cli.command()
def sell(
    context: typer.Context, symbol: str, quantity: Quantity, limit: Limit = None, tif: Tif = "DAY", key: Key = None
) -> None:
    """Sell shares: at a limit price, or at the market's."""
    _place(context.obj, "sell", symbol, quantity, limit, tif, key)


@orders.callback()
def list_orders(
    context: typer.Context, symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None
) -> None:
    """Your orders; for operators, whether they are what their events say."""
    if context.invoked_subcommand is None:
        here: Session = context.obj
        here.print(here.api.get("/orders", symbol=symbol), show.ORDER_COLUMNS)


@orders.command()
def rebuild(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only compare; this is all that there is.")] = False,
) -> None:
    """Rebuild every order from its events and show where the stored one differs; exit code 1 if any does."""
    if not check:
        raise typer.BadParameter("an order is never overwritten; say --check to compare", param_hint="--check")
    here: Session = context.obj
    found = here.api.get("/ops/orders/rebuild", timeout_s=operators.LONG_TIMEOUT_S, check="true")
    here.print(found if here.as_json else found["differences"], show.DIFFERENCE_COLUMNS)
    if found["differences"]:
        raise typer.Exit(EXIT_REFUSED)


@cli.command()
def order(context: typer.Context, order_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """One order, every field."""
    here: Session = context.obj
    here.print(here.api.get(f"/orders/{order_id}"))


@cli.command()
def cancel(context: typer.Context, order_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Ask the exchange to cancel an order."""
    here: Session = context.obj
    here.print(here.api.delete(f"/orders/{order_id}"))


@cli.command()
def replace(
    context: typer.Context,
    order_id: Annotated[str, typer.Argument(metavar="ID")],
    quantity: Annotated[int | None, typer.Option("--quantity", help="Whole shares, those traded included.")] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="PRICE", help="Limit price per share.")] = None,
) -> None:
    """Ask the exchange to change an order's quantity, its limit price, or both."""
    body: dict[str, Any] = {} if quantity is None else {"quantity": quantity}
    if limit is not None:
        body["amount"] = _price(limit)
    if not body:
        raise typer.BadParameter("nothing to change", param_hint="--quantity or --limit")
    here: Session = context.obj
    here.print(here.api.patch(f"/orders/{order_id}", body))


def _place(here: Session, side: str, symbol: str, quantity: int, limit: str | None, tif: str, key: str | None) -> None:
    body: dict[str, Any] = {
        "orderType": side,
        "type": "MARKET" if limit is None else "LIMIT",
        "symbol": symbol.upper(),
        "quantity": quantity,
        "timeInForce": tif.upper(),
    }
    if limit is not None:
        body["amount"] = _price(limit)
    key = key or Ids(SystemClock()).uuid7().hex
    try:
        here.print(here.api.post("/orders", body, key))
    except Unreachable as error:
        if not error.may_have_happened:
            raise
        # With the same key a repeat is the same order, whether the first one was stored or not.
        text = f"{error} The order may be stored all the same; the same command with --key {key} is safe."
        raise Unreachable(text, may_have_happened=True) from error


def _price(text: str) -> str:
    """A price goes out digit for digit as it was typed."""
    try:
        if Decimal(text).is_finite():
            return text
    except InvalidOperation:
        pass
    raise typer.BadParameter(f"{text} is not a price", param_hint="--limit")


def _quotes(api: Api, symbols: Sequence[str], events_max: int) -> Iterator[list[Mapping[str, Any]]]:
    wanted = ",".join(symbol.upper() for symbol in symbols)
    for number, event in enumerate(api.stream("/stockPrices/stream", symbols=wanted), start=1):
        yield [row for row in show.rows_of(event.data) if "symbol" in row]
        if number == events_max:
            return


def _line(row: Mapping[str, Any]) -> str:
    return "  ".join(show.cell(row.get(name)) for name in show.QUOTE_COLUMNS)


def _complain(text: str, more: str, code: int) -> int:
    typer.echo(f"{text} {more}".rstrip(), err=True)
    return code
