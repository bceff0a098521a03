"""The daemon at debug level through all that may make it talk: nobody ever hears a canary. And the search finds what is there.

Every test of the fault suite searches for its canaries (faults_canary.py); here the receivers repeat to the daemon what it sent,
the venues quote its keys, configurations are wrong in, beside and because of secrets, TLS fails, and a bug throws them about.
Listen keys and signed queries are searched for as well.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web
from conftest_e2e import until
from faults_canary import Canaries, forms, secret_fields
from faults_out_kit import HURRIED, RULES, Daemon, Stage, exchange, free_port, plunge, running
from sqlite_file import opened_file

from monitor.config import Config
from monitor.sim import SimHtxAccount
from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange

SIGNATURE = re.compile(r"signature(?:\"|'|=|%3D|:|\s)+([0-9a-f]{64}|[A-Za-z0-9+/]{43}=)", re.IGNORECASE)


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
        self.paths.append(request.path_qs)
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


def both_venues() -> SimExchange:
    binance = SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", "4")])
    return SimExchange("calm", 7, accounts=[binance], htx_accounts=[SimHtxAccount("main", coins={"BTC": 1})], noise=0.0)


def configuration(there: SimExchange, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Two accounts. All other secrets, and the channels that they belong to, are planted."""
    venues = there.first_line()["venues"]
    accounts, settings, environ = [], {}, {}
    for alias, name in (("main", "binance_usdm"), ("coins", "htx_coin_futures")):
        environ |= {f"{alias}_key": venues[name]["api_key"], f"{alias}_secret": venues[name]["api_secret"]}
        keys = {"api_key": {"env": f"{alias}_key"}, "api_secret": {"env": f"{alias}_secret"}}
        accounts.append({"name": alias, "venue": name, **keys})
        at = {"rest": venues[name]["rest"], "spot": venues[name]["rest"], "streams": venues[name]["streams"]}
        settings[name] = {**at, "auth_retry_s": 0.5}
    config: dict[str, Any] = {
        "accounts": accounts,
        "venues": settings,
        "web": {"listen": f"127.0.0.1:{free_port()}", "reload_enabled": True},
        "store": {"path": str(folder / "store.sqlite3")},
        "log": {"level": "debug", "format": "json"},
        "rules": RULES,
        "heartbeat": {"period_s": 1},
        "alerts": {"delivery": HURRIED},
    }
    return config, environ


@pytest.mark.timeout(240)
async def test_no_canary_is_ever_heard(tmp_path: Path, canaries: Canaries, gossip: Gossip) -> None:
    canaries.url = gossip.url  # all channels and the heartbeat speak to them
    async with both_venues() as there:
        one = Daemon(tmp_path, *configuration(there, tmp_path), canaries)
        written = one.config.read_text()
        keys: dict[str, str] = {}
        try:
            await one.start()
            await one.ready()
            await one.look()
            await _used(gossip, there, canaries.latest)

            await _venue_faults(there, canaries.latest, one, keys)
            await _channel_faults(there, gossip, one)
            await _bad_configuration(one, canaries.latest)
            await _tls_faults(one, written)
            await _crash(one)
        finally:
            await one.look()
            if one.alive:
                await one.kill()
        for body in gossip.bodies:
            canaries.take_body(body)

    assert len(one.text()) > 10_000, "it did talk"
    assert len(keys) >= 2, "listen keys were seen"
    assert not (found := canaries.found(**keys)), "\n".join(found)
    signed = [match[0] for text in canaries.heard().values() if (match := SIGNATURE.search(text))]
    assert not signed, "signatures"


async def _used(gossip: Gossip, there: SimExchange, planted: dict[str, str]) -> None:
    """Each secret reaches the one that it is for: a canary that is never used proves nothing."""
    plunge(there)
    used = [text for field, text in planted.items() if field.startswith(("alerts", "heartbeat"))]

    def sent(secret: str) -> bool:
        """In the address, in a header, or in the body where the receiver's protocol wants it there."""
        basic = base64.b64encode(f"1:{secret}".encode()).decode()
        return any(text in said for text in (secret, basic) for said in (*gossip.paths, *gossip.headers, *gossip.bodies))

    await until(lambda: all(map(sent, used)), "all secrets used", 30)


