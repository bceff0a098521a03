"""Commands that need neither account nor configuration: the demo, the simulated exchange, figures of a file."""

import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor import __version__
from monitor.commands.base import TRY, USAGE, AsJson, Listen, app, explained, fail, print_json, run_async


@app.command(rich_help_panel=TRY)
def demo(
    seconds: Annotated[float | None, typer.Option(min=0, help="end by itself after so many seconds")] = None,
    scenario: Annotated[str, typer.Option(help="calm, crash, depeg or slow_bleed")] = "crash",
    listen: Listen = "127.0.0.1:9877",
) -> None:
    """The job at work, without keys or network: a simulated exchange, the monitor, a live table and the page."""
    from monitor.config_model import host_port, is_loopback
    from monitor.demo import demo as run_demo
    from monitor.log import configure
    from monitor.sim.scenarios import scenario_named

    try:
        scenario_named(scenario)
    except ValueError as exc:
        raise fail(USAGE, str(exc)) from None
    if not is_loopback(host_port(listen)[0]):
        raise fail(
            USAGE,
            f"{listen} can be reached from other machines: the demo has no token, and listens on loopback only",
            "--listen 127.0.0.1:PORT",
        )
    configure("error", "auto")
    with explained(listen, "--listen"):
        run_async(run_demo(scenario, seconds, listen=listen))


@app.command(rich_help_panel=TRY)
def sim(
    host: Annotated[str, typer.Option(help="address to listen on; it is for loopback")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65534, help="HTX has the next one; 0: free ones; the first line printed names them")
    ] = 0,
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
        raise fail(USAGE, str(exc)) from None
    with explained():
        htx_port = port and port + 1
        run_async(serve(port, scenario, seed, seconds, host=host, symbols=symbols, tick_seconds=tick_seconds, htx_port=htx_port))


@app.command(rich_help_panel=TRY)
def figures(
    file: Annotated[Path, typer.Argument(metavar="FILE", help='JSON: {"venue": …, "account": raw answer, …}')],
    as_json: AsJson = False,
) -> None:
    """Figures from raw answers of the venue kept in FILE, offline, by the code of the daemon."""
    from monitor import offline

    try:
        pools = offline.pools_of(file)
    except offline.FileError as exc:
        raise fail(USAGE, exc.problem, exc.hint) from None
    if as_json:
        print_json(offline.as_json(pools))
    else:
        offline.show(pools, Console())


@app.command(rich_help_panel=TRY)
def version() -> None:
    """Print the version."""
    typer.echo(f"margin-monitor {__version__} (Python {platform.python_version()})")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")] = False,
) -> None:
    """What stands before a command."""
