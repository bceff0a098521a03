"""The shape of the configuration: every section, its defaults and their reasons.

Each field's description says what it is, in which unit, and why the default is what it is; `config/example.yaml` and the JSON
Schema are made of them.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from monitor.alerts.settings import AlertSettings
from monitor.heartbeat import HeartbeatSettings
from monitor.model.secret import Secret
from monitor.rules import RuleBook
from monitor.secret_sources import refusal
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.htx.settings import HtxSettings

ALIAS = r"^[A-Za-z0-9_-]{1,32}$"
NAMES_CLASH = "names_clash"  # type of the error of accounts that cannot be told apart


class _Section(BaseModel):
    """What all sections share: unknown keys are errors, and nothing changes after the load."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AccountConfig(_Section):
    """One account of a venue, read with its own key."""

    name: str = Field(
        pattern=ALIAS,
        description="your own name for the account, 1 to 32 of A-Z a-z 0-9 _ -; "
        "alerts and metrics show it, never the exchange's account number",
    )
    venue: Literal["binance_usdm", "htx_coin_futures"] = Field(
        description="the exchange: binance_usdm is Binance USDⓈ-M futures, "
        "htx_coin_futures HTX (Huobi) coin-margined delivery futures"
    )
    api_key: Secret = Field(
        description="API key, read-only: {file: /path}, {env: NAME} or {credential: name}; "
        "left out: credential <name>_api_key, else environment MARGIN_MONITOR_<NAME>_API_KEY",
    )
    api_secret: Secret = Field(
        description="API secret; left out: credential <name>_api_secret, else environment MARGIN_MONITOR_<NAME>_API_SECRET"
    )
    allow_dangerous_key: bool = Field(
        False, description="true: start although the key may withdraw or transfer; off because a monitor needs no such right"
    )
    rules: RuleBook = Field(
        default_factory=RuleBook,
        description="what differs from the global rules for this account; a key that is left out stays as it is there",
    )


class VenuesConfig(_Section):
    """Where the venues are and how they are read."""

    binance_usdm: BinanceSettings = Field(default_factory=BinanceSettings, description="Binance USDⓈ-M futures")
    htx_coin_futures: HtxSettings = Field(default_factory=HtxSettings, description="HTX coin-margined delivery futures")


class WebConfig(_Section):
    """The HTTP server: page, metrics, health, JSON."""

    listen: str = Field(
        "127.0.0.1:9877",
        description="address and port, [::1]:9877 for IPv6, port 0 for any free one; loopback, because the page shows balances",
    )
    host_names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")], ...] = Field(
        (),
        description="names by which the page is reached besides loopback and the listen address; "
        "others are refused, against DNS rebinding",
    )
    token: Secret | None = Field(
        None,
        validate_default=True,
        description="bearer token for all but /-/healthy, at least 16 characters; "
        "needed where listen is not loopback; null: none",
    )
    reload_enabled: bool = Field(
        False, description="true: POST /-/reload loads the configuration again; off because SIGHUP does so without a port"
    )

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, listen: str) -> str:
        host_port(listen)
        return listen

    @field_validator("token")
    @classmethod
    def _token_where_others_reach_it(cls, token: Secret | None, info: ValidationInfo) -> Secret | None:
        listen = info.data.get("listen")
        if token is not None and len(token.reveal()) < 16:
            raise refusal("must have at least 16 characters", "make one with: openssl rand -hex 24")
        if token is None and listen and not is_loopback(host_port(listen)[0]):
            raise refusal(
                f"is missing, and {listen} is reachable from other machines", "write {file: /path}, or listen on 127.0.0.1"
            )
        return token

    @property
    def host(self) -> str:
        return host_port(self.listen)[0]

    @property
    def port(self) -> int:
        return host_port(self.listen)[1]

    @property
    def url(self) -> str:
        """Where the page is as far as its own address says so; "" if that names all addresses or any free port."""
        everywhere = self.host != "localhost" and ipaddress.ip_address(self.host).is_unspecified
        return "" if everywhere or not self.port else f"http://{self.listen}/"


class StoreConfig(_Section):
    """Where open incidents and unsent messages survive a restart."""

    path: str | None = Field(
        None,
        min_length=1,
        description="SQLite file; null: margin-monitor.sqlite3 in $STATE_DIRECTORY (systemd), "
        "else in $XDG_STATE_HOME/margin-monitor, else in ~/.local/state/margin-monitor; "
        "a relative path starts at the working directory",
    )
    synchronous: Literal["normal", "full"] = Field(
        "normal", description="normal survives a crash of the daemon, full a loss of power as well, at a few ms for each alert"
    )

    def file(self, environ: Mapping[str, str] = os.environ) -> Path:
        """The file itself, with the default filled in."""
        return Path(self.path).expanduser() if self.path else state_folder(environ) / "margin-monitor.sqlite3"


class HistoryConfig(_Section):
    """Past figures for the charts of the page: each second of an hour, each minute of 30 days."""

    enabled: bool = Field(True, description="false: keeps nothing, and the page shows no charts")
    path: str | None = Field(
        None,
        min_length=1,
        description="SQLite file, apart from the store so that it never delays an alert; null: beside the store's, with -history "
        "in its name; nothing in it is needed for alerts",
    )
    size_mb_max: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="size of the file in MB, beyond it the oldest days go; a pool takes 0.12 MB, so the default holds 30 days of "
        "10,000 pools",
    )

    def file(self, store: Path) -> Path | None:
        """The file itself; None where the store keeps nothing either. store: the store's file."""
        if self.path:
            return Path(self.path).expanduser()
        return None if str(store) == ":memory:" else store.with_name(f"{store.stem}-history{store.suffix}")


