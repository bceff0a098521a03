"""`margin-monitor init`: writes a configuration that `check-config` accepts, with its secrets in files of their own.

What is written is first put into a folder beside its place and loaded from there by the daemon's own code; only what is accepted
takes its place. So a refusal leaves everything as it was.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct

from monitor.config import Config, ConfigErrors, load
from monitor.config_docs import flow, schema_text
from monitor.config_model import host_port, is_loopback
from monitor.model.secret import Secret
from monitor.rules import RuleBook

SECRETS = "secrets"  # the folder of the files that init writes
TOKEN = "web_token"  # noqa: S105  the name of its file
EVERYWHERE = ("0.0.0.0:", "[::]:")  # addresses to listen on, but nothing that a browser could open
ENDPOINTS = ("rest", "spot", "streams")


class Account(Struct, frozen=True):
    """One account. A key is a file that is there already, a secret that gets a file, or None: its default source."""

    name: str
    venue: str
    api_key: Path | Secret | None = None
    api_secret: Path | Secret | None = None


# By the kind of channel: the key of its one secret.
SECRET_KEYS = {"slack": "webhook_url", "telegram": "bot_token", "pagerduty": "routing_key", "webhook": "url"}


class Channel(Struct, frozen=True):
    """One alert channel: its plain settings, and its secret by the name of its key."""

    kind: str
    name: str
    secret_key: str
    secret: Path | Secret
    plain: dict[str, Any] = {}


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be written. venues: base URLs of a simulated exchange; empty: the real ones."""

    accounts: tuple[Account, ...]
    channels: tuple[Channel, ...] = ()
    listen: str = "127.0.0.1:9877"
    venues: dict[str, dict[str, str]] = {}
    store: Path | None = None


class ExchangeError(ValueError):
    """What was given as an exchange is none; the text says why."""


class TakenError(Exception):
    """Something is there already; the text says what."""


class _Venue(Struct):
    rest: str
    streams: str
    api_key: str
    api_secret: str


class _FirstLine(Struct):
    venues: dict[str, _Venue]


def exchange_plan(line: bytes, folder: Path, venue: str = "", **more: Any) -> Plan:
    """A plan for the simulated exchange whose first line this is: an account for each venue, or for the one that is named.

    Its state goes into `folder`, so that a try never touches the store of a real daemon. Raises ExchangeError.
    """
    try:
        venues = msgspec.json.decode(line, type=_FirstLine).venues
    except msgspec.DecodeError:
        raise ExchangeError("this is not the first line of `margin-monitor sim`") from None
    chosen = {name: it for name, it in venues.items() if venue in ("", name)}
    if not chosen:
        raise ExchangeError(f"this exchange has no {venue}; it has {', '.join(venues)}")
    return Plan(
        accounts=tuple(
            Account(name.split("_")[0], name, Secret(it.api_key), Secret(it.api_secret)) for name, it in chosen.items()
        ),
        venues={name: {"rest": it.rest, "spot": it.rest, "streams": it.streams} for name, it in chosen.items()},
        store=folder.absolute() / "state.sqlite3",
        **more,
    )


