"""The command by which a container's keeper asks whether to restart it, and whether to send it visitors."""

from typing import Annotated

import typer

from monitor.commands.base import CHECK_FAILED, FAILED, WATCH, app, fail
from monitor.commands.remote import DAEMON, TokenFile, Url, asked


@app.command(rich_help_panel=WATCH)
def healthcheck(
    ready: Annotated[
        bool, typer.Option("--ready", help="also: all data are there and agree with the venues'; needs the token")
    ] = False,
    url: Url = DAEMON,
    token_file: TokenFile = None,
) -> None:
    """Whether the daemon is alive, for HEALTHCHECK of a container and probes of Kubernetes.

    Exit code 0: it is. 1: it is not, and a restart may help. 3: it is not ready, and a restart would not help.
    """
    with asked(url, token_file) as daemon:
        if hangs := daemon.hangs():
            raise fail(FAILED, f"the daemon hangs: {'; '.join(hangs)}", "a restart helps; nothing open or unsent is lost")
        missing = daemon.missing() if ready else []
    if missing:
        raise fail(CHECK_FAILED, "not ready", "; ".join(missing))
    typer.echo("ready" if ready else "alive")
