"""The image, built and run: buildah makes it of the Containerfile, and the daemon in it watches a simulated exchange.

Its base is this machine's Python (image_kit), its packages come from where this machine's pip has them, by their hashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession
from deploy_container.image_kit import CONTAINERFILE, PROJECT, Buildah, python_root
from deploy_prometheus.prometheus_kit import free_port, get, process, tool, wait_for
from e2e.conftest_e2e import Receiver, receiver, until  # noqa: F401  a fixture

from monitor import __version__
from monitor.sim import SimExchange

TOKEN = "the-token-of-the-page-of-this-test"
USER = 10001


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    if os.getuid() != 0:
        pytest.skip("only root may run it as another user")
    folder = tmp_path / "b"
    folder.mkdir()
    one = Buildah(tool("buildah"), folder)
    before = os.umask(0o022)  # the folders of the base are for everybody
    try:
        python_root(folder / "base")
    finally:
        os.umask(before)
    one.base("base", folder / "base")
    container = one("from", "--pull-never", "base")
    allowed = subprocess.run(
        [*one.start, "run", container, "--", "python", "-c", ""],
        env=one.environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if allowed.returncode:
        pytest.skip(f"this machine lets buildah run nothing: {allowed.stderr.strip()[-300:]}")
    one("rm", container)
    yield one
    one("rm", "--all")
    one("rmi", "--all", "--force")
    shutil.rmtree(folder)  # 300 MB


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """What the locks name, checked against their hashes."""
    folder = tmp_path / "w" / "wheels"
    locks = [f"--requirement={PROJECT / name}" for name in ("requirements.lock", "requirements-build.lock")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:", *locks]
    done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def check_says(config: dict[str, Any]) -> None:
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] + config["Cmd"] == ["margin-monitor", "run", "/etc/margin-monitor/config.yaml"]
    assert config["Healthcheck"]["Test"] == ["CMD", "margin-monitor", "healthcheck"]
    assert config["Volumes"].keys() == {config["WorkingDir"]} == {"/var/lib/margin-monitor"}
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.revision"] == "of-a-test"


PROBE = """
import json, os, pathlib, shutil
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
def writable(path):
    try:
        pathlib.Path(path, "x").touch()
    except OSError:
        return False
    return True
print(json.dumps({
    "user": os.getuid(), "capabilities": int(status["CapEff"], 16), "folder": os.getcwd(),
    "shells": [name for name in ("sh", "bash", "dash", "busybox") if shutil.which(name)],
    "writable": [path for path in ("/", "/opt/margin-monitor", "/etc", "/usr", "/var/lib/margin-monitor") if writable(path)],
    "pip": [str(path) for path in pathlib.Path("/opt/margin-monitor").rglob("pip*") if path.is_dir()],
}))
"""


def check_inside(buildah: Buildah, container: str) -> None:
    assert buildah("run", container, "--", "margin-monitor", "version").startswith(f"margin-monitor {__version__}")
    found = json.loads(buildah("run", container, "--", "python", "-c", PROBE))
    assert found == {
        "user": USER,
        "capabilities": 0,
        "folder": "/var/lib/margin-monitor",
        "shells": [],
        "writable": ["/var/lib/margin-monitor"],
        "pip": [],
    }


def sample_config(path: Path, exchange: SimExchange) -> None:
    """The configuration of the compose file; the exchange is elsewhere, local receivers are allowed, the port is free."""
    data = yaml.safe_load((CONTAINERFILE.parent / "config.yaml").read_text())
    venue = exchange.first_line()["venues"]["binance_usdm"]
    data["venues"] = {"binance_usdm": {"rest": venue["rest"], "spot": venue["rest"], "streams": venue["streams"]}}
    data["web"]["listen"] = data["web"]["listen"].replace(":9877", ":0")
    data["alerts"]["channels"][0]["allow_insecure"] = True
    path.write_text(json.dumps(data))
    path.chmod(0o644)


def secrets(folder: Path, **texts: str) -> Path:
    """As deploy/docs/container.md has them made: for the user of the image, and nobody else."""
    folder.mkdir()
    folder.chmod(0o711)
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o440)
        os.chown(folder / name, USER, USER)
    return folder


@contextlib.asynccontextmanager
async def started(command: list[str], environ: dict[str, str] | None = None) -> AsyncIterator[tuple[Process, list[str]]]:
    """A process and the lines of its standard error, as they come."""
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=PIPE, stderr=PIPE, start_new_session=True)
    lines: list[str] = []

    async def read() -> None:
        assert process.stderr
        while line := await process.stderr.readline():
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        yield process, lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        reading.cancel()


def listens_at(lines: list[str]) -> int:
    """The port of the page, as the log tells it; 0: it has not told it yet."""
    return next((int(match[1]) for line in lines if (match := re.search(r'"url":"http://\S+?:(\d+)/"', line))), 0)


async def asked(url: str, host: str, token: str = "") -> int:
    headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status


def check_scraped(folder: Path, port: int, token_file: Path) -> None:
    """By the Prometheus of the compose file: its configuration, but for the names and the pace."""
    data = yaml.safe_load((CONTAINERFILE.parent / "prometheus.yml").read_text())
    (job,) = data["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/web_token"
    job["authorization"]["credentials_file"] = str(token_file)
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    del data["alerting"], data["rule_files"]
    data["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(data))
    own = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={own}"]

    def scraped() -> Any:
        return get(f"http://{own}/api/v1/query", query='margin_pool_health{job="margin-monitor"}')["data"]["result"]

    with process(folder, "prometheus", *options):
        wait_for("the daemon's figures", scraped, 60)


def daemon_of(leader: int) -> tuple[int, int]:
    """(process, user) of the daemon that the session of `leader` runs. Its own process tree: another test may run one too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
            if session == leader and b"/opt/margin-monitor/bin/margin-monitor" in words and words[0].endswith(b"python"):
                found.append((int(folder.name), folder.stat().st_uid))
    (one,) = found
    return one


