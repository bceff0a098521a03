"""The command line: each command is a few lines that call the part that does the work.

Exit codes: 0 ok, 1 failure while running, 2 wrong usage or configuration, 3 a check failed. An error is a line with the cause and
one with a hint, never a traceback.
"""

import asyncio
import contextlib
import platform
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from monitor import __version__

if TYPE_CHECKING:
    from monitor.remote import Daemon

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Watches the margin of crypto-futures accounts live and wakes their owner before the exchange liquidates.",
)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, see config/example.yaml")]
FAILED, USAGE = 1, 2


def main() -> None:
    """Entry point of the script `margin-monitor`."""
    app()


def _fail(code: int, problem: str, hint: str = "") -> typer.Exit:
    errors.print(f"margin-monitor: {problem}")
    if hint:
        errors.print(f"hint: {hint}")
    return typer.Exit(code)


def _json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


@contextlib.contextmanager
def _explained(address: str = "") -> Iterator[None]:
    """Turns what can go wrong outside the program into a cause, a hint and an exit code."""
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
        raise _fail(FAILED, str(exc), "make a read-only key, or set allow_dangerous_key: true for this account") from None
    except StoreInUseError as exc:
        raise _fail(FAILED, str(exc), "stop that one, or give this one a store of its own: store.path") from None
    except OSError as exc:
        hint = f"is another one running? set web.listen to another port than {address}" if address else ""
        raise _fail(FAILED, exc.strerror or str(exc), hint) from None


def _run(work: Coroutine[Any, Any, None]) -> None:
    """asyncio.run; Ctrl-C where no handler took it ends quietly."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work)


@app.command()
def run(config: ConfigFile) -> None:
    """Watch the accounts of CONFIG until stopped. TERM and INT end it, HUP loads CONFIG again."""
    from monitor.app import run_until_signalled
    from monitor.config import load
    from monitor.log import configure, register_secret

    def prepared() -> Any:
        settings = load(config)
        for secret in settings.secrets():
            register_secret(secret)
        configure(settings.log.level, settings.log.format)
        return settings

    with _explained():
        settings = prepared()
    with _explained(settings.web.listen):
        _run(run_until_signalled(settings, prepared))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=0, help="end by itself after so many seconds")] = None,
    scenario: Annotated[str, typer.Option(help="calm, crash, depeg or slow_bleed")] = "crash",
    listen: Annotated[str, typer.Option(help="address and port of the page")] = "127.0.0.1:9877",
) -> None:
    """The job at work, without keys or network: a simulated exchange, the monitor, a live table and the page."""
    from monitor.demo import demo as run_demo
    from monitor.log import configure
    from monitor.sim.scenarios import scenario_named

    try:
        scenario_named(scenario)
    except ValueError as exc:
        raise _fail(USAGE, str(exc)) from None
    configure("error", "auto")
    with _explained(listen):
        _run(run_demo(scenario, seconds, listen=listen))


@app.command()
def sim(
    host: Annotated[str, typer.Option(help="address to listen on; it is for loopback")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one; the first line printed names it")] = 0,
    scenario: Annotated[str, typer.Option(help="calm, crash, depeg or slow_bleed")] = "calm",
    seed: Annotated[int, typer.Option(help="the same seed gives the same market")] = 7,
    seconds: Annotated[float | None, typer.Option(min=0, help="end by itself after so many seconds")] = None,
    symbols: Annotated[int, typer.Option(min=0, help="pad the universe to so many contracts")] = 0,
    tick_seconds: Annotated[float, typer.Option(min=0.001, help="real seconds per simulated second")] = 1.0,
) -> None:
    """The simulated exchange by itself. Its first line is JSON and says how to connect."""
    from monitor.sim.exchange import serve
    from monitor.sim.scenarios import scenario_named

    try:
        scenario_named(scenario)
    except ValueError as exc:
        raise _fail(USAGE, str(exc)) from None
    with _explained():
        _run(serve(port, scenario, seed, seconds, host=host, symbols=symbols, tick_seconds=tick_seconds))


@app.command()
def figures(
    file: Annotated[Path, typer.Argument(metavar="FILE", help='JSON: {"venue": …, "account": raw answer, …}')],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Figures from raw answers of the venue kept in FILE, offline, by the code of the daemon."""
    from monitor import offline

    try:
        pools = offline.pools_of(file)
    except offline.FileError as exc:
        raise _fail(USAGE, exc.problem, exc.hint) from None
    if as_json:
        _json(offline.as_json(pools))
    else:
        offline.show(pools, Console())


Url = Annotated[str, typer.Option(help="where the daemon listens")]
TokenFile = Annotated[Path | None, typer.Option(help="file with the daemon's web.token, if it has one")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Author = Annotated[str, typer.Option(envvar=["MARGIN_MONITOR_AUTHOR", "USER"], help="who you are; shown to the others")]
Note = Annotated[str, typer.Option(help="why")]
DAEMON = "http://127.0.0.1:9877"


@contextlib.contextmanager
def _daemon(url: str, token_file: Path | None) -> "Iterator[Daemon]":
    from monitor.remote import AddressError, Daemon, RemoteError

    try:
        yield Daemon(url, token_file)
    except RemoteError as exc:
        raise _fail(USAGE if isinstance(exc, AddressError) else FAILED, exc.problem, exc.hint) from None


@app.command()
def alerts(as_json: AsJson = False, url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """What is open in the running daemon, worst first."""
    from monitor.remote import alert_lines

    with _daemon(url, token_file) as daemon:
        answer = daemon.alerts()
    _json(answer) if as_json else typer.echo("\n".join(alert_lines(answer)))


@app.command()
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
    with _daemon(url, token_file) as daemon:
        one = daemon.unacknowledge(incident) if undo else daemon.acknowledge(incident, author, note, minutes)
    typer.echo(
        f"{one['id']}: {'repeats go on' if undo else f'acknowledged for {minutes:g} min'} ({one['level']}, {one['summary']})"
    )


@app.command()
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
        raise _fail(USAGE, "a silence must name what it matches", "--account, --rule, --pool, --venue or --subject")
    with _daemon(url, token_file) as daemon:
        one = daemon.silence(parts, author, note, minutes)
    typer.echo(f"{one['id']}: {matched(one)} is silent for {minutes:g} min, {len(one['matches'])} open now")


@app.command()
def silences(as_json: AsJson = False, url: Url = DAEMON, token_file: TokenFile = None) -> None:
    """The silences in force."""
    from monitor.remote import silence_lines

    with _daemon(url, token_file) as daemon:
        answer = daemon.silences()
    _json(answer) if as_json else typer.echo("\n".join(silence_lines(answer)))


@app.command()
def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="of the silence, as `silences` shows it")],
    url: Url = DAEMON,
    token_file: TokenFile = None,
) -> None:
    """End silence ID now; what it held back is told at once."""
    with _daemon(url, token_file) as daemon:
        daemon.unsilence(silence_id)
    typer.echo(f"{silence_id}: over")


@app.command()
def check_config(config: ConfigFile) -> None:
    """Read CONFIG and say all that is wrong with it."""
    from monitor.config import load

    with _explained():
        settings = load(config)
    channels = ", ".join(channel.name for channel in settings.alerts.channels) or "none: alerts are only kept and logged"
    typer.echo(f"{config}: good. accounts: {', '.join(a.name for a in settings.accounts)}; channels: {channels}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"margin-monitor {__version__} (Python {platform.python_version()})")
