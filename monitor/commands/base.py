"""What all commands share: the program, its exit codes, and how it says what went wrong."""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watches the margin of crypto-futures accounts live and wakes their owner before the exchange liquidates.",
)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, see config/example.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


def _address(listen: str) -> str:
    from pydantic_core import PydanticCustomError

    from monitor.config_model import host_port

    try:
        host_port(listen)
    except PydanticCustomError as exc:
        raise typer.BadParameter(f"{exc.message()}, {(exc.context or {})['hint']}") from None
    return listen


Listen = Annotated[str, typer.Option(callback=_address, help="address and port of the page")]
FAILED, USAGE, CHECK_FAILED = 1, 2, 3
FILE_WIDTH = 160
TRY, SET_UP, WATCH = "Try", "Set up", "Watch"  # the groups of the help page


def fail(code: int, problem: str, hint: str = "") -> typer.Exit:
    """An error in one line with the cause and one with what to do; raise what it returns."""
    errors.print(f"margin-monitor: {problem}")
    if hint:
        errors.print(f"hint: {hint}")
    return typer.Exit(code)


def table_console() -> Console:
    """Standard output for tables; wide where it is no terminal, for nobody says how wide a file is."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Says on a terminal that it takes a while."""
    if not errors.is_terminal:
        yield
        return
    with errors.status(text):
        yield


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


@contextlib.contextmanager
def explained(address: str = "", setting: str = "web.listen") -> Iterator[None]:
    """Turns what can go wrong outside the program into a cause, a hint and an exit code. setting: of the address."""
    from monitor.app import KeyRefusedError
    from monitor.config_errors import ConfigErrors
    from monitor.lease import StoreInUseError

    try:
        yield
    except ConfigErrors as exc:
        for error in exc.errors:
            errors.print(str(error))
        raise typer.Exit(USAGE) from None
    except KeyRefusedError as exc:
        raise fail(USAGE, str(exc), "make a read-only key, or set allow_dangerous_key: true for this account") from None
    except StoreInUseError as exc:
        raise fail(FAILED, str(exc), "stop that one, or give this one a store of its own: store.path") from None
    except OSError as exc:
        hint = f"is another one running? set {setting} to another port than {address}" if address else ""
        where = f"{exc.filename}: " if exc.filename else ""
        raise fail(FAILED, f"{where}{exc.strerror or exc}", hint) from None


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """asyncio.run; Ctrl-C where no handler took it ends quietly."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work)
