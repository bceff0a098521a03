"""Commands that ask the running daemon over its HTTP API."""

import contextlib
import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from monitor.commands.base import CHECK_FAILED, FAILED, USAGE, WATCH, AsJson, app, fail, print_json, table_console

if TYPE_CHECKING:
    from monitor.remote import Daemon

Url = Annotated[str, typer.Option(help="where the daemon listens")]
TokenFile = Annotated[Path | None, typer.Option(help="file with the daemon's web.token, if it has one")]


def _login() -> str:
    """Under cron or in a container there may be neither a variable nor an entry for the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


Author = Annotated[
    str, typer.Option(envvar=["MARGIN_MONITOR_AUTHOR", "USER"], default_factory=_login, help="who you are; shown to the others")
]
Note = Annotated[str, typer.Option(help="why")]
DAEMON = "http://127.0.0.1:9877"
ROWS = 200  # pools in a table for people; --json has all


@contextlib.contextmanager
def asked(url: str, token_file: Path | None) -> "Iterator[Daemon]":
    from monitor.remote import AddressError, Daemon, RemoteError

    try:
        yield Daemon(url, token_file)
    except RemoteError as exc:
        raise fail(USAGE if isinstance(exc, AddressError) else FAILED, exc.problem, exc.hint) from None


@app.command(rich_help_panel=WATCH)
def status(as_json: AsJson = False, url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """How all accounts stand in the running daemon, worst first.

    Exit code 0: all is known and nothing is critical. 1: no daemon answers. 3: something is critical or worse, or not known.
    """
    from monitor import screen

    with asked(url, token_file) as daemon:
        answer = daemon.status() if as_json else daemon.worst(ROWS)
    print_json(answer) if as_json else screen.show(answer, table_console())
    if screen.alarming(answer):
        raise typer.Exit(CHECK_FAILED)


@app.command(rich_help_panel=WATCH)
def top(url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """The running daemon on one screen, worst first. q or Ctrl-C ends it; a daemon that goes away is waited for."""
    from monitor.top import top as run_top

    console = Console()
    if not (console.is_terminal and sys.stdin.isatty()):
        raise fail(USAGE, "top needs a terminal", "`margin-monitor status` prints the same once")
    with asked(url, token_file) as daemon:
        run_top(daemon, console)


@app.command(rich_help_panel=WATCH)
def alerts(as_json: AsJson = False, url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """What is open in the running daemon, worst first."""
    from monitor.remote import alert_lines

    with asked(url, token_file) as daemon:
        answer = daemon.alerts()
    print_json(answer) if as_json else typer.echo("\n".join(alert_lines(answer)))


@app.command(rich_help_panel=WATCH)
def ack(
    incident: Annotated[str, typer.Argument(metavar="ID", help="of the incident, as `alerts` and every message show it")],
    author: Author,
    note: Note = "",
    minutes: Annotated[float, typer.Option(min=0.01, max=1440, help="how long; it dies earlier when things get worse")] = 60.0,
    undo: Annotated[bool, typer.Option("--undo", help="take the acknowledgement back")] = False,
    url: Url = DAEMON,
    token_file: TokenFile = None,
) -> None:
    """Acknowledge incident ID: it is not repeated, until it gets worse or the time is over."""
    with asked(url, token_file) as daemon:
        one = daemon.unacknowledge(incident) if undo else daemon.acknowledge(incident, author, note, minutes)
    typer.echo(
        f"{one['id']}: {'repeats go on' if undo else f'acknowledged for {minutes:g} min'} ({one['level']}, {one['summary']})"
    )


@app.command(rich_help_panel=WATCH)
def silence(
    author: Author,
    venue: Annotated[str, typer.Option(help="only of this venue")] = "",
    account: Annotated[str, typer.Option(help="only of this account")] = "",
    pool: Annotated[str, typer.Option(help="only of this pool")] = "",
    rule: Annotated[str, typer.Option(help="only of this rule")] = "",
    subject: Annotated[str, typer.Option(help="only of this subject: an asset, a symbol, a stream")] = "",
    note: Note = "",
    minutes: Annotated[float, typer.Option(min=0.01, max=10080, help="how long")] = 60.0,
    url: Url = DAEMON,
    token_file: TokenFile = None,
) -> None:
    """Hold back messages about what matches all that is named. What is still true is told when the silence ends.

    Emergencies and liquidations are told all the same, and so is the end of what was told before.
    """
    from monitor.remote import matched

    parts = {"venue": venue, "account": account, "pool": pool, "rule": rule, "subject": subject}
    if not any(parts.values()):
        raise fail(USAGE, "a silence must name what it matches", "--account, --rule, --pool, --venue or --subject")
    with asked(url, token_file) as daemon:
        one = daemon.silence(parts, author, note, minutes)
    typer.echo(f"{one['id']}: {matched(one)} is silent for {minutes:g} min, {len(one['matches'])} open now")


@app.command(rich_help_panel=WATCH)
def silences(as_json: AsJson = False, url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """The silences in force."""
    from monitor.remote import silence_lines

    with asked(url, token_file) as daemon:
        answer = daemon.silences()
    print_json(answer) if as_json else typer.echo("\n".join(silence_lines(answer)))


@app.command(rich_help_panel=WATCH)
def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="of the silence, as `silences` shows it")],
    url: Url = DAEMON,
    token_file: TokenFile = None,
) -> None:
    """End silence ID now; what it held back is told at once."""
    with asked(url, token_file) as daemon:
        daemon.unsilence(silence_id)
    typer.echo(f"{silence_id}: over")
