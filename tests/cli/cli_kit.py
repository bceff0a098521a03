"""Commands as processes, and the start of a configuration for a simulated exchange."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from monitor.sim.exchange import SimExchange


async def run(*args: str, stdin: str = "", cwd: Path | None = None, **environ: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command; an error is never a traceback."""
    env = {**os.environ, "COLUMNS": "200", **environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "monitor", *args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
        cwd=cwd,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out.decode(), err.decode()


def written(folder: Path, exchange: SimExchange, **over: Any) -> Path:
    """A configuration of both accounts of the exchange, with their keys in files; `over` goes over its sections."""
    venues = exchange.first_line()["venues"]
    accounts = []
    for venue, it in venues.items():
        for part in ("api_key", "api_secret"):
            secret(folder / f"{venue}_{part}", it[part])
        sources = {part: {"file": f"{venue}_{part}"} for part in ("api_key", "api_secret")}
        accounts.append({"name": venue.split("_")[0], "venue": venue, **sources})
    config = {
        "accounts": accounts,
        "venues": {name: {"rest": it["rest"], "spot": it["rest"], "streams": it["streams"]} for name, it in venues.items()},
        "web": {"listen": "127.0.0.1:0"},
        "store": {"path": str(folder / "store.sqlite3")},
        **over,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def secret(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path