@pytest.mark.timeout(600)
async def test_the_image_is_built_and_its_daemon_works(
    buildah: Buildah,
    wheels: Path,
    tmp_path: Path,
    receiver: Receiver,  # noqa: F811
) -> None:
    await asyncio.to_thread(buildah.build, "localhost/base", "margin-monitor", wheels, VERSION=__version__, REVISION="of-a-test")
    config = buildah.config("margin-monitor")
    check_says(config)
    container = buildah("from", "--pull-never", "margin-monitor")
    check_inside(buildah, container)
    async with SimExchange("crash", 7, tick_seconds=0.2) as exchange:
        venue = exchange.first_line()["venues"]["binance_usdm"]
        sample_config(tmp_path / "config.yaml", exchange)
        folder = secrets(
            tmp_path / "secrets",
            main_api_key=venue["api_key"],
            main_api_secret=venue["api_secret"],
            slack_url=f"{receiver.url}/services/T000",
            web_token=TOKEN,
        )
        mounts = [f"--volume={tmp_path}/config.yaml:/etc/margin-monitor/config.yaml:ro", f"--volume={folder}:/run/secrets:ro"]
        run = [
            "run",
            *mounts,
            "--env=ALERTMANAGER_URL=http://127.0.0.1:1",
            container,
            "--",
            *config["Entrypoint"],
            *config["Cmd"],
        ]
        async with started([*buildah.start, *run], buildah.environ) as (command, lines):
            await until(lambda: command.returncode is not None or bool(listens_at(lines)), "it listens", 60)
            assert command.returncode is None, "".join(lines)
            port = listens_at(lines)
            url = f"http://127.0.0.1:{port}"

            assert await asked(f"{url}/-/healthy", f"margin-monitor:{port}") == 200
            assert await asked(f"{url}/metrics", f"margin-monitor:{port}") == 401
            assert await asked(f"{url}/metrics", f"margin-monitor:{port}", TOKEN) == 200, "as Prometheus asks it"
            assert await asked(f"{url}/metrics", f"another-name:{port}", TOKEN) == 403

            def inside(*args: str) -> subprocess.CompletedProcess[str]:
                command = [
                    *buildah.start,
                    "run",
                    *mounts[1:],
                    container,
                    "--",
                    "margin-monitor",
                    "healthcheck",
                    "--url",
                    url,
                    *args,
                ]
                return subprocess.run(command, env=buildah.environ, capture_output=True, text=True, timeout=60, check=False)

            assert (await asyncio.to_thread(inside)).stdout == "alive\n"
            token = ["--ready", "--token-file", "/run/secrets/web_token"]
            async with asyncio.timeout(90):
                while (ready := await asyncio.to_thread(inside, *token)).stdout != "ready\n":
                    assert "not ready" in ready.stderr, ready.stderr
            await asyncio.to_thread(check_scraped, tmp_path, port, folder / "web_token")
            await until(lambda: bool(receiver.slack), "an alert on the chat", 60)

            pid, user = daemon_of(command.pid)
            assert user == USER
            os.kill(pid, signal.SIGTERM)
            assert await asyncio.wait_for(command.wait(), 60) == 0, "".join(lines[-20:])
            assert "Traceback" not in "".join(lines)
    assert (await asyncio.to_thread(inside)).returncode == 1, "nobody is there any more"