def write(plan: Plan, output: Path, *, force: bool = False, environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Writes the configuration, its secrets and its schema; returns their paths, the configuration first.

    Raises ConfigErrors where the configuration would be refused, TakenError where something is in the way and not `force`,
    OSError where the disk refuses. In each case nothing has changed.
    """
    folder = output.absolute().parent
    files = _files(plan, output)
    taken = [name for name in files if (folder / name).exists()]
    if taken and not force:
        raise TakenError(f"{', '.join(taken)} in {folder}: there already")
    made = _made(folder)
    stage = Path(tempfile.mkdtemp(prefix=".margin-monitor-init-", dir=folder))  # mode 0700
    try:
        for name, (text, mode) in files.items():
            _create(stage / name, text, mode)
        _accepted(stage / output.name, output, environ)
        for name in reversed(files):  # the configuration last: it names the others
            (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(stage / name, folder / name)
        made.clear()
    finally:
        shutil.rmtree(stage)
        with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
            for one in made:
                one.rmdir()
    return [folder / name for name in files]


def _made(folder: Path) -> list[Path]:
    """Makes the folder; returns what had to be made, the deepest first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _create(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _accepted(staged: Path, output: Path, environ: Mapping[str, str]) -> Config:
    """Loads it as the daemon would. Raises ConfigErrors that name the place where it is to be."""
    try:
        return load(staged, environ)
    except ConfigErrors as exc:
        here, there = str(staged.parent), str(output.absolute().parent)
        raise ConfigErrors(
            replace(one, file=str(output), problem=one.problem.replace(here, there), hint=one.hint.replace(here, there))
            for one in exc.errors
        ) from None


def _files(plan: Plan, output: Path) -> dict[str, tuple[str, int]]:
    """(text, mode) by the path from the configuration's folder."""
    schema = f"{output.stem}.schema.json"
    files = {output.name: (render(plan, output.name, schema), 0o644)}
    if _needs_token(plan):
        files[f"{SECRETS}/{TOKEN}"] = (token_hex(24) + "\n", 0o600)
    for name, secret in _new_secrets(plan):
        files[f"{SECRETS}/{name}"] = (secret.reveal() + "\n", 0o600)
    files[schema] = (schema_text(), 0o644)
    return files


def _needs_token(plan: Plan) -> bool:
    """Others can reach the page: who reads balances must show a token, and it is made up here."""
    return not is_loopback(host_port(plan.listen)[0])


def _new_secrets(plan: Plan) -> Iterator[tuple[str, Secret]]:
    for account in plan.accounts:
        for key, secret in (("api_key", account.api_key), ("api_secret", account.api_secret)):
            if isinstance(secret, Secret):
                yield f"{account.name}_{key}", secret
    for channel in plan.channels:
        if isinstance(channel.secret, Secret):
            yield f"{channel.name}_{channel.secret_key}", channel.secret


# ------------------------------------------------------------------ the text

_HEAD = """\
# yaml-language-server: $schema={schema}
# What margin-monitor watches, and who is told. A key that is left out has its default: config/example.yaml shows all keys,
# each with its default, unit and reason. After a change: margin-monitor check-config {name}
"""


def render(plan: Plan, name: str, schema: str) -> str:
    """The text of the configuration. name, schema: of the files."""
    parts = [_HEAD.format(schema=schema, name=name), _accounts(plan), _alerts(plan), _rules()]
    if plan.venues:
        parts.append(_venues(plan))
    parts.append(f"""\
# the status page, /metrics and the API; any other address than loopback needs a token
web:
  listen: {flow(plan.listen)}
""")
    if _needs_token(plan):
        parts[-1] += f"  token: {flow({'file': f'{SECRETS}/{TOKEN}'})}\n"
    if plan.store is not None:
        parts.append(f"""\
# open incidents and unsent messages: of this try alone
store:
  path: {flow(str(plan.store))}
""")
    return "\n".join(parts)


def _accounts(plan: Plan) -> str:
    lines = ["accounts:", "  # name: your own; alerts and metrics show it, never the exchange's account number"]
    for account in plan.accounts:
        lines += [f"  - name: {flow(account.name)}", f"    venue: {flow(account.venue)}"]
        lines += _secret_lines(account.name, "api_key", account.api_key)
        lines += _secret_lines(account.name, "api_secret", account.api_secret)
    return "\n".join(lines) + "\n"


def _alerts(plan: Plan) -> str:
    lines = [
        "alerts:",
        "  # where you reach the status page: the link in every message; empty: no link",
        f"  page_url: {flow('' if plan.listen.startswith(EVERYWHERE) else f'http://{plan.listen}/')}",
        "  # in the order in which critical alerts fall over; without one, alerts are only kept and logged",
        "  channels:" + ("" if plan.channels else " []"),
    ]
    for channel in plan.channels:
        lines += [f"    - kind: {flow(channel.kind)}", f"      name: {flow(channel.name)}"]
        lines += [f"  {line}" for line in _secret_lines(channel.name, channel.secret_key, channel.secret)]
        lines += [f"      {key}: {flow(value)}" for key, value in channel.plain.items()]
    return "\n".join(lines) + "\n"


def _secret_lines(owner: str, key: str, secret: Path | Secret | None) -> list[str]:
    if secret is None:
        return [f"    # {key}: left out; it is taken from the systemd credential {owner}_{key} or from the environment"]
    path = f"{SECRETS}/{owner}_{key}" if isinstance(secret, Secret) else str(secret.absolute())
    return [f"    {key}: {flow({'file': path})}"]


def _rules() -> str:
    """The most asked-for limits, as comments with their defaults."""
    limits = "".join(f"    #{level.word}: {limit:g}\n" for level, limit in RuleBook().health.ladder)
    return (
        "# when: equity ÷ the equity at which liquidation starts; lower is worse. Delete the # to change a limit\n"
        f"#rules:\n  #health:\n{limits}"
    )


def _venues(plan: Plan) -> str:
    body = "".join(
        f"  {name}:\n" + "".join(f"    {key}: {flow(urls[key])}\n" for key in ENDPOINTS) for name, urls in plan.venues.items()
    )
    return "# a simulated exchange; remove this section for the real one\nvenues:\n" + body
