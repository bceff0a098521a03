"""The program inside what the unit leaves it: system calls, address families, no memory that is writable and executable."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import errno
import json
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_prometheus.prometheus_kit import IN_CI, run
from deploy_systemd.unit_file import UNIT, one, service
from e2e.conftest_e2e import Receiver, receiver, until  # noqa: F401  a fixture

from monitor.sim import SimExchange

SANDBOX = Path(__file__).with_name("sandbox.py")
ASKED = ["mbind"]  # OpenBLAS asks for memory on a near node, and takes what it gets


@pytest.fixture(scope="session")
def library() -> str:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        reason = "libseccomp is not installed: apt-get install libseccomp2"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return name


@pytest.fixture(scope="session")
def calls() -> list[str]:
    """What the unit's SystemCallFilter= allows, by systemd's own sets."""
    text = run("systemd-analyze", "syscall-filter")
    sets: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), [])
        elif line.strip() and not line.strip().startswith("#"):
            current.append(line.strip())

    def members(name: str) -> set[str]:
        return set().union(*map(members, sets[name])) if name.startswith("@") else {name}

    first, *others = service("SystemCallFilter")
    allowed = members("@default").union(*map(members, first.split()))
    for value in others:
        assert value.startswith("~"), "further ones are taken away"
        allowed -= set().union(*map(members, value[1:].split()))
    return sorted(allowed)


def rules(folder: Path, calls: list[str], number: int, user: int | None) -> Path:
    families = [getattr(socket, name) for name in one("RestrictAddressFamilies").split()]
    path = folder / f"rules-{number}-{user}.json"
    path.write_text(json.dumps({"calls": calls, "families": families, "errno": number, "asked": ASKED, "user": user}))
    return path


PROBES = {
    "write and execute": ("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", errno.EPERM),
    "a netlink socket": ("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", errno.EAFNOSUPPORT),
    "another root": ("import os; os.chroot('/')", errno.EPERM),
    "the owner of a file": ("import os; os.chown('.', os.getuid(), -1)", errno.EPERM),
    "its own priority": ("import os; os.setpriority(os.PRIO_PROCESS, 0, 1)", errno.EPERM),
    "a socket": ("import socket; socket.socket()", 0),
    "a file": ("open('here', 'w').close()", 0),
}


@pytest.mark.parametrize("what", PROBES)
def test_the_sandbox_holds(what: str, library: str, calls: list[str], tmp_path: Path) -> None:
    code, refused = PROBES[what]
    catching = f"import sys\ntry:\n    {code}\nexcept OSError as exc:\n    sys.exit(exc.errno)"
    path = rules(tmp_path, calls, errno.EPERM, None)
    done = subprocess.run(
        [sys.executable, str(SANDBOX), library, str(path), sys.executable, "-c", catching], cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == refused


def test_a_refused_call_may_also_end_it(library: str, calls: list[str], tmp_path: Path) -> None:
    path = rules(tmp_path, calls, 0, None)
    code = "import os; os.chroot('/')"
    done = subprocess.run([sys.executable, str(SANDBOX), library, str(path), sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGSYS


def user_namespaces() -> bool:
    code = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"
    return subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def sample_config(folder: Path, exchange: SimExchange, channel: dict[str, Any]) -> Path:
    """The unit's own configuration; the exchange, the chat and the port are elsewhere."""
    data = yaml.safe_load(UNIT.with_name("config.yaml").read_text())
    venue = exchange.first_line()["venues"]["binance_usdm"]
    rest, streams = (venue[key].replace("127.0.0.1", "localhost") for key in ("rest", "streams"))  # a name that is looked up
    data["venues"] = {"binance_usdm": {"rest": rest, "spot": rest, "streams": streams}}
    data["web"] = {"listen": "127.0.0.1:0"}
    data["alerts"]["channels"][0] |= channel
    path = folder / "config.yaml"
    path.write_text(json.dumps(data))
    return path


@contextlib.asynccontextmanager
async def confined(library: str, path: Path, config: Path, environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, str(SANDBOX), library, str(path), sys.executable, "-m", "monitor", "run", str(config)]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("strict", [False, True], ids=["refused-as-in-the-unit", "dies-of-a-refused-call"])
async def test_it_works_confined(
    strict: bool,
    library: str,
    calls: list[str],
    tmp_path: Path,
    receiver: Receiver,  # noqa: F811
) -> None:
    if strict and not user_namespaces():
        pytest.skip("SQLite changes owners for root only, and this kernel lets nobody be somebody else in a user namespace")
    assert one("SystemCallErrorNumber") == "EPERM"
    path = rules(tmp_path, calls, 0 if strict else errno.EPERM, 61_000 if strict else None)
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        said: list[str] = []

        def heard(start: str, since: int = 0) -> bool:
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(manager.recv(65536).decode())
            return any(word.startswith(start) for word in said[since:])

        async with SimExchange("crash", 7, tick_seconds=0.2) as exchange:
            venue = exchange.first_line()["venues"]["binance_usdm"]
            config = sample_config(tmp_path, exchange, {"allow_insecure": True})
            for name, text in (
                ("main_api_key", venue["api_key"]),
                ("main_api_secret", venue["api_secret"]),
                ("slack_url", f"{receiver.url}/services/T000"),
            ):
                (credentials / name).write_text(text)
            environ = {  # what systemd gives, and no more
                "CREDENTIALS_DIRECTORY": str(credentials),
                "STATE_DIRECTORY": str(state),
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "2000000",
                "PYTHONFAULTHANDLER": "1",
            }
            async with confined(library, path, config, environ) as process:
                await until(lambda: process.returncode is not None or heard("READY=1"), "ready", 60)
                if process.returncode is not None:
                    pytest.fail(f"{process.returncode}: {(await process.communicate())[1].decode()}")
                await until(lambda: heard("STATUS=1 pool, worst: "), "a figure", 60)
                await until(lambda: bool(receiver.slack), "an alert on the chat", 60)
                await until(lambda: heard("WATCHDOG=1"), "fed")
                assert (state / "margin-monitor.sqlite3").stat().st_size > 0
                before = len(said)
                process.send_signal(signal.SIGHUP)
                await until(lambda: heard("RELOADING=1", before) and heard("READY=1", before), "reloaded", 60)
                process.send_signal(signal.SIGTERM)
                _, errors = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 0, errors.decode()
                assert b"Traceback" not in errors
