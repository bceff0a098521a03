"""Prometheus, Alertmanager and other programs as they are installed: found, run, asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

IN_CI = bool(os.environ.get("CI"))
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "buildah": "buildah",
    "systemd-analyze": "systemd",
}
DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "margin-monitor.rules.yml"
T = TypeVar("T")


def tool(name: str) -> str:
    """Its path; without it the test fails under CI and is skipped elsewhere."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is not installed: apt-get install {PACKAGES[name]}"
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def run(name: str, *arguments: str | Path, text: str | None = None) -> str:
    """What it says; a bad exit fails the test with it."""
    done = subprocess.run([tool(name), *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def process(folder: Path, name: str, *arguments: str) -> Iterator[None]:
    """Runs until the block ends; its words are in the folder."""
    with (folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen([tool(name), *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            yield
            assert child.poll() is None, (folder / f"{name}.log").read_text()
        finally:
            child.terminate()
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_for(what: str, ask: Callable[[], T], seconds: float = 30.0) -> T:
    """The first true answer; an error is none."""
    until, last = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        try:
            if answer := ask():
                return answer
        except (OSError, ValueError) as exc:
            last = str(exc)
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {what} {last}")


def get(url: str, **query: str | float) -> Any:
    """The JSON of an answer. OSError where there is none."""
    full = f"{url}?{urlencode(query)}" if query else url
    with urlopen(full, timeout=10) as answer:  # noqa: S310  an address of our own
        body = answer.read()
    return json.loads(body) if body[:1] in (b"{", b"[") else body.decode()
