"""The example shows every key with its true default, and the schema agrees with what is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from monitor.alerts.channels import CHANNELS
from monitor.alerts.settings import RouteSettings
from monitor.config import AccountConfig, Config, load
from monitor.config_docs import HEAD, example_yaml, json_schema
from monitor.rules import RuleBook

SECRETS = {
    "main_api_key": "k",
    "main_api_secret": "s",
    "desk_webhook_url": "https://hooks.slack.com/services/T0/B0/x",
    "phone_bot_token": "123456:" + "t" * 35,
    "pager_url": "https://pager.example.org/x",
    "site_url": "https://alertmanager.example.org",
    "oncall_routing_key": "r" * 32,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    for name, text in SECRETS.items():
        (tmp_path / "secrets" / name).write_text(text + "\n")
        (tmp_path / "secrets" / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def example(project_root: Path) -> str:
    return (project_root / "config" / "example.yaml").read_text(encoding="utf-8")


def _all_in_force(text: str) -> str:
    """The example as it is when a reader deletes every # that has no space after it."""
    body = text.removeprefix(HEAD)
    return re.sub(r"^( *)#(?! )", r"\1", body, flags=re.MULTILINE).replace(" []  # without [] once it has elements", "")


def _load(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def test_the_example_is_made_of_the_models(example: str) -> None:
    assert example == example_yaml(), (
        "write it anew: python -c 'from monitor.config_docs import example_yaml as e; print(e(), end=\"\")' > config/example.yaml"
    )


def test_the_example_changes_nothing(folder: Path, example: str) -> None:
    config = _load(folder, example)
    assert config == Config(accounts=config.accounts)
    assert [account.name for account in config.accounts] == ["main"]
    assert config.accounts[0].rules == RuleBook()


def test_the_settings_in_comments_are_settings(folder: Path, example: str) -> None:
    alerts = _load(folder, _all_in_force(example)).alerts
    assert [channel.kind for channel in alerts.channels] == list(CHANNELS)
    assert alerts.routes == (RouteSettings(channels=("phone",)),)


def test_a_real_account_takes_ten_lines(folder: Path) -> None:
    lines = [line.removeprefix("#") for line in HEAD.splitlines() if re.match(r"#( {2,}|\w)", line)]
    assert len(lines) == 10
    config = _load(folder, "\n".join(lines))
    assert [account.name for account in config.accounts] == ["main"]
    assert [channel.name for channel in config.alerts.channels] == ["desk"]


def _absent(model: type[BaseModel], data: Any, where: str = "") -> list[str]:
    """Keys of the model that are not in the data, or that are there with another value than their default."""
    found = []
    for name, field in model.model_fields.items():
        key = f"{where}.{name}".removeprefix(".")
        if name not in data:
            found.append(f"{key} is absent")
        elif model is AccountConfig and name == "rules":
            continue  # the same keys as the global ones
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += _absent(field.annotation, data[name], key)
        elif models := _element_models(field):
            shown = {type_of.__name__: element for element, type_of in zip(data[name], models, strict=True)}
            for type_of in models:
                found += _absent(type_of, shown[type_of.__name__], f"{key}.{type_of.__name__}")
        elif not field.is_required() and data[name] != _as_yaml(field.get_default(call_default_factory=True)):
            found.append(f"{key} is {data[name]!r}, not its default")
    return found


def _element_models(field: FieldInfo) -> list[type[BaseModel]]:
    element = next(iter(get_args(field.annotation)), None)
    members = get_args(getattr(element, "__origin__", None)) or (element,)
    return [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]


def _as_yaml(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_every_key_is_there_with_its_true_default(example: str) -> None:
    data = yaml.safe_load(_all_in_force(example))
    assert _absent(Config, data) == []


def test_that_test_would_notice(example: str) -> None:
    data = yaml.safe_load(_all_in_force(example))
    del data["alerts"]["channels"][1]["base_url"]
    data["rules"]["health"]["warning"] = 2.1
    assert _absent(Config, data) == [
        "alerts.channels.TelegramSettings.base_url is absent",
        "rules.health.warning is 2.1, not its default",
    ]


def _undescribed(model: type[BaseModel], where: str) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        models = [field.annotation] if isinstance(field.annotation, type) else _element_models(field)
        nested = [one for one in models if isinstance(one, type) and issubclass(one, BaseModel)]
        tag = len(get_args(field.annotation)) == 1 and name == "kind"
        if not (field.description or tag or (nested and nested[0].__doc__)):
            found.append(f"{where}.{name}")
        for one in nested:
            found += _undescribed(one, f"{where}.{name}")
    return found


def test_every_key_says_what_it_is() -> None:
    assert _undescribed(Config, "") == []


def test_the_demo_needs_only_its_keys(project_root: Path) -> None:
    environ = {f"MARGIN_MONITOR_{name}_API_{part}": "x" for name in ("BINANCE", "HTX") for part in ("KEY", "SECRET")}
    accounts = load(project_root / "config" / "demo.yaml", environ).accounts
    assert [(account.name, account.venue) for account in accounts] == [("binance", "binance_usdm"), ("htx", "htx_coin_futures")]


def test_the_schema_knows_the_sources_of_secrets() -> None:
    schema = json_schema()
    account = schema["$defs"]["AccountConfig"]
    assert account["required"] == ["name", "venue"], "keys have default sources"
    assert account["properties"]["api_key"]["$ref"] == "#/$defs/SecretSource"
    assert schema["additionalProperties"] is False
    assert "writeOnly" not in str(schema), "every secret is a source"
    assert set(schema["properties"]) == set(Config.model_fields)


def test_the_schema_refers_only_to_what_it_defines() -> None:
    schema = json_schema()
    referred = set(re.findall(r"'#/\$defs/(\w+)'", str(schema)))
    assert referred <= set(schema["$defs"])
