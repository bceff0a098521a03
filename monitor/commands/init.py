"""The command that writes a configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.commands.base import SET_UP, USAGE, Listen, app, explained, fail

if TYPE_CHECKING:
    from monitor.init_config import Channel

EXCHANGE_WAIT_S = 10.0  # until a simulated exchange that was just started has said where it is
LINE_BYTES_MAX = 1 << 16
SecretFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="holds it, alone, mode 0600")]


@app.command(rich_help_panel=SET_UP)
def init(
    output: Annotated[Path, typer.Option(metavar="FILE", help="the configuration to write")] = Path("config.yaml"),
    venue: Annotated[str, typer.Option(help="binance_usdm or htx_coin_futures")] = "",
    account: Annotated[str, typer.Option(help="your own name for the account")] = "",
    api_key_file: SecretFile = None,
    api_secret_file: SecretFile = None,
    slack_url_file: SecretFile = None,
    telegram_token_file: SecretFile = None,
    telegram_chat_id: Annotated[str, typer.Option(help="a number, or @channelname")] = "",
    webhook_url_file: SecretFile = None,
    pagerduty_key_file: SecretFile = None,
    listen: Listen = "127.0.0.1:9877",
    exchange: Annotated[
        Path | None, typer.Option(metavar="FILE", help="first line of `margin-monitor sim`: watch that exchange instead")
    ] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="ask nothing: what no option says is left out")] = False,
    force: Annotated[bool, typer.Option("--force", help="write over what is there")] = False,
) -> None:
    """Write a commented configuration, by asking or from options.

    Secrets never stand on the command line: an option names the file that holds one (mode 0600), and what is typed is not shown
    and goes into such a file, in secrets/ beside the configuration.
    """
    from monitor import init_ask, init_config

    files = {
        "slack": slack_url_file,
        "telegram": telegram_token_file,
        "pagerduty": pagerduty_key_file,
        "webhook": webhook_url_file,
    }
    channels = _channels(files, telegram_chat_id)
    try:
        if exchange is not None:
            line = _first_line(exchange)
            plan = init_config.exchange_plan(line, output.absolute().parent, venue, listen=listen, channels=channels)
        elif no_input:
            one = init_config.Account(account or "main", venue or "binance_usdm", api_key_file, api_secret_file)
            plan = init_config.Plan(accounts=(one,), channels=channels, listen=listen)
        else:
            one = init_ask.account(account, venue, api_key_file, api_secret_file)
            plan = init_config.Plan(accounts=(one,), channels=channels or tuple(init_ask.channels()), listen=listen)
        with explained():
            written = init_config.write(plan, output, force=force)
    except init_config.ExchangeError as exc:
        raise fail(USAGE, str(exc)) from None
    except init_config.TakenError as exc:
        raise fail(USAGE, str(exc), "--output FILE elsewhere, or --force to write over it") from None
    typer.echo("\n".join(f"wrote {path}" for path in written))
    typer.echo("next:")
    typer.echo(f"  margin-monitor check {output}    # tries all that it will need, and only reads")
    typer.echo(f"  margin-monitor run {output}")


def _channels(files: dict[str, Path | None], chat_id: str) -> "tuple[Channel, ...]":
    """files: of the secret, by the kind of channel."""
    from monitor.init_config import SECRET_KEYS, Channel

    if (files["telegram"] is None) != (not chat_id):
        raise fail(USAGE, "Telegram needs --telegram-token-file and --telegram-chat-id, both")
    plain = {"telegram": {"chat_id": chat_id}}
    return tuple(Channel(kind, kind, SECRET_KEYS[kind], file, plain.get(kind, {})) for kind, file in files.items() if file)


def _first_line(path: Path) -> bytes:
    """Of the exchange; waited for where it has just been started and has not yet said anything."""
    import time

    deadline_s = time.monotonic() + EXCHANGE_WAIT_S
    while True:
        try:
            with path.open("rb") as file:
                line = file.readline(LINE_BYTES_MAX)
        except OSError as exc:
            raise fail(USAGE, f"{path}: {exc.strerror or exc}", "margin-monitor sim > FILE writes it") from None
        if line.endswith(b"\n") or time.monotonic() >= deadline_s:
            return line
        time.sleep(0.05)
