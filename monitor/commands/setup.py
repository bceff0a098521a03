"""Commands on the way to a running daemon: check a configuration, try its channels."""

from typing import TYPE_CHECKING, Annotated

import typer

from monitor.commands.base import (
    CHECK_FAILED,
    SET_UP,
    USAGE,
    AsJson,
    ConfigFile,
    app,
    explained,
    fail,
    print_json,
    table_console,
    working,
)

if TYPE_CHECKING:
    from monitor.config import Config


@app.command(rich_help_panel=SET_UP)
def check_config(config: ConfigFile) -> None:
    """Read CONFIG and say all that is wrong with it."""
    settings = _loaded(config)
    channels = ", ".join(channel.name for channel in settings.alerts.channels) or "none: alerts are only kept and logged"
    typer.echo(f"{config}: good. accounts: {', '.join(a.name for a in settings.accounts)}; channels: {channels}")


@app.command(rich_help_panel=SET_UP)
def check(
    config: ConfigFile,
    send: Annotated[bool, typer.Option("--send", help="also send a test message to every channel")] = False,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="how long to wait for keys and for data, each")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Try all that `run` will need: keys and their rights, clock, streams, own figures against the venue's, address, store.

    It only reads; nothing is sent without --send. Exit code 3: a check failed. A warning is no failure.
    """
    import asyncio

    from monitor import check as checking

    settings = _loaded(config)
    with explained(), working(f"asking the venues, at most {2 * seconds:g} s"):
        findings = asyncio.run(checking.check(settings, send=send, limit_s=seconds))
    print_json(checking.as_json(findings)) if as_json else checking.show(findings, table_console())
    if not checking.passed(findings):
        raise typer.Exit(CHECK_FAILED)


@app.command("test-alert", rich_help_panel=SET_UP)
def send_test_alert(
    config: ConfigFile,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="of channels")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="every channel")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a test message, marked as such, to the channels NAME or to all, and say how long each took.

    It is sent at once and once, past routes and silences. Exit code 3: one was not delivered.
    """
    import asyncio

    from monitor import check as checking
    from monitor.alerts import trial

    settings = _loaded(config)
    if bool(names) == everyone:
        known = ", ".join(channel.name for channel in settings.alerts.channels) or "there is none yet"
        raise fail(USAGE, "which channels?", f"--all, or names: {known}")
    if not settings.alerts.channels:
        raise fail(USAGE, f"{config} has no channel", "add one under alerts.channels; config/example.yaml shows them all")
    try:
        findings = [checking.channel_finding(one) for one in asyncio.run(trial.test_alert(settings.linked_alerts(), names or ()))]
    except trial.UnknownChannelError as exc:
        raise fail(USAGE, str(exc)) from None
    print_json(checking.as_json(findings)) if as_json else checking.show(findings, table_console())
    if not checking.passed(findings):
        raise typer.Exit(CHECK_FAILED)


@app.command(rich_help_panel=SET_UP)
def schema() -> None:
    """Print the JSON Schema of a configuration, for completion and checks in an editor."""
    from monitor.config_docs import schema_text

    typer.echo(schema_text(), nl=False)


def _loaded(path: ConfigFile) -> "Config":
    """The configuration; from here on the log shows only what is broken, and no secret."""
    from monitor.config import load
    from monitor.log import configure, register_secret

    with explained():
        settings = load(path)
    for secret in settings.secrets():
        register_secret(secret)
    configure("error", "auto")
    return settings