class MetricsConfig(_Section):
    """What Prometheus may read."""

    amounts: bool = Field(True, description="false: leaves out all money amounts; ratios, levels and ages stay")
    positions_max: int = Field(
        100,
        ge=0,
        le=10_000,
        description="so many positions of an account, its largest, have series of their own; 0: none, nor have its assets; "
        "bounded, because Prometheus keeps each series in memory",
    )


class LogConfig(_Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is written")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else one JSON object a line"
    )


class Config(_Section):
    """All settings of the daemon."""

    accounts: tuple[AccountConfig, ...] = Field(description="the accounts that are watched, at least one")
    alerts: AlertSettings = Field(default_factory=AlertSettings, description="who is told what, and how often")
    rules: RuleBook = Field(default_factory=RuleBook, description="when a figure is worth an alert, for all accounts")
    venues: VenuesConfig = Field(default_factory=VenuesConfig, description="where the venues are and how they are read")
    web: WebConfig = Field(default_factory=WebConfig, description="the HTTP server: page, metrics, health, JSON")
    store: StoreConfig = Field(
        default_factory=StoreConfig, description="where open incidents and unsent messages survive a restart"
    )
    history: HistoryConfig = Field(default_factory=HistoryConfig, description="past figures for the charts of the page")
    heartbeat: HeartbeatSettings = Field(
        default_factory=HeartbeatSettings, description="a sign of life for a service outside, which calls when it stays away"
    )
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, description="what Prometheus may read")
    log: LogConfig = Field(default_factory=LogConfig, description="the log, on standard error")

    @field_validator("accounts")
    @classmethod
    def _there_is_one(cls, accounts: tuple[AccountConfig, ...]) -> tuple[AccountConfig, ...]:
        if not accounts:
            raise refusal("is empty", "there is nothing to watch: name an account, its venue and its key")
        return accounts

    @field_validator("alerts")
    @classmethod
    def _routes_name_what_there_is(cls, alerts: AlertSettings, info: ValidationInfo) -> AlertSettings:
        """A route for a mistyped account or rule would carry nothing, and nobody would notice."""
        accounts = {account.name for account in info.data.get("accounts", ())}
        rules = {*RuleBook.model_fields, "channel", "store"}
        for index, route in enumerate(alerts.routes):
            for what, named, known in (("accounts", route.accounts, accounts), ("rules", route.rules, rules)):
                unknown = sorted(set(named) - known)
                if unknown and known:
                    problem = f"routes[{index}].{what} names {', '.join(unknown)}, which is not there"
                    raise refusal(problem, f"known: {', '.join(sorted(known))}")
        unheard = sorted(a for a in accounts if not any(not r.accounts or a in r.accounts for r in alerts.routes))
        if alerts.routes and unheard:
            problem = f"routes has none for {', '.join(unheard)}: alerts of it would reach nobody"
            raise refusal(problem, "add it to the accounts of a route, or add a route without accounts")
        return alerts

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        clashes = name_clashes([account.name for account in self.accounts])
        if clashes:
            raise PydanticCustomError(NAMES_CLASH, "account names must differ: {names}", {"names": ", ".join(clashes.values())})
        return self

    def linked_alerts(self) -> AlertSettings:
        """The settings of alerts, with the page's address where the owner left it to us."""
        alerts = self.alerts
        return alerts if alerts.page_url is not None else alerts.model_copy(update={"page_url": self.web.url})

    def secrets(self) -> Iterator[Secret]:
        """All secrets of the configuration, for the log to hide."""
        return _secrets_in(self)


def name_clashes(names: Sequence[object]) -> dict[int, str]:
    """What is wrong, by index. Names that differ only in case or in - and _ would share their environment variables."""
    first: dict[str, int] = {}
    clashes = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            continue
        other = first.setdefault(name.upper().replace("-", "_"), index)
        if other != index:
            same = "is the name of" if names[other] == name else "differs only in case, - or _ from the name of"
            clashes[index] = f"{same} accounts[{other}] too" if same.startswith("is") else f"{same} accounts[{other}]"
    return clashes


def host_port(listen: str) -> tuple[str, int]:
    """The parts of an address to listen on. Raises PydanticCustomError."""
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", listen, re.ASCII)
    host, port = (parts[1] or parts[2], int(parts[3])) if parts else ("", 0)
    try:
        known = host == "localhost" or bool(ipaddress.ip_address(host))
    except ValueError:
        known = False
    if not known or port > 65535:
        raise refusal("must be an IP address and a port", "such as 127.0.0.1:9877, [::1]:9877 or 0.0.0.0:9877")
    return host, port


def is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where the daemon keeps its state: systemd's folder, else the user's."""
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])  # systemd separates several by colons
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "~", ".local/state"))
    return Path(base).expanduser() / "margin-monitor"


def _secrets_in(value: Any) -> Iterator[Secret]:
    match value:
        case Secret():
            yield value
        case BaseModel():
            for _, field in value:
                yield from _secrets_in(field)
        case dict():
            for element in value.values():
                yield from _secrets_in(element)
        case tuple() | list():
            for element in value:
                yield from _secrets_in(element)
