"""Commands on the way to a running daemon: write a configuration, check it, try its channels."""

import typer

from monitor.commands.base import SET_UP, ConfigFile, app, explained


@app.command(rich_help_panel=SET_UP)
def check_config(config: ConfigFile) -> None:
    """Read CONFIG and say all that is wrong with it."""
    from monitor.config import load

    with explained():
        settings = load(config)
    channels = ", ".join(channel.name for channel in settings.alerts.channels) or "none: alerts are only kept and logged"
    typer.echo(f"{config}: good. accounts: {', '.join(a.name for a in settings.accounts)}; channels: {channels}")
