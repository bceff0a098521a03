"""Good configurations: what is loaded, what is inherited, and what is found without being said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.config import AccountConfig, Config, from_data, load
from monitor.config_errors import ConfigErrors
from monitor.config_model import WebConfig, state_folder
from monitor.model.secret import Secret
from monitor.rules import RuleBook

KEYS = {"api_key": "the-key", "api_secret": "the-secret"}


def _account(name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "venue": "binance_usdm", **KEYS, **more}


def _load(folder: Path, text: str, environ: dict[str, str] | None = None, **more: Any) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return load(path, environ or {}, **more)


def test_four_lines_are_a_configuration(tmp_path: Path) -> None:
    config = _load(tmp_path, "accounts:\n  - name: main\n    venue: binance_usdm\n    api_key: k\n    api_secret: s\n")
    account = AccountConfig(name="main", venue="binance_usdm", api_key=Secret("k"), api_secret=Secret("s"))
    assert config == Config(accounts=(account,))
    assert config.accounts[0].rules == RuleBook()
    assert (config.web.host, config.web.port) == ("127.0.0.1", 9877)


def test_a_configuration_does_not_change() -> None:
    config = from_data({"accounts": [_account()]}, {})
    with pytest.raises(ValueError, match="frozen"):
        config.web = WebConfig()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rules", "own", "expected", "why"),
    [
        ({}, {}, {}, "nothing said is the default"),
        ({"health": {"warning": 3}}, {}, {"health": {"warning": 3}}, "an account has the global rules"),
        ({}, {"health": {"warning": 3}}, {"health": {"warning": 3}}, "an account alone may differ from the default"),
        (
            {"health": {"warning": 3, "high": 1.6}},
            {"health": {"high": 1.8}},
            {"health": {"warning": 3, "high": 1.8}},
            "key by key: what the account does not say stays as it is globally",
        ),
        (
            {"health": {"enabled": False}, "stale": {"high": 20}},
            {"health": {"enabled": True}},
            {"health": {"enabled": True}, "stale": {"high": 20}},
            "a rule that is off for all may be on for one",
        ),
        (
            {"asset_mix": {"targets": {"USDT": 0.7, "USDC": 0.3}}},
            {"asset_mix": {"targets": {"BTC": 1.0}}},
            {"asset_mix": {"targets": {"BTC": 1.0}}},
            "a mapping of assets is one value: targets do not mix",
        ),
        ({"health": {"high": 1.7}}, {"health": {"high": None}}, {"health": {"high": None}}, "null takes a level away"),
    ],
)
def test_an_account_inherits_the_global_rules(rules: Any, own: Any, expected: Any, why: str) -> None:
    config = from_data({"accounts": [_account("a", rules=own), _account("b")], "rules": rules}, {})
    assert config.accounts[0].rules == RuleBook.model_validate(expected), why
    assert config.accounts[1].rules == config.rules == RuleBook.model_validate(rules)


def test_aliases_save_writing(tmp_path: Path) -> None:
    text = """
accounts:
  - {name: a, venue: binance_usdm, api_key: k, api_secret: s, rules: &careful {health: {warning: 4}}}
  - {name: b, venue: binance_usdm, api_key: k, api_secret: s, rules: *careful}
