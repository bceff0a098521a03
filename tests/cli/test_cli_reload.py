"""`POST /-/reload` of a real daemon: a bad configuration changes nothing and says why, a good one is in force at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession
from cli_kit import written

from monitor.sim.exchange import SimExchange

BAD = {
    "an unknown key": (lambda config: {**config, "webb": {}}, "webb: unknown key"),
    "a ladder that is not monotone": (lambda config: {**config, "rules": {"health": {"warning": 1.4}}}, "rules.health.warning"),
    "no account any more": (lambda config: {**config, "accounts": []}, "accounts: is empty"),
    "a secret that is gone": (
        lambda config: {**config, "accounts": [{**config["accounts"][0], "api_key": {"file": "gone"}}]},
        "cannot be read",
    ),
}


class Daemon:
    def __init__(self, url: str, path: Path, session: ClientSession) -> None:
        self.url, self.path, self._session = url, path, session

    def write(self, config: dict[str, Any]) -> None:
        self.path.write_text(yaml.safe_dump(config))

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def reload(self) -> tuple[int, dict[str, Any]]:
        async with self._session.post(f"{self.url}/-/reload") as answer:
            return answer.status, json.loads(await answer.text())

    async def loaded_ms(self) -> int | None:
        """When the configuration in force was loaded; None while nobody answers."""
        try:
            loaded_ms: int = json.loads((await self.get("/api/v1/status"))[1])["config"]["loaded_ms"]
        except (ClientError, OSError):
            return None
        return loaded_ms

    async def until(self, path: str, status: int, words: str = "", seconds: float = 40) -> None:
        said: Any = "nothing"
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        said = await self.get(path)
                        if said[0] == status and words in said[1]:
                            return
                    except (ClientError, OSError):
                        pass
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{path} did not answer {status} {words}: {said}")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{sock.getsockname()[1]}"
    async with SimExchange("calm", 7, htx_accounts=()) as exchange, ClientSession() as session:
        path = written(tmp_path, exchange, web={"listen": listen, "reload_enabled": True})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "monitor", "run", str(path)), stderr=asyncio.subprocess.PIPE, env={**os.environ}
        )
        daemon = Daemon(f"http://{listen}", path, session)
        try:
            await daemon.until("/-/ready", 200)
            yield daemon
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                _, err = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in err


async def test_bad_ones_are_refused_and_a_good_one_is_taken(daemon: Daemon) -> None:
    good = yaml.safe_load(daemon.path.read_text())
    for why, (spoil, says) in BAD.items():
        daemon.write(spoil(good))
        status, answer = await daemon.reload()
        assert (status, answer["reloaded"]) == (422, False), why
        assert says in " ".join(answer["errors"]), why
        assert (await daemon.get("/-/ready"))[0] == 200, why
        assert "margin_config_last_reload_successful 0" in (await daemon.get("/metrics"))[1], why
    # The pool's health is about 2.7: a warning at 5 is seen at once, if this configuration is the one in force.
    daemon.write({**good, "rules": {"health": {"warning": 5}}})
    assert await daemon.reload() == (200, {"reloaded": True, "errors": []})
    await daemon.until("/metrics", 200, "margin_config_last_reload_successful 1")
    await daemon.until("/api/v1/alerts", 200, "is at or below 5")


async def test_it_is_off_unless_it_is_switched_on(daemon: Daemon) -> None:
    good = yaml.safe_load(daemon.path.read_text())
    daemon.write({**good, "web": {**good["web"], "reload_enabled": False}})
    before = await daemon.loaded_ms()
    assert (await daemon.reload())[0] == 200
    async with asyncio.timeout(40):
        while await daemon.loaded_ms() in (None, before):  # noqa: ASYNC110  until the new one answers
            await asyncio.sleep(0.05)
    status, answer = await daemon.reload()
    assert (status, "HUP" in answer["hint"]) == (403, True)
