"""`init`: what it writes is accepted, secrets get files of their own, and a refusal leaves nothing behind."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_kit import run, secret
from typer.testing import CliRunner

from monitor.cli import app
from monitor.config import load
from monitor.config_docs import schema_text
from monitor.init_config import Account, Channel, Plan, render
from monitor.model.secret import Secret

RUN = CliRunner()
KEY, SECRET = "canary-key-0123456789", "canary-secret-0123456789"
SLACK = "https://hooks.slack.com/services/T0/B0/canary"
TELEGRAM = "123456:" + "c" * 35
PAGERDUTY = "canary" + "0" * 26


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "k": KEY,
        "s": SECRET,
        "slack": SLACK,
        "telegram": TELEGRAM,
        "hook": "https://example.org/canary",
        "pd": PAGERDUTY,
    }.items():
        secret(tmp_path / name, text)
    return tmp_path


def init(*args: str, answers: str | None = None) -> tuple[int, str]:
    result = RUN.invoke(app, ["init", *args], input=answers)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "canary" not in result.output, "no secret on the screen"
    return result.exit_code, result.output


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


GIVEN = ["--no-input", "--venue", "htx_coin_futures", "--account", "coins", "--api-key-file", "k", "--api-secret-file", "s"]


def test_from_options(folder: Path) -> None:
    before = files(folder)
    code, out = init(
        *(*GIVEN, "--slack-url-file", "slack", "--telegram-token-file", "telegram", "--telegram-chat-id", "-100"),
        *(
            "--webhook-url-file",
            "hook",
            "--pagerduty-key-file",
            "pd",
            "--output",
            "etc/margin.yaml",
            "--listen",
            "127.0.0.1:9900",
        ),
    )
    assert code == 0, out
    assert files(folder) - before == {"etc/margin.yaml", "etc/margin.schema.json"}, "the secrets have their files already"
    config = load(Path("etc/margin.yaml"), {})
    assert [(a.name, a.venue, a.api_key.reveal(), a.api_secret.reveal()) for a in config.accounts] == [
        ("coins", "htx_coin_futures", KEY, SECRET)
    ]
    assert [channel.kind for channel in config.alerts.channels] == ["slack", "telegram", "pagerduty", "webhook"]
    assert config.web.listen == "127.0.0.1:9900"
    assert config.alerts.page_url == "http://127.0.0.1:9900/"
    assert re.search(r"check etc/margin.yaml .*\n.*run etc/margin.yaml", out), "the next two commands"
    assert "canary" not in Path("etc/margin.yaml").read_text()
    assert RUN.invoke(app, ["check-config", "etc/margin.yaml"]).exit_code == 0


def test_from_answers(folder: Path) -> None:
    before = files(folder)
    answers = [
        "3",
        "1",
        "a b",
        "main",
        KEY,
        SECRET,
        "http://nobody",
        SLACK,
        "no token",
        TELEGRAM,
        "here",
        "42",
        "no key",
        PAGERDUTY,
        "",
    ]
    code, out = init(answers="\n".join(answers))
    assert code == 0, out
    made = files(folder) - before
    assert made == {
        "config.yaml",
        "config.schema.json",
        *(
            f"secrets/{name}"
            for name in ("main_api_key", "main_api_secret", "slack_webhook_url", "telegram_bot_token", "pagerduty_routing_key")
        ),
    }
    for path in (folder / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    config = load(Path("config.yaml"), {})
    assert config.accounts[0].api_secret.reveal() == SECRET
    assert [channel.name for channel in config.alerts.channels] == ["slack", "telegram", "pagerduty"]
    assert out.count("that cannot be") == 3, "each wrong answer is asked again"


def test_a_typed_path_is_the_file_and_nothing_typed_is_left_out(folder: Path) -> None:
    code, out = init(answers=f"\n\n{folder}/nowhere\n{folder}/k\n./s\n\n\n\n")
    assert code == 0, out
    assert "there is no such file" in out
    config = load(Path("config.yaml"), {})
    assert (config.accounts[0].venue, config.accounts[0].name) == ("binance_usdm", "main"), "Enter takes what is offered"
    assert config.accounts[0].api_key.reveal() == KEY
    assert config.alerts.channels == ()
    assert not (folder / "secrets").exists()


def test_without_keys_their_default_sources_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    code, out = init("--no-input")
    assert code == 2
    assert "MARGIN_MONITOR_MAIN_API_KEY" in out
    assert files(folder) == before
    monkeypatch.setenv("MARGIN_MONITOR_MAIN_API_KEY", KEY)
    monkeypatch.setenv("MARGIN_MONITOR_MAIN_API_SECRET", SECRET)
    assert init("--no-input")[0] == 0


def test_where_others_reach_the_page_it_gets_a_token(folder: Path) -> None:
    assert init(*GIVEN, "--listen", "0.0.0.0:9877")[0] == 0
    config = load(Path("config.yaml"), {})
    assert config.web.token is not None
    assert len(config.web.token.reveal()) == 48
    assert config.alerts.page_url == "", "an address to listen on is none to open"


@pytest.mark.parametrize(
    ("args", "says", "why"),
    [
        (["--telegram-token-file", "telegram"], "both", "a token without a chat"),
        (["--telegram-chat-id", "1"], "both", "a chat without a token"),
        (["--api-key-file", "nowhere"], "nowhere", "a file that is not there"),
        (["--listen", "example.org"], "127.0.0.1:9877", "no address to listen on"),
        (["--venue", "kraken"], "binance_usdm, htx_coin_futures", "an unknown venue"),
        (["--account", "a b"], "accounts[0].name", "a name with a space"),
        (["--slack-url-file", "hook2"], "must be https", "a secret that its channel refuses"),
        (["--api-key-file", "open"], "chmod 600", "a secret that others can read"),
        (["--exchange", "nowhere"], "margin-monitor sim", "no exchange there"),
        (["--exchange", "slack"], "first line of `margin-monitor sim`", "something else there"),
        (["--output", "k/config.yaml"], "k: File exists", "no folder can be there"),
    ],
)
def test_refusals_leave_everything_as_it_was(folder: Path, args: list[str], says: str, why: str) -> None:
    secret(folder / "hook2", "http://example.org/canary")
    secret(folder / "open", KEY).chmod(0o644)
    before = files(folder)
    code, out = init(*GIVEN, "--output", "new/folder/config.yaml", *args)
    assert code in (1, 2), why
    assert says in re.sub(r"\s*│\s*|\s+", " ", out), why
    assert files(folder) == before, why
    assert not (folder / "new").exists(), why


def test_what_is_there_is_not_written_over(folder: Path) -> None:
    assert init(answers=f"1\nmain\n{KEY}\n{SECRET}\n\n\n\n")[0] == 0
    (folder / "config.yaml").write_text("mine")
    before = {name: (folder / name).read_text() for name in files(folder)}
    code, out = init(answers="1\nmain\nanother-key\nanother-secret\n\n\n\n")
    assert code == 2
    assert "--force" in out
    assert "secrets/main_api_key" in out, "all that is in the way"
    assert {name: (folder / name).read_text() for name in files(folder)} == before
    code, out = init("--force", answers="1\nmain\nanother-key\nanother-secret\n\n\n\n")
    assert code == 0, out
    assert load(folder / "config.yaml", {}).accounts[0].api_key.reveal() == "another-key"


def test_a_forced_write_that_is_refused_keeps_what_was(folder: Path) -> None:
    assert init(*GIVEN)[0] == 0
    before = {name: (folder / name).read_text() for name in files(folder)}
    assert init(*GIVEN, "--account", "a b", "--force")[0] == 2
    assert {name: (folder / name).read_text() for name in files(folder)} == before


async def test_an_exchange_that_has_just_been_started_is_waited_for(tmp_path: Path) -> None:
    """Only the first account of each venue, its state apart, and of one venue if that is named."""
    line = {
        "venues": {
            name: {"rest": "http://127.0.0.1:1", "streams": "ws://127.0.0.1:1", "api_key": "canary-key", "api_secret": "canary-s"}
            for name in ("binance_usdm", "htx_coin_futures")
        }
    }
    (tmp_path / "exchange.json").write_text("")
    import asyncio

    async def say() -> None:
        await asyncio.sleep(1.0)
        (tmp_path / "exchange.json").write_text(json.dumps(line) + "\n")

    saying = asyncio.create_task(say())
    code, out, err = await run("init", "--no-input", "--exchange", "exchange.json", "--output", "t/c.yaml", cwd=tmp_path)
    await saying
    assert code == 0, err
    assert "canary" not in out + err
    config = load(tmp_path / "t" / "c.yaml", {})
    assert [account.name for account in config.accounts] == ["binance", "htx"]
    assert config.venues.binance_usdm.spot == "http://127.0.0.1:1"
    assert config.store.file() == tmp_path / "t" / "state.sqlite3", "never the store of a real daemon"
    args = ("init", "--no-input", "--exchange", "exchange.json", "--venue", "htx_coin_futures", "--output", "u/c.yaml")
    assert (await run(*args, cwd=tmp_path))[0] == 0
    assert [account.name for account in load(tmp_path / "u" / "c.yaml", {}).accounts] == ["htx"]


def test_the_schema_is_the_committed_one(project_root: Path) -> None:
    committed = (project_root / "config" / "schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "write it anew: margin-monitor schema > config/schema.json"
    assert RUN.invoke(app, ["schema"]).output == committed
    assert (project_root / "config" / "example.yaml").read_text().startswith("# yaml-language-server: $schema=schema.json\n")


def known_to(schema: dict[str, Any], value: Any, where: dict[str, Any]) -> list[str]:
    """Keys of the value that the schema does not know: what an editor would underline."""
    while "$ref" in where:
        where = schema["$defs"][where["$ref"].rsplit("/", 1)[1]]
    options = where.get("oneOf") or where.get("anyOf")
    if options:
        return min((known_to(schema, value, one) for one in options), key=len)
    if isinstance(value, list):
        return [text for one in value for text in known_to(schema, one, where.get("items", {}))]
    if not isinstance(value, dict):
        return [] if where.get("type") not in ("object", "array") else [repr(value)]
    properties = where.get("properties", {})
    if not properties and where.get("additionalProperties"):
        return []
    missing = [f"-{name}" for name in where.get("required", []) if name not in value]
    unknown = [name for name in value if name not in properties]
    inner = [text for name, one in value.items() if name in properties for text in known_to(schema, one, properties[name])]
    return missing + unknown + inner


def test_editors_accept_what_is_written() -> None:
    schema = json.loads(schema_text())
    plan = Plan(
        accounts=(Account("main", "binance_usdm", Secret("k"), Path("/k")), Account("b", "htx_coin_futures")),
        channels=(Channel("telegram", "telegram", "bot_token", Secret("t"), {"chat_id": "1"}),),
        venues={"binance_usdm": dict.fromkeys(("rest", "spot", "streams"), "http://127.0.0.1:1")},
        store=Path("/x"),
    )
    text = render(plan, "config.yaml", "config.schema.json")
    assert text.startswith("# yaml-language-server: $schema=config.schema.json\n")
    assert known_to(schema, yaml.safe_load(text), schema) == []
    assert known_to(schema, {"accounts": [], "webb": {}}, schema) == ["webb"], "this test would notice"
    rules = yaml.safe_load(re.sub(r"^( *)#(?! )", r"\1", text, flags=re.MULTILINE))["rules"]
    assert set(rules["health"]) == {"warning", "high", "critical", "emergency", "liquidation"}, "what is offered in comments"
