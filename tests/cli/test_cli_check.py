"""`check` and `test-alert` against the simulated exchange and real receivers: what fails, what warns, and the exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from cli_kit import run, secret, written
from web.view_in_memory import MemoryView

from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange
from monitor.web.server import Server, ServerSettings

Findings = list[dict[str, Any]]


@pytest.fixture
async def exchange() -> AsyncIterator[SimExchange]:
    async with SimExchange("calm", 7, tick_seconds=1.0) as exchange:
        yield exchange


async def check(path: Path, *args: str) -> tuple[int, Findings]:
    code, out, err = await run("check", str(path), "--json", *args)
    assert out, err
    answer = json.loads(out)
    assert answer["passed"] == (code == 0) == all(one["verdict"] != "fail" for one in answer["findings"])
    return code, answer["findings"]


def of(findings: Findings, kind: str) -> dict[str, dict[str, Any]]:
    return {one["subject"]: one for one in findings if one["check"] == kind}


async def test_all_is_well(exchange: SimExchange, tmp_path: Path) -> None:
    code, findings = await check(written(tmp_path, exchange))
    assert code == 0
    assert {name: one["verdict"] for name, one in of(findings, "key").items()} == {"binance": "ok", "htx": "ok"}
    assert set(of(findings, "clock")) == {"binance_usdm", "htx_coin_futures"}
    streams = of(findings, "stream")
    assert set(streams) == {
        *("binance_usdm mark_price", "binance_usdm asset_index", "binance_usdm binance user"),
        *(f"htx_coin_futures {name}" for name in ("last_price", "index_price", "contract_info", "htx user")),
    }
    assert all(one["verdict"] == "ok" and 0 < one["ms"] < 30_000 for one in streams.values()), "with the time that each took"
    pools = of(findings, "pool")
    assert {"binance USD", "htx BTC", "htx ETH"} <= set(pools)
    assert all(one["verdict"] == "ok" and "the venue says" in one["text"] for one in pools.values())
    assert of(findings, "channel")["none"]["verdict"] == "warn"
    assert not any("store" in name for name in os.listdir(tmp_path)), "nothing is written"


async def test_the_table_for_people(exchange: SimExchange, tmp_path: Path) -> None:
    path = written(tmp_path, exchange)
    code, out, _ = await run("check", str(path))
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["check", "subject", "found", "ms"]
    assert any(line.split()[:4] == ["OK", "stream", "binance_usdm", "mark_price"] for line in lines)
    assert lines[-1].startswith("0 failed, 1 to look at")


async def test_a_key_that_is_refused_fails_and_says_so(exchange: SimExchange, tmp_path: Path) -> None:
    path = written(tmp_path, exchange)
    secret(tmp_path / "binance_usdm_api_key", "nonsense")
    code, findings = await check(path, "--seconds", "3")
    assert code == 3
    assert "rejects the key" in of(findings, "key")["binance"]["text"]
    assert of(findings, "stream")["binance_usdm binance user"]["verdict"] == "fail"
    assert of(findings, "account")["binance"]["verdict"] == "fail"
    assert of(findings, "stream")["htx_coin_futures htx user"]["verdict"] == "ok", "the other account is judged by itself"


@pytest.mark.parametrize(
    ("rights", "allowed", "code", "verdict", "why"),
    [
        ({"enableWithdrawals": True}, False, 3, "fail", "a key that could move money"),
        ({"enableWithdrawals": True}, True, 0, "warn", "the owner said that it is meant"),
        ({"enableFutures": True}, False, 0, "warn", "a key that could trade"),
    ],
)
async def test_the_rights_of_a_key(
    rights: dict[str, bool], allowed: bool, code: int, verdict: str, why: str, tmp_path: Path
) -> None:
    account = SimAccount("main", wallets={"USDT": 1000}, rights=rights)
    async with SimExchange("calm", 7, accounts=[account], htx_accounts=()) as exchange:
        over = {"name": "binance", "venue": "binance_usdm", "allow_dangerous_key": allowed}
        sources = {part: {"file": f"binance_usdm_{part}"} for part in ("api_key", "api_secret")}
        got, findings = await check(written(tmp_path, exchange, accounts=[{**over, **sources}]))
    assert got == code, why
    assert of(findings, "key")["binance"]["verdict"] == verdict, why


async def test_an_account_that_holds_nothing_is_fine(tmp_path: Path) -> None:
    async with SimExchange("calm", 7, accounts=[SimAccount("main")], htx_accounts=()) as exchange:
        code, findings = await check(written(tmp_path, exchange))
    assert code == 0
    assert "holds nothing" in of(findings, "account")["binance"]["text"]


@contextlib.asynccontextmanager
async def doubled_rates(rest: str) -> AsyncIterator[str]:
    """The exchange's REST behind a host that doubles the maintenance rates of all brackets."""

    async def handle(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower().startswith("x-mbx")}
        url = f"{rest}{request.path_qs}"
        async with session.request(request.method, url, headers=headers, data=await request.read()) as answer:
            body = await answer.read()
            if request.path.endswith("/leverageBracket"):
                tables = json.loads(body)
                for row in (row for table in tables for row in table["brackets"]):
                    row["maintMarginRatio"] = 2 * float(row["maintMarginRatio"])
                    row["cum"] = 2 * float(row["cum"])
                body = json.dumps(tables).encode()
            return web.Response(status=answer.status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_own_figures_that_differ_from_the_venues_fail(tmp_path: Path) -> None:
    account = SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", 1)])
    async with SimExchange("calm", 7, accounts=[account], htx_accounts=()) as exchange:
        venue = exchange.first_line()["venues"]["binance_usdm"]
        async with doubled_rates(venue["rest"]) as rest:
            urls = {"rest": rest, "spot": rest, "streams": venue["streams"]}
            code, findings = await check(written(tmp_path, exchange, venues={"binance_usdm": urls}))
            loose = {"reconcile": {"warning": 0.4, "high": 2.0}}
            warned, further = await check(written(tmp_path, exchange, venues={"binance_usdm": urls}, rules=loose))
    (pool,) = of(findings, "pool").values()
    assert (code, pool["verdict"]) == (3, "fail")
    assert "(50.00% apart)" in pool["text"]
    (pool,) = of(further, "pool").values()
    assert (warned, pool["verdict"]) == (0, "warn"), "by the limits of the account's own rule"


async def test_a_silent_stream_fails_within_the_time_limit(exchange: SimExchange, tmp_path: Path) -> None:
    exchange.fault("silence_stream", stream="!markPrice")
    loop = asyncio.get_running_loop()
    began = loop.time()
    code, findings = await check(written(tmp_path, exchange), "--seconds", "4")
    assert loop.time() - began < 20
    assert code == 3
    mark = of(findings, "stream")["binance_usdm mark_price"]
    assert (mark["verdict"], mark["ms"]) == ("fail", None)
    assert "no data within 4 s" in mark["text"]


async def test_no_exchange_at_all(exchange: SimExchange, tmp_path: Path) -> None:
    path = written(tmp_path, exchange)
    await exchange.stop()
    code, findings = await check(path, "--seconds", "2")
    assert code == 3
    assert {one["verdict"] for one in findings if one["check"] in ("stream", "account", "clock")} == {"fail"}


async def test_a_clock_that_is_off(tmp_path: Path) -> None:
    async with SimExchange("calm", 7, check_timestamps=False, htx_accounts=()) as exchange:
        exchange.clock(advance_ms=3000)
        code, findings = await check(written(tmp_path, exchange))
        assert (code, of(findings, "clock")["binance_usdm"]["verdict"]) == (0, "warn")
        assert "3.0" in of(findings, "clock")["binance_usdm"]["text"]
        exchange.clock(advance_ms=60_000)
        code, findings = await check(written(tmp_path, exchange))
        assert (code, of(findings, "clock")["binance_usdm"]["verdict"]) == (3, "fail")


class NoMetrics:
    def blocks(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        return iter(())


async def test_an_address_that_is_taken_by_us_or_by_somebody_else(exchange: SimExchange, tmp_path: Path) -> None:
    server = Server(MemoryView(), NoMetrics(), ServerSettings(port=0))
    await server.start()
    code, findings = await check(written(tmp_path, exchange, web={"listen": f"127.0.0.1:{server.port}"}))
    await server.stop()
    (page,) = of(findings, "page").values()
    assert (code, page["verdict"], "margin-monitor listens there" in page["text"]) == (0, "warn", True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        code, findings = await check(written(tmp_path, exchange, web={"listen": f"127.0.0.1:{other.getsockname()[1]}"}))
    (page,) = of(findings, "page").values()
    assert (code, page["verdict"]) == (3, "fail")


# ------------------------------------------------------------------ channels


@pytest.fixture
async def receiver() -> AsyncIterator[str]:
    """The address of one that takes what comes to /ok, and of anything else says that it is not there."""

    async def take(request: web.Request) -> web.Response:
        took.append(await request.json())
        return web.Response()

    took: list[Any] = []
    app = web.Application()
    app.router.add_post("/ok", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def channels(folder: Path, receiver: str) -> dict[str, Any]:
    kinds = {"good": "/ok", "gone": "/canary-of-an-address"}
    for name, path in kinds.items():
        secret(folder / f"{name}.url", receiver + path)
    return {
        "channels": [{"kind": "webhook", "name": name, "url": {"file": f"{name}.url"}, "allow_insecure": True} for name in kinds]
    }


@pytest.mark.parametrize(
    ("args", "code", "delivered", "why"),
    [
        (["good"], 0, {"good (webhook)": "ok"}, "one that works"),
        (["gone"], 3, {"gone (webhook)": "fail"}, "one that refuses"),
        (["--all"], 3, {"good (webhook)": "ok", "gone (webhook)": "fail"}, "all, of which one refuses"),
    ],
)
async def test_test_alert(
    exchange: SimExchange, receiver: str, tmp_path: Path, args: list[str], code: int, delivered: dict[str, str], why: str
) -> None:
    path = written(tmp_path, exchange, alerts=channels(tmp_path, receiver))
    got, out, err = await run("test-alert", str(path), *args, "--json")
    findings = of(json.loads(out)["findings"], "channel")
    assert (got, {name: one["verdict"] for name, one in findings.items()}) == (code, delivered), why
    assert all(isinstance(one["ms"], int) for one in findings.values()), "with the time that it took"
    got, out, err = await run("test-alert", str(path), *args)
    assert got == code
    assert "canary" not in out + err, "an address is a secret"


@pytest.mark.parametrize(
    ("args", "says", "why"),
    [
        ([], "--all", "which one?"),
        (["good", "--all"], "--all", "all, or this one?"),
        (["nobody"], "good, gone", "the names that there are"),
    ],
)
async def test_test_alert_wants_to_know_whom(
    exchange: SimExchange, receiver: str, tmp_path: Path, args: list[str], says: str, why: str
) -> None:
    path = written(tmp_path, exchange, alerts=channels(tmp_path, receiver))
    code, out, err = await run("test-alert", str(path), *args)
    assert (code, out) == (2, ""), why
    assert says in err, why


async def test_test_alert_without_any_channel(exchange: SimExchange, tmp_path: Path) -> None:
    code, _, err = await run("test-alert", str(written(tmp_path, exchange)), "--all")
    assert (code, "has no channel" in err) == (2, True)


async def test_check_sends_only_if_asked(exchange: SimExchange, receiver: str, tmp_path: Path) -> None:
    path = written(tmp_path, exchange, alerts=channels(tmp_path, receiver))
    code, findings = await check(path)
    assert code == 0
    assert {one["verdict"] for one in of(findings, "channel").values()} == {"skipped"}
    code, findings = await check(path, "--send")
    assert code == 3
    assert {name: one["verdict"] for name, one in of(findings, "channel").items()} == {
        "good (webhook)": "ok",
        "gone (webhook)": "fail",
    }
