"""The questions of `margin-monitor init`. What was given by an option is not asked."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from monitor.alerts.channels.pagerduty import PagerDutySettings
from monitor.alerts.channels.slack import SlackSettings
from monitor.alerts.channels.telegram import TelegramSettings
from monitor.config_model import ALIAS
from monitor.init_config import SECRET_KEYS, Account, Channel
from monitor.model.secret import Secret

VENUES = {"1": "binance_usdm", "2": "htx_coin_futures"}


def account(name: str, venue: str, api_key: Path | None, api_secret: Path | None) -> Account:
    """One account; each part is asked for where it is empty."""
    if not venue:
        answer = _asked("Exchange: 1 Binance USDⓈ-M futures, 2 HTX coin-margined delivery", "1", [*VENUES, *VENUES.values()])
        venue = VENUES.get(answer, answer)
    name = name or _asked("Your own name for the account", "main", check=lambda text: re.fullmatch(ALIAS, text) is not None)
    what = "not shown; or the path of a file that holds it"
    return Account(
        name,
        venue,
        api_key or _secret(f"API key, read-only ({what})", optional=_in_environment(name, "API_KEY")),
        api_secret or _secret(f"API secret ({what})", optional=_in_environment(name, "API_SECRET")),
    )


def _in_environment(name: str, which: str) -> bool:
    """Whether it is found where it is looked for when the configuration does not name a place."""
    return bool(os.environ.get(f"MARGIN_MONITOR_{name.upper().replace('-', '_')}_{which}"))


def channels() -> list[Channel]:
    """Slack, Telegram and PagerDuty, each left out by an empty answer."""
    found = []
    for kind, settings, question in (
        ("slack", SlackSettings, "Slack: incoming webhook URL (not shown, Enter: no Slack)"),
        ("telegram", TelegramSettings, "Telegram: bot token of @BotFather (not shown, Enter: no Telegram)"),
        ("pagerduty", PagerDutySettings, "PagerDuty: integration key, Events API v2 (not shown, Enter: no PagerDuty)"),
    ):
        key = SECRET_KEYS[kind]
        secret = _secret(question, check=_accepts(settings, key), optional=True)
        if secret is not None:
            found.append(Channel(kind, kind, key, secret, {"chat_id": _chat()} if kind == "telegram" else {}))
    return found


def _chat() -> str:
    question = "Telegram: chat id (a number, or @channelname)"
    return _asked(question, "", check=lambda text: not _problem(TelegramSettings, chat_id=text))


def _asked(question: str, default: str, among: list[str] | None = None, check: Callable[[str], bool] = bool) -> str:
    while True:
        answer: str = typer.prompt(question, default=default or None).strip()
        if check(answer) and (among is None or answer in among):
            return answer
        typer.echo("  that cannot be" + (f"; one of {', '.join(among)}" if among else ""))


def _secret(question: str, check: Callable[[str], str] = lambda _: "", *, optional: bool = False) -> Path | Secret | None:
    """A secret, the file that holds it, or None where nothing was said and nothing need be."""
    while True:
        answer: str = typer.prompt(question, default="", hide_input=True, show_default=False).strip()
        if not answer and optional:
            return None
        if answer.startswith(("/", "~/", "./")):
            file = Path(answer).expanduser()
            if file.is_file():
                return file
            problem = "there is no such file"
        else:
            problem = check(answer) if answer.isascii() and answer.isprintable() else "not one line of plain text"
            problem = problem or ("" if answer else "it is needed; Ctrl-C ends this and writes nothing")
            if not problem:
                return Secret(answer)
        typer.echo(f"  {problem}")  # never the answer itself


def _accepts(settings: Any, key: str) -> Callable[[str], str]:
    return lambda text: _problem(settings, **{key: text})


def _problem(settings: Any, **fields: str) -> str:
    """What the settings of a channel say of these fields, "" if nothing: errors about other fields do not count."""
    try:
        settings(name="x", **fields)
    except ValidationError as exc:
        said = {error["loc"][0]: error["msg"] for error in exc.errors(include_input=False) if error["loc"]}
        return next((said[name].removeprefix("Value error, ") for name in fields if name in said), "")
    return ""
