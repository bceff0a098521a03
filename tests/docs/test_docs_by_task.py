"""The documents say what is so: commands and options exist, settings load, links lead somewhere, the trial works as written."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from monitor.alerts.channels import webhook
from monitor.cli import app
from monitor.config import load

FOLDER = Path(__file__).resolve().parent.parent.parent / "deploy" / "docs"
PAGES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`(margin-monitor [^`]+)`")


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """(what stands behind the language, the text) of each fenced block."""
    return [(mark.strip(), text) for lang, mark, text in BLOCK.findall(page.read_text(encoding="utf-8")) if lang == language]


def commands() -> Iterator[tuple[str, str]]:
    """(page, command line) of all that begins with margin-monitor, in blocks and in the text."""
    for page in PAGES:
        for _, text in blocks(page, "sh"):
            for line in text.splitlines():
                for part in re.split(r"&&|\|", line):
                    if part.strip().startswith("margin-monitor "):
                        yield page.name, part.strip()
        for line in CODE.findall(page.read_text(encoding="utf-8")):
            yield page.name, line.replace("…", "")


COMMANDS = sorted(set(commands()))


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}" for page, line in COMMANDS])
def test_commands_and_options_exist(page: str, line: str) -> None:
    name, *rest = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    command: Any = get_command(app).commands.get(name)  # type: ignore[attr-defined]
    assert command is not None, f"{page} names the command {name}"
    options = {text: param for param in command.params for text in (*param.opts, *param.secondary_opts)}
    given = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            given.append(word)
            continue
        assert word in options, f"{page}: {name} has no {word}"
        if not options[word].is_flag and rest:
            rest.pop(0)
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    assert len(given) <= len(arguments) or any(param.nargs == -1 for param in arguments), line


def test_every_page_is_in_the_index() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert f'<a id="{anchor}"></a>' in there.read_text(encoding="utf-8"), f"{page.name} links to {target}"


SECRETS = {
    "slack.url": "https://hooks.slack.com/services/T0/B0/x",
    "telegram.token": "123456:" + "t" * 35,
    "pagerduty.key": "k" * 32,
    "webhook.url": "https://hooks.example.org/x",
    "alertmanager.url": "http://127.0.0.1:9093",
}
TASKS = ("binance.md", "htx.md", "slack.md", "telegram.md", "pagerduty.md", "webhook.md", "alertmanager.md")
SETTINGS = [(name, text) for name in TASKS for _, text in blocks(FOLDER / name, "yaml")]


@pytest.mark.parametrize(("page", "text"), SETTINGS, ids=[f"{page} {i}" for i, (page, _) in enumerate(SETTINGS)])
def test_settings_load(page: str, text: str, tmp_path: Path) -> None:
    for name in {*re.findall(r"file: ([\w.]+)", text), "k", "s"}:
        (tmp_path / name).write_text(SECRETS.get(name, "x" * 20))
        (tmp_path / name).chmod(0o600)
    account = {"name": "main", "venue": "binance_usdm", "api_key": {"file": "k"}, "api_secret": {"file": "s"}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"accounts": [account], **yaml.safe_load(text)}, allow_unicode=True))
    load(path, {})


def test_the_webhooks_page_names_every_key_of_the_body() -> None:
    body = str(webhook.__doc__)
    named = set(re.findall(r"`(?:alerts\[\]|)\.?(\w+)(?:\[\]|)`", (FOLDER / "webhook.md").read_text(encoding="utf-8")))
    keys = set(re.findall(r'"(\w+)"(?=[:,}\]])', body)) - {"first", "critical", "ok", "down"}  # values
    assert len(keys) > 40
    assert keys - named - {"alerts"} == set()


def _trial() -> list[str]:
    """The commands of the first block that is marked `try`, as they stand in the page."""
    ((_, text),) = [block for block in blocks(FOLDER / "first-ten-minutes.md", "sh") if block[0] == "try"]
    return text.strip().splitlines()


def test_the_trial_works_as_written_from_an_empty_folder(tmp_path: Path) -> None:
    """Each line by a shell; only the port of the page is another one, for several tests may run here at once."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "margin-monitor").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m monitor "$@"\n')
    (tmp_path / "bin" / "margin-monitor").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path), "COLUMNS": "100"}
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{sock.getsockname()[1]}"
    lines = [f"{line} --listen {listen}" if " init " in line else line for line in _trial()]
    assert len(lines) <= 5
    first, *between, last = lines
    running = [subprocess.Popen(["sh", "-c", f"exec {first}"], cwd=work, env=env, stderr=subprocess.PIPE)]
    try:
        for line in between:
            done = subprocess.run(["sh", "-c", line], cwd=work, env=env, capture_output=True, text=True, timeout=90, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        running.append(subprocess.Popen(["sh", "-c", f"exec {last}"], cwd=work, env=env, stderr=subprocess.PIPE))
        status: dict[str, Any] = {"ready": False}
        deadline = time.monotonic() + 60
        while not status["ready"]:
            assert time.monotonic() < deadline, status
            assert running[-1].poll() is None, running[-1].communicate()
            try:
                with urllib.request.urlopen(f"http://{listen}/api/v1/status", timeout=5) as answer:
                    status = json.load(answer)
            except OSError:
                pass
            time.sleep(0.1)
        assert {pool["venue"] for pool in status["pools"]} == {"binance_usdm", "htx_coin_futures"}
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGINT)
        for process in running:
            process.communicate(timeout=30)
    assert [process.returncode for process in running] == [0, 0]
    assert {path.name for path in (tmp_path).iterdir()} <= {"bin", "work"}, "nothing is left elsewhere, not even in HOME"