"""
    first, second = _load(tmp_path, text).accounts
    assert first.rules == second.rules == RuleBook.model_validate({"health": {"warning": 4}})


@pytest.mark.parametrize(
    ("written", "read", "why"),
    [
        ("no", "no", "a country, not false"),
        ("on", "on", "a switch, not true"),
        ("1_000", "1_000", "a name, not a thousand"),
        ("0o17", "0o17", "a name, not fifteen"),
        ("'007'", "007", "quotes keep the zeros"),
        ("1e5_", "1e5_", "no number"),
    ],
)
def test_texts_stay_texts(tmp_path: Path, written: str, read: str, why: str) -> None:
    config = _load(tmp_path, f"accounts: [{{name: {written}, venue: binance_usdm, api_key: k, api_secret: s}}]")
    assert config.accounts[0].name == read, why


@pytest.mark.parametrize(("written", "value"), [("2", 2.0), ("2.5", 2.5), ("2.", 2.0), ("+2.5e0", 2.5), ("25e-1", 2.5)])
def test_numbers_as_people_write_them(tmp_path: Path, written: str, value: float) -> None:
    account = "accounts: [{name: a, venue: binance_usdm, api_key: k, api_secret: s}]\n"
    config = _load(tmp_path, account + f"rules: {{health: {{warning: {written}}}}}")
    assert config.rules.health.warning == value


def test_settings_may_be_written_over_those_of_the_file(project_root: Path) -> None:
    environ = {f"MARGIN_MONITOR_{name}_API_{part}": "s" for name in ("BINANCE", "HTX") for part in ("KEY", "SECRET")}
    over = {"venues": {"binance_usdm": {"rest": "http://127.0.0.1:1234"}}, "web": {"listen": "127.0.0.1:0"}}
    config = load(project_root / "config" / "demo.yaml", environ, over=over)
    assert config.venues.binance_usdm.rest == "http://127.0.0.1:1234"
    assert config.web.port == 0
    assert config.accounts[0].api_secret.reveal() == "s"
    assert str(config.store.file({})) == ":memory:"


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:9877", "127.0.0.1", 9877),
        ("[::1]:0", "::1", 0),
        ("localhost:80", "localhost", 80),
        ("127.9.9.9:65535", "127.9.9.9", 65535),
    ],
)
def test_loopback_needs_no_token(listen: str, host: str, port: int) -> None:
    web = from_data({"accounts": [_account()], "web": {"listen": listen}}, {}).web
    assert (web.host, web.port, web.token) == (host, port, None)


def test_others_may_look_with_a_token() -> None:
    web = from_data({"accounts": [_account()], "web": {"listen": "0.0.0.0:80", "token": "0123456789abcdef"}}, {}).web
    assert web.token == Secret("0123456789abcdef")


@pytest.mark.parametrize(
    ("environ", "folder", "why"),
    [
        ({"STATE_DIRECTORY": "/var/lib/mm:/var/lib/x", "XDG_STATE_HOME": "/s", "HOME": "/h"}, "/var/lib/mm", "systemd's first"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/margin-monitor", "the user's own choice"),
        ({"HOME": "/h"}, "/h/.local/state/margin-monitor", "the convention"),
    ],
)
def test_where_the_state_is_kept(environ: dict[str, str], folder: str, why: str) -> None:
    assert state_folder(environ) == Path(folder), why
    assert from_data({"accounts": [_account()]}, {}).store.file(environ) == Path(folder, "margin-monitor.sqlite3")


def test_all_secrets_are_known_to_who_hides_them() -> None:
    channel = {"kind": "slack", "name": "desk", "webhook_url": "https://hooks.slack.com/services/T/B/x"}
    data = {"accounts": [_account()], "alerts": {"channels": [channel]}, "web": {"token": "0123456789abcdef"}}
    texts = {secret.reveal() for secret in from_data(data, {}).secrets()}
    assert texts == {"the-key", "the-secret", "https://hooks.slack.com/services/T/B/x", "0123456789abcdef"}


def test_no_secret_is_shown_by_the_configuration_or_its_dump() -> None:
    config = from_data({"accounts": [_account()]}, {})
    for shown in (repr(config), str(config), config.model_dump_json(), str(config.model_dump())):
        assert "***" in shown
        assert "the-key" not in shown
        assert "the-secret" not in shown


def test_two_loads_of_one_file_are_equal(tmp_path: Path) -> None:
    text = "accounts: [{name: a, venue: binance_usdm, api_key: k, api_secret: s}]"
    assert _load(tmp_path, text) == _load(tmp_path, text)
    assert _load(tmp_path, text) != _load(tmp_path, text.replace("api_secret: s", "api_secret: t"))


def test_names_must_differ_in_python_too() -> None:
    account = AccountConfig(name="a", venue="binance_usdm", api_key=Secret("k"), api_secret=Secret("s"))
    with pytest.raises(ValueError, match="account names must differ"):
        Config(accounts=(account, account))


def test_a_fault_among_thousands_of_accounts_is_found() -> None:
    accounts = [_account(f"a{number}") for number in range(2000)]
    assert len(from_data({"accounts": accounts}, {}).accounts) == 2000
    accounts[7]["venue"] = accounts[1999]["venue"] = "x"
    with pytest.raises(ConfigErrors) as caught:
        from_data({"accounts": accounts}, {})
    assert [error.key for error in caught.value.errors] == ["accounts[7].venue", "accounts[1999].venue"]


@pytest.mark.parametrize("rules", [{"health": {"warning": 1.0}}, {"health": {"warn": 1}}, {"health": 1}, 5])
def test_a_wrong_rule_of_an_account_is_told_without_a_file_too(rules: object) -> None:
    with pytest.raises(ConfigErrors) as caught:
        from_data({"accounts": [_account(rules=rules)]}, {})
    assert [error.key.startswith("accounts[0].rules") for error in caught.value.errors] == [True]