async def _venue_faults(there: SimExchange, planted: dict[str, str], one: Daemon, keys: dict[str, str]) -> None:
    def listen_key() -> str:
        return there.binance.listen_keys.of(there.account()) or ""

    keys["first_listen_key"] = listen_key()
    repeats = f"no access for {planted['accounts[].api_key']} with {planted['accounts[].api_secret']}"
    htx_key = next(text for field, text in planted.items() if field.startswith("accounts[].api_key#"))
    there.fault("reject_rest", count=6, status=401, code=-2015, msg=repeats)
    there.fault("kill_sockets")
    there.htx_control.fault("reject_rest", count=6, code=403, message=f"bad key {htx_key}")
    there.htx_control.fault("kill_sockets")
    await until(lambda: len(one.events("account_not_watched")) >= 2, "keys refused", 30)
    await one.look()
    there.fault("clear")
    there.htx_control.fault("clear")
    await one.ready()
    there.fault("reject_rest", count=2, status=503, html=True)
    there.fault("expire_listen_keys", copies=2)
    for form in ("truncated", "nan", "unknown_event", "not_json", "huge"):
        there.fault("garbage", form=form)
        there.fault("garbage", form=form, family="private")
    await until(lambda: listen_key() not in ("", keys["first_listen_key"]), "another listen key", 30)
    keys["second_listen_key"] = listen_key()
    await one.look()
    await one.ready()


async def _channel_faults(there: SimExchange, gossip: Gossip, one: Daemon) -> None:
    for status in Gossip.STATUSES:
        gossip.status = status
        there.transfer("USDT", "60000" if status % 2 else "-1")
        before = len(gossip.paths)
        await until(lambda before=before: len(gossip.paths) >= before + 3, f"told them {status}", 30)
    await one.look()
    gossip.status = 200
    await _post(one, "api/v1/silences", {"account": "main", "author": "a", "note": "n", "minutes": "x"})


async def _post(one: Daemon, path: str, body: object) -> None:
    headers = {"Authorization": f"Bearer {one.token}"}
    async with ClientSession(headers=headers) as session, session.post(one.url + path, json=body) as response:
        one.canaries.answers.append(await response.text())


async def _bad_configuration(one: Daemon, planted: dict[str, str]) -> None:
    """Errors in, beside and because of secrets, told by check-config, by a reload over HTTP and by a signal."""

    good = yaml.safe_load(one.config.read_text())
    bad = copy.deepcopy(good)
    channels = {(row["kind"], field): row for row in bad["alerts"]["channels"] for field in row}
    said_in = {field: f"alerts.channels[{kind}].{field}" for kind, field in channels}
    bad["accounts"][0]["api_secret"] = {"inline": planted["accounts[].api_secret"]}
    bad["accounts"][1]["api_key"] = [planted["accounts[].api_key"]]
    bad["accounts"][1]["api_secret"] = {planted["accounts[].api_secret"]: 1}
    bad["web"]["token"] = planted["web.token"][:14]
    channels["slack", "webhook_url"]["webhook_url"] = f"ftp://{planted[said_in['webhook_url']]}"
    channels["telegram", "bot_token"]["bot_token"] = f"not a token {planted[said_in['bot_token']]}"
    webhook = channels["webhook", "url"]
    webhook["url"] = f"http://[{planted['alerts.channels[webhook].url']}"
    webhook["bearer_token"] = f"{planted['alerts.channels[webhook].bearer_token']}\n"
    channels["alertmanager", "password"]["password"] = {"env": planted[said_in["password"]]}
    bad["heartbeat"]["url"] = planted["heartbeat.url"]
    one.write(bad)
    check = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monitor", "check-config", str(one.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await check.communicate()
    assert check.returncode == 2, said
    one.canaries.answers.append(said.decode())
    await _post(one, "-/reload", {})
    one.signal(signal.SIGHUP)
    await until(lambda: len(one.events("reload_refused")) >= 2, "both refused", 30)
    one.write(good)


