"""Canaries in every secret field, and the daemon at debug level through all that may make it talk: nobody ever hears one.

What is searched: the log, every HTTP answer, the store with its write-ahead log, every message as it arrived (not the address
and the header that it must be sent with), what check-config prints. What is searched for: each canary as it is, as it stands
in a URL, in base64 and in hex; listen keys; signed queries.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import re
import secrets
import signal
import string
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web
from conftest_e2e import until
from faults_out_kit import HURRIED, RULES, Daemon, free_port, plunge

from monitor.sim import SimHtxAccount
from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange

LETTERS = string.ascii_letters + string.digits
FORMS = {
    "as it is": lambda text: text,
    "quoted": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "hex": lambda text: text.encode().hex(),
}


def canary(length: int = 40) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(length))


class Canaries:
    """One for each secret field of the configuration."""

    def __init__(self) -> None:
        self.binance_key, self.binance_secret = canary(64), canary(64)
        self.htx_key, self.htx_secret = "-".join(canary(8) for _ in range(4)), "-".join(canary(8) for _ in range(4))
        self.slack, self.telegram, self.webhook, self.bearer = canary(24), canary(35), canary(), canary() + "/+=="
        self.alertmanager, self.password, self.heartbeat, self.web = canary(), canary() + "&%", canary(), canary()

    def all(self) -> dict[str, str]:
        return dict(vars(self))

    def heard_in(self, text: str, also: dict[str, str]) -> list[str]:
        """Names of what is in the text, with the form."""
        return [
            f"{name} {form}"
            for name, secret in {**self.all(), **also}.items()
            for form, written in FORMS.items()
            if written(secret) in text
        ]


class Gossip:
    """Receivers that repeat to the sender whatever he sent, secrets included, with every status there is."""

    STATUSES = (200, 400, 401, 403, 404, 410, 429, 500, 503, 302)

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[str] = []
        self.bodies: list[str] = []
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        self.paths.append(request.path)
        self.headers.append(str(dict(request.headers)))
        self.bodies.append(body)
        echo = f"{request.url} {dict(request.headers)}"
        headers = {"Location": str(request.url), "X-Echo": request.path}
        reply = {"ok": self.status == 200, "description": echo, "error": echo}
        return web.json_response(reply, status=self.status, headers=headers)


@pytest.fixture
async def gossip() -> AsyncIterator[Gossip]:
    one = Gossip()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


def exchange(canaries: Canaries) -> SimExchange:
    binance = SimAccount(
        "main",
        wallets={"USDT": 50_000},
        positions=[SimPosition("BTCUSDT", "4")],
        api_key=canaries.binance_key,
        api_secret=canaries.binance_secret,
    )
    htx = SimHtxAccount("main", coins={"BTC": 1}, api_key=canaries.htx_key, api_secret=canaries.htx_secret)
    return SimExchange("calm", 7, accounts=[binance], htx_accounts=[htx], noise=0.0)


def configuration(there: SimExchange, canaries: Canaries, gossip: Gossip, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Secrets from all four sources: file, environment, credential, and the configuration itself."""
    venues = there.first_line()["venues"]
    credentials = folder / "credentials"
    credentials.mkdir()
    for name, text in (("htx_secret", canaries.htx_secret), ("telegram", f"123456789:{canaries.telegram}")):
        (credentials / name).write_text(text)
        (credentials / name).chmod(0o600)
    (folder / "slack").write_text(f"{gossip.url}/services/T1/B1/{canaries.slack}")
    (folder / "slack").chmod(0o600)
    binance, htx = venues["binance_usdm"], venues["htx_coin_futures"]
    insecure = {"allow_insecure": True}
    config: dict[str, Any] = {
        "accounts": [
            {"name": "main", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": canaries.binance_secret},
            {
                "name": "coins",
                "venue": "htx_coin_futures",
                "api_key": {"env": "HTX_KEY"},
                "api_secret": {"credential": "htx_secret"},
            },
        ],
        "venues": {
            "binance_usdm": {
                "rest": binance["rest"],
                "spot": binance["rest"],
                "streams": binance["streams"],
                "auth_retry_s": 0.5,
            },
            "htx_coin_futures": {"rest": htx["rest"], "spot": htx["rest"], "streams": htx["streams"], "auth_retry_s": 0.5},
        },
        "web": {"listen": f"127.0.0.1:{free_port()}", "token": canaries.web, "reload_enabled": True},
        "store": {"path": str(folder / "store.sqlite3")},
        "log": {"level": "debug", "format": "json"},
        "rules": RULES,
        "heartbeat": {"url": f"{gossip.url}/ping/{canaries.heartbeat}", "period_s": 1, **insecure},
        "alerts": {
            "channels": [
                {"kind": "slack", "name": "slack", "webhook_url": {"file": str(folder / "slack")}, **insecure},
                {
                    "kind": "telegram",
                    "name": "telegram",
                    "bot_token": {"credential": "telegram"},
                    "chat_id": "1",
                    "base_url": gossip.url,
                    **insecure,
                },
                {
                    "kind": "webhook",
                    "name": "webhook",
                    "url": f"{gossip.url}/hook/{canaries.webhook}",
                    "bearer_token": {"env": "BEARER"},
                    **insecure,
                },
                {
                    "kind": "alertmanager",
                    "name": "alertmanager",
                    "url": f"{gossip.url}/{canaries.alertmanager}",
                    "username": "monitor",
                    "password": canaries.password,
                    "resend_s": 1,
                    **insecure,
                },
            ],
            "delivery": HURRIED,
        },
    }
    environ = {
        "KEY": canaries.binance_key,
        "HTX_KEY": canaries.htx_key,
        "BEARER": canaries.bearer,
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    return config, environ


class Listener:
    """Gathers all that the daemon says, and by which way."""

    def __init__(self, one: Daemon, token: str) -> None:
        self.one = one
        self.token = token
        self.answers: list[str] = []

    async def ask(self, *paths: str) -> None:
        for path in paths:
            for token in (self.token, "", "wrong-token-of-somebody"):
                try:
                    self.answers.append((await self.one.get(path, token))[1])
                except OSError:
                    continue  # it is down at the moment; its log says the rest

    async def look(self) -> None:
        await self.ask("", "metrics", "-/ready", "-/healthy", "api/v1/status", "api/v1/alerts", "api/v1/silences", "no/such/page")

    async def post(self, path: str, body: object) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with ClientSession(headers=headers) as session, session.post(self.one.url + path, json=body) as response:
            self.answers.append(await response.text())

    def everything(self, gossip: Gossip) -> dict[str, str]:
        folder = self.one.folder
        store = {path.name: path.read_bytes().decode("latin-1") for path in folder.glob("store.sqlite3*")}
        return {"log": self.one.text(), "answers": "\n".join(self.answers), "messages": "\n".join(gossip.bodies)} | store


def silent(heard: dict[str, str], canaries: Canaries, also: dict[str, str]) -> Iterator[str]:
    """What is wrong with what was heard."""
    for where, text in heard.items():
        for what in canaries.heard_in(text, also):
            secret = {**canaries.all(), **also}[what.split(" ")[0]]
            place = min(at for form in FORMS.values() if (at := text.find(form(secret))) >= 0)
            yield f"{where}: {what}: …{text[max(0, place - 160) : place]}"
        if signed := re.search(r"signature(?:\"|'|=|%3D|:|\s)+([0-9a-f]{64}|[A-Za-z0-9+/]{43}=)", text, re.IGNORECASE):
            yield f"{where}: a signature: …{text[max(0, signed.start() - 160) : signed.start()]}"


@pytest.mark.timeout(240)
async def test_no_canary_is_ever_heard(tmp_path: Path, canaries: Canaries, gossip: Gossip) -> None:
    async with exchange(canaries) as there:
        config, environ = configuration(there, canaries, gossip, tmp_path)
        one = Daemon(tmp_path, config, environ)
        listener = Listener(one, canaries.web)
        keys: dict[str, str] = {}
        try:
            await one.start()
            await _ready(one, canaries)
            await listener.look()
            await _used(gossip, there, canaries)

            await _venue_faults(there, canaries, listener, keys)
            await _channel_faults(there, gossip, listener)
            await _bad_configuration(one, config, canaries, listener)
            await _tls_faults(one, config, listener)
            await _crash(one)
        finally:
            if one.alive:
                await one.kill()
        heard = listener.everything(gossip)

    assert canaries.heard_in(json.dumps(config), {}), "the search finds what is there"
    assert len(heard["log"]) > 10_000, "it did talk"
    assert len(keys) >= 2, "listen keys were seen"
    wrong = list(silent(heard, canaries, keys))
    assert not wrong, "\n".join(wrong)


async def _ready(one: Daemon, canaries: Canaries) -> None:
    async def answers() -> bool:
        assert one.alive, one.text()[-3000:]
        try:
            return (await one.get("-/ready", canaries.web))[0] == 200
        except OSError:
            return False

    await _until(answers, "ready", 40)


async def _until(condition: Any, what: str, deadline_s: float) -> None:
    try:
        async with asyncio.timeout(deadline_s):
            while not await condition():  # noqa: ASYNC110  it is in another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {deadline_s:g} s: {what}")


async def _used(gossip: Gossip, there: SimExchange, canaries: Canaries) -> None:
    """Each secret reaches the one that it is for: a canary that is never used proves nothing."""
    plunge(there)
    expected = (canaries.slack, canaries.telegram, canaries.webhook, canaries.alertmanager, canaries.heartbeat)
    await until(lambda: all(any(secret in path for path in gossip.paths) for secret in expected), "all addresses used", 30)
    sent = "".join(gossip.headers)
    assert canaries.bearer in sent
    assert base64.b64encode(f"monitor:{canaries.password}".encode()).decode() in sent


async def _venue_faults(there: SimExchange, canaries: Canaries, listener: Listener, keys: dict[str, str]) -> None:
    def listen_key() -> str:
        return there.binance.listen_keys.of(there.account()) or ""

    keys["first_listen_key"] = listen_key()
    repeats = f"no access for {canaries.binance_key} with {canaries.binance_secret}"
    there.fault("reject_rest", count=6, status=401, code=-2015, msg=repeats)
    there.fault("kill_sockets")
    there.htx_control.fault("reject_rest", count=6, code=403, message=f"bad key {canaries.htx_key}")
    there.htx_control.fault("kill_sockets")
    await until(lambda: len(listener.one.events("account_not_watched")) >= 2, "keys refused", 30)
    await listener.look()
    there.fault("clear")
    there.htx_control.fault("clear")
    await _ready(listener.one, canaries)
    there.fault("reject_rest", count=2, status=503, html=True)
    there.fault("expire_listen_keys", copies=2)
    for form in ("truncated", "nan", "unknown_event", "not_json", "huge"):
        there.fault("garbage", form=form)
        there.fault("garbage", form=form, family="private")
    await until(lambda: listen_key() not in ("", keys["first_listen_key"]), "another listen key", 30)
    keys["second_listen_key"] = listen_key()
    await listener.look()
    await _ready(listener.one, canaries)


async def _channel_faults(there: SimExchange, gossip: Gossip, listener: Listener) -> None:
    for status in Gossip.STATUSES:
        gossip.status = status
        there.transfer("USDT", "60000" if status % 2 else "-1")
        before = len(gossip.paths)
        await until(lambda before=before: len(gossip.paths) >= before + 3, f"told them {status}", 30)
    await listener.look()
    gossip.status = 200
    await listener.post("api/v1/silences", {"account": "main", "author": "a", "note": "n", "minutes": "x"})


async def _bad_configuration(one: Daemon, config: dict[str, Any], canaries: Canaries, listener: Listener) -> None:
    """Errors in, beside and because of secrets, told by check-config, by a reload over HTTP and by a signal."""

    def channel(bad: dict[str, Any], number: int) -> dict[str, Any]:
        found: dict[str, Any] = bad["alerts"]["channels"][number]
        return found

    bad = copy.deepcopy(config)
    bad["accounts"][0]["api_secret"] = {"inline": canaries.binance_secret}
    bad["accounts"][1]["api_key"] = [canaries.htx_key]
    bad["accounts"][1]["api_secret"] = {canaries.htx_secret: 1}
    bad["web"]["token"] = canaries.web[:12]
    channel(bad, 0)["webhook_url"] = f"ftp://{canaries.slack}"
    channel(bad, 1)["bot_token"] = f"not a token {canaries.telegram}"
    channel(bad, 2)["url"] = f"http://[{canaries.webhook}"
    channel(bad, 2)["bearer_token"] = f"{canaries.bearer}\n"
    channel(bad, 3)["password"] = {"env": canaries.password}
    bad["heartbeat"]["url"] = f"{canaries.heartbeat}"
    one.write(bad)
    check = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monitor", "check-config", str(one.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await check.communicate()
    assert check.returncode == 2, said
    listener.answers.append(said.decode())
    await listener.post("-/reload", {})
    one.signal(signal.SIGHUP)
    await until(lambda: len(one.events("reload_refused")) >= 2, "both refused", 30)
    one.write(config)


async def _tls_faults(one: Daemon, config: dict[str, Any], listener: Listener) -> None:
    """Everything speaks TLS to ports that do not."""
    one.signal(signal.SIGTERM)
    await one.ended()
    tls = json.loads(json.dumps(config).replace("http://127", "https://127").replace("ws://127", "wss://127"))
    (one.folder / "slack").write_text((one.folder / "slack").read_text().replace("http:", "https:"))
    (one.folder / "slack").chmod(0o600)
    one.write(tls)
    await one.start()
    await until(lambda: '"tls' in one.text() or "TLS failed" in one.text(), "TLS fails", 30)
    await until(lambda: bool(one.events("web_listening")), "listening")
    await until(lambda: any(event["reason"] == "tls_failed" for event in one.events("alert_retry")), "channels too", 60)
    await listener.look()
    one.signal(signal.SIGTERM)
    await one.ended(30)
    one.write(config)


async def _crash(one: Daemon) -> None:
    """A bug whose exception holds the secrets themselves, in a task and in a callback, with locals that do."""
    bug = one.folder / "bug.py"
    bug.write_text(
        "from monitor.app import Monitor\n"
        "from monitor.cli import main\n"
        "emit, seen = Monitor.emit, []\n"
        "def crashes(self, event):\n"
        "    seen.append(event)\n"
        "    if len(seen) < 30:\n"
        "        return emit(self, event)\n"
        "    held = [secret.reveal() for secret in self.config.secrets()]\n"
        "    cause = ValueError({'config': self.config, 'url': f'https://x/{held}'})\n"
        "    raise RuntimeError('injected', held, repr(self.config), *held) from cause\n"
        "Monitor.emit = crashes\n"
        "main()\n"
    )
    await one.start(command=(str(bug),))
    assert await one.ended(60) == 1
    assert "injected" in one.text(), "the crash is in the log"
