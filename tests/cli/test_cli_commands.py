"""The commands as a user starts them: real processes, exit codes, first lines, signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "monitor"]
CONFIG = """\
accounts:
  - name: main
    venue: binance_usdm
    api_key: {{env: KEY}}
    api_secret: {{env: SECRET}}
venues:
  binance_usdm: {{rest: "{rest}", spot: "{rest}", streams: "{streams}"}}
web: {{listen: "127.0.0.1:{port}"}}
store: {{path: "{folder}/store.sqlite3"}}
"""


def start(*args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  loopback
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()


def wait_for(url: str, status: int, process: subprocess.Popen[str], seconds: float = 30) -> str:
    deadline = time.monotonic() + seconds
    text = ""
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            code, text = get(url)
            if code == status:
                return text
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{url} did not answer {status} within {seconds} s: {text}")


@pytest.fixture
def sim() -> Iterator[dict[str, str]]:
    """`margin-monitor sim` as its own process; its first line says how to connect."""
    process = start("sim", "--port", "0", "--scenario", "crash", "--seed", "7")
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    yield line["venues"]["binance_usdm"]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_version(asked: str) -> None:
    done = subprocess.run([*COMMAND, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("margin-monitor 0.")


def test_the_simulators_first_line_is_json(sim: dict[str, str]) -> None:
    assert set(sim) == {"rest", "streams", "api_key", "api_secret"}
    assert get(f"{sim['rest']}/fapi/v1/ping") == (200, "{}")


def test_run_watches_reloads_and_ends(sim: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "config.yaml"
    good = CONFIG.format(rest=sim["rest"], streams=sim["streams"], port=port, folder=tmp_path)
    path.write_text(good)
    process = start("run", str(path), env={"KEY": sim["api_key"], "SECRET": sim["api_secret"]})
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{base}/-/ready", 200, process)
        assert 'margin_pool_health{account="main"' in get(f"{base}/metrics")[1]
        path.write_text(good + "rules: {helth: {}}\n")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "margin_config_last_reload_successful 0" not in get(f"{base}/metrics")[1]:
            assert time.monotonic() < deadline, "a bad configuration must be said"
            time.sleep(0.1)
        assert get(f"{base}/-/ready")[0] == 200, "and the old one stays in force"
        path.write_text(good + "rules: {health: {critical: 1.25}}\n")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        wait_for(f"{base}/-/ready", 200, process)
        assert "margin_config_last_reload_successful 1" in get(f"{base}/metrics")[1]
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in out + err
    assert "helth" in out + err
    assert sim["api_secret"] not in out + err


def test_a_reload_that_cannot_start_falls_back_and_a_hanging_exchange_does_not_hold_up_the_end(
    sim: dict[str, str], tmp_path: Path
) -> None:
    """The new address is taken: the old configuration is in force again. Then one whose exchange accepts and never answers."""
    port, other = free_port(), socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen(16)
    taken = other.getsockname()[1]
    path = tmp_path / "config.yaml"
    good = CONFIG.format(rest=sim["rest"], streams=sim["streams"], port=port, folder=tmp_path)
    path.write_text(good)
    process = start("run", str(path), env={"KEY": sim["api_key"], "SECRET": sim["api_secret"]})
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{base}/-/ready", 200, process)
        path.write_text(good.replace(f'listen: "127.0.0.1:{port}"', f'listen: "127.0.0.1:{taken}"'))
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the old configuration must be in force again, and say so"
            with contextlib.suppress(OSError):
                if "margin_config_last_reload_successful 0" in get(f"{base}/metrics")[1]:
                    break
            time.sleep(0.1)
        wait_for(f"{base}/-/ready", 200, process)
        silent = f"http://127.0.0.1:{taken}"
        path.write_text(CONFIG.format(rest=silent, streams=silent.replace("http", "ws"), port=port, folder=tmp_path))
        process.send_signal(signal.SIGHUP)
        wait_for(f"{base}/-/ready", 503, process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert time.monotonic() - began < 10, "TERM ends it within 10 s, whatever the exchange does"
        assert "Traceback" not in out + err
    finally:
        other.close()
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_check_config_says_all_errors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("accounts:\n  - name: a b\n    venue: binance_usdm\n    api_key: {env: NOT_THERE}\nwebb: {}\n")
    for command in ("check-config", "run"):
        done = subprocess.run([*COMMAND, command, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count(str(path)) >= 3
        assert "webb" in done.stderr
        assert "did you mean" in done.stderr.lower() or "web" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args", [["run"], ["run", "/nowhere/config.yaml"], ["fly"], ["sim", "--scenario", "war"], ["demo", "--scenario", "x"]]
)
def test_wrong_usage_exits_with_2(args: list[str]) -> None:
    done = subprocess.run([*COMMAND, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("listen", "says", "why"),
    [
        ("nonsense", "--listen", "no address: the option is named, no file of ours"),
        ("127.0.0.1:99999", "--listen", "no port"),
        ("0.0.0.0:9877", "loopback", "the demo has no token"),
    ],
)
def test_an_address_that_the_demo_cannot_have(listen: str, says: str, why: str) -> None:
    done = subprocess.run([*COMMAND, "demo", "--listen", listen], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2, why
    assert says in done.stderr, why
    assert "demo.yaml" not in done.stderr, why


def test_a_taken_port_is_explained(tmp_path: Path, sim: dict[str, str]) -> None:
    port = sim["rest"].rsplit(":", 1)[1]
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(rest=sim["rest"], streams=sim["streams"], port=port, folder=tmp_path))
    done = subprocess.run(
        [*COMMAND, "run", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "KEY": sim["api_key"], "SECRET": sim["api_secret"]},
    )
    assert done.returncode == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_of_the_demo_is_explained_by_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        done = subprocess.run([*COMMAND, "demo", "--listen", listen], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"hint: is another one running? set --listen to another port than {listen}\n" in done.stderr
    assert "web.listen" not in done.stderr, "the demo has no configuration to set that in"


def test_the_demo_shows_figures_and_ends_by_itself() -> None:
    port = free_port()
    began = time.monotonic()
    process = start("demo", "--seconds", "8", "--listen", f"127.0.0.1:{port}")
    try:
        text = wait_for(f"http://127.0.0.1:{port}/-/ready", 200, process)
        assert time.monotonic() - began < 10, "first live figures within 10 s"
        assert json.loads(text)["ready"]
    finally:
        out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert "health" in out
    assert "Traceback" not in err


def test_ctrl_c_ends_the_demo_with_0() -> None:
    port = free_port()
    process = start("demo", "--listen", f"127.0.0.1:{port}")
    wait_for(f"http://127.0.0.1:{port}/-/healthy", 200, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, (out, err)
    assert "Traceback" not in err