async def _tls_faults(one: Daemon, written: str) -> None:
    """Everything speaks TLS to ports that do not."""

    def secured(text: str) -> str:
        return text.replace("http://127", "https://127").replace("ws://127", "wss://127")

    one.signal(signal.SIGTERM)
    await one.ended()
    environ, files = dict(one.environ), {path: path.read_text() for path in one.canaries.folder.rglob("CANARY*")}
    one.environ.update({name: secured(text) for name, text in environ.items()})
    for path, text in files.items():
        path.write_text(secured(text))
    one.config.write_text(secured(written))
    await one.start()
    await until(lambda: '"tls' in one.text() or "TLS failed" in one.text(), "TLS fails", 30)
    await until(lambda: bool(one.events("web_listening")), "listening")
    await until(lambda: bool(one.events("alert_retry", reason="tls_failed")), "channels too", 60)
    await one.look()
    one.signal(signal.SIGTERM)
    await one.ended(30)
    one.environ.update(environ)
    for path, text in files.items():
        path.write_text(text)
    one.config.write_text(written)


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


# ------------------------------------------------------------------ the search itself


def test_every_secret_field_is_known_by_its_type() -> None:
    """Those of today; one that is added later is planted by itself, or `Canaries.plant` says that it is not."""
    assert {
        "accounts[].api_key",
        "accounts[].api_secret",
        "alerts.channels[slack].webhook_url",
        "alerts.channels[telegram].bot_token",
        "alerts.channels[webhook].url",
        "alerts.channels[webhook].bearer_token",
        "alerts.channels[alertmanager].url",
        "alerts.channels[alertmanager].bearer_token",
        "alerts.channels[alertmanager].password",
        "alerts.channels[pagerduty].routing_key",
        "heartbeat.url",
        "web.token",
    } <= set(secret_fields(Config))


async def test_every_secret_of_the_configuration_is_one_that_was_planted(canaries: Canaries, stage: Stage) -> None:
    async with exchange() as there, running(there, stage) as monitor:
        texts = [secret.reveal() for secret in monitor.config.secrets()]
        assert len(texts) == len(set(texts)) == len(canaries.planted)
        for text in texts:
            assert sum(canary in text for canary in canaries.planted.values()) == 1
            assert len(max((c for c in canaries.planted.values() if c in text), key=len)) >= 32


@pytest.mark.parametrize("form", forms(""))
@pytest.mark.parametrize("place", ["log", "answer", "message", "store"])
async def test_the_search_finds_what_is_there(tmp_path: Path, form: str, place: str) -> None:
    """A planted one in each form and place, in the middle of other text; and nothing before."""
    folder = tmp_path / "planted"
    folder.mkdir()
    one = Canaries(folder)
    secret = one.planted["web.token"] = one.canary("password")
    assert one.found() == []
    said = f"before {forms(secret)[form]} after"
    match place:
        case "log":
            one.log.write(said)
        case "answer":
            one.answers.append(said)
        case "message":
            one.bodies.append(said)
        case "store":
            with opened_file(folder / "state.db") as db:
                db.execute("CREATE TABLE t (record BLOB)")
                db.execute("INSERT INTO t VALUES (?)", (said.encode(),))
            db.close()
            one.read(folder / "state.db")
    assert any(f"web.token, {form}" in line for line in one.found())


@pytest.mark.parametrize("before", ["", "1", "12", "monitor:", "user=x&password="])
@pytest.mark.parametrize("after", ["", "!", "&c=3"])
def test_base64_is_found_wherever_it_stands(before: str, after: str) -> None:
    secret = "Kq3vX9pLw2ZtR8mNc5JbY7sHd4FgT6aE/+&%="
    encoded = base64.b64encode((before + secret + after).encode()).decode()
    assert any(written in encoded for form, written in forms(secret).items() if form.startswith("base64"))
