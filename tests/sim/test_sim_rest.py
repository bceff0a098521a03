"""REST as the venue documents it: who is refused and with which code, weights and bans, shapes, listen keys."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sim_client import Rest

from monitor.sim import SimAccount, SimExchange
from monitor.sim.binance.auth import ApiError, check_signature

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
ACCOUNT = "/fapi/v3/account"


@pytest.mark.parametrize(
    ("make", "status", "code", "why"),
    [
        (lambda r: (r.signed_query(), r.account.api_key), 200, None, "a right signature passes"),
        (lambda r: (r.signed_query(recvWindow=60000), r.account.api_key), 200, None, "other parameters are signed too"),
        (lambda r: (r.signed_query().replace("signature=", "signature=0"), r.account.api_key), 400, -1022, "wrong signature"),
        (lambda r: (_upper(r.signed_query()), r.account.api_key), 200, None, "hex is case-insensitive"),
        (lambda r: (r.signed_query(secret="another"), r.account.api_key), 400, -1022, "the secret of another key"),
        (lambda r: (r.signed_query() + "&extra=1", r.account.api_key), 400, -1022, "a parameter that was not signed"),
        (lambda r: (r.signed_query(timestamp_ms=r.sim.now_ms() - 5001), r.account.api_key), 400, -1021, "older than the window"),
        (lambda r: (r.signed_query(timestamp_ms=r.sim.now_ms() - 5000), r.account.api_key), 200, None, "just inside the window"),
        (
            lambda r: (r.signed_query(timestamp_ms=r.sim.now_ms() - 100, recvWindow=50), r.account.api_key),
            400,
            -1021,
            "a narrower window of one's own",
        ),
        (lambda r: (r.signed_query(timestamp_ms=r.sim.now_ms() + 1000), r.account.api_key), 400, -1021, "a second ahead"),
        (lambda r: (r.signed_query(timestamp_ms=r.sim.now_ms() + 999), r.account.api_key), 200, None, "less than a second ahead"),
        (lambda r: ("timestamp=1", r.account.api_key), 400, -1102, "no signature"),
        (lambda r: ("signature=00", r.account.api_key), 400, -1102, "no timestamp"),
        (lambda r: ("timestamp=now&signature=00", r.account.api_key), 400, -1102, "a timestamp that is no number"),
        (lambda r: (r.signed_query(), None), 401, -2014, "no key"),
        (lambda r: (r.signed_query(), "abc"), 401, -2014, "not the form of a key"),
        (lambda r: (r.signed_query(), "A" * 64), 401, -2015, "the form of a key, but nobody's"),
    ],
)
async def test_who_is_refused(
    rest: Rest, make: Callable[[Rest], tuple[str, str | None]], status: int, code: int | None, why: str
) -> None:
    query, key = make(rest)
    answer = await rest.call("GET", ACCOUNT, query, key)
    assert (rest.status, answer.get("code")) == (status, code), why


def _upper(query: str) -> str:
    head, _, signature = query.rpartition("=")
    return f"{head}={signature.upper()}"


def test_the_signature_covers_query_and_body_with_nothing_between() -> None:
    signed = "a=1" + "timestamp=1000&b=%20x"
    signature = hmac.new(b"secret", signed.encode(), hashlib.sha256).hexdigest()
    parameters = {"timestamp": "1000", "signature": signature}
    check_signature("secret", "a=1", f"timestamp=1000&b=%20x&signature={signature}", parameters, 1000)
    with pytest.raises(ApiError) as refused:
        check_signature("secret", "a=1", f"timestamp=1000&b=+x&signature={signature}", parameters, 1000)
    assert refused.value.code == -1022


async def test_a_key_without_reading_rights_is_refused(session: aiohttp.ClientSession) -> None:
    async with SimExchange(accounts=[SimAccount("blind", rights={"enableReading": False})], frozen=True) as sim:
        rest = Rest(sim, session)
        assert (await rest.get(ACCOUNT))["code"] == -2015
        assert rest.status == 401


async def test_key_rights_are_those_of_the_account(session: aiohttp.ClientSession) -> None:
    rights = {"enableWithdrawals": True, "ipRestrict": False}
    async with SimExchange(accounts=[SimAccount("rich", rights=rights)], frozen=True) as sim:
        answer = await Rest(sim, session).get("/sapi/v1/account/apiRestrictions")
    assert answer["enableWithdrawals"] is True
    assert answer["ipRestrict"] is False
    assert answer["enableReading"] is True
    assert answer["enableInternalTransfer"] is False


@pytest.mark.parametrize(
    ("path", "status", "code", "why"),
    [
        ("/fapi/v1/premiumIndex?symbol=NOSUCH", 400, -1121, "unknown symbol"),
        ("/fapi/v1/premiumIndex?symbol=", 400, -1102, "empty symbol"),
        ("/fapi/v1/assetIndex?symbol=BTC", 400, -1121, "the asset's name is not the index's name"),
        ("/fapi/v9/nothing", 404, -5000, "no such path"),
        ("/fapi/v1/premiumIndex?symbol=BTCUSDT", 200, None, "a known symbol"),
    ],
)
async def test_public_calls(rest: Rest, path: str, status: int, code: int | None, why: str) -> None:
    path, _, query = path.partition("?")
    answer = await rest.call("GET", path, query)
    assert (rest.status, answer.get("code")) == (status, code), why


async def test_a_post_to_a_get_is_no_path(rest: Rest) -> None:
    assert (await rest.call("POST", "/fapi/v1/time"))["code"] == -5000


async def test_weights_add_up_within_a_simulated_minute(rest: Rest, sim: SimExchange) -> None:
    await rest.call("GET", "/fapi/v1/premiumIndex")
    assert rest.headers["X-MBX-USED-WEIGHT-1M"] == "10"
    await rest.call("GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT")
    assert rest.headers["X-MBX-USED-WEIGHT-1M"] == "11"
    await rest.get("/fapi/v1/multiAssetsMargin")
    assert rest.headers["X-MBX-USED-WEIGHT-1M"] == "41"
    sim.clock(advance_ms=MINUTE_MS)
    await rest.get(ACCOUNT)
    assert rest.headers["X-MBX-USED-WEIGHT-1M"] == "5"


async def test_over_the_limit_429_and_going_on_418(session: aiohttp.ClientSession) -> None:
    async with SimExchange(frozen=True, start_ms=1_750_000_020_000, weight_limit=12) as sim:  # a minute begins here
        sim.clock(advance_ms=15_000)
        rest = Rest(sim, session)
        statuses = []
        for _ in range(14):
            answer = await rest.get(ACCOUNT)
            statuses.append(rest.status)
            if rest.status == 429:
                assert answer["code"] == -1003
                assert rest.headers["Retry-After"] == "45"
        assert statuses == [200] * 2 + [429] * 10 + [418] * 2
        assert answer["code"] == -1003
        assert str(sim.now_ms() + 120_000) in answer["msg"]
        assert rest.headers["Retry-After"] == "120"
        sim.clock(advance_ms=MINUTE_MS)
        await rest.get(ACCOUNT)
        assert rest.status == 418, "a new minute does not end a ban"
        sim.clock(advance_ms=MINUTE_MS)
        await rest.get(ACCOUNT)
        assert rest.status == 200


# ---------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("path", "sample", "account"),
    [
        ("/fapi/v1/premiumIndex?symbol=BTCUSDT", "GET /fapi/v1/premiumIndex?symbol=BTCUSDT", "multi"),
        ("/fapi/v1/ticker/bookTicker?symbol=BTCUSDT", "GET /fapi/v1/ticker/bookTicker?symbol=BTCUSDT", "multi"),
        ("/fapi/v1/assetIndex?symbol=ADAUSD", "GET /fapi/v1/assetIndex?symbol=ADAUSD", "multi"),
        ("/fapi/v1/leverageBracket", "GET /fapi/v1/leverageBracket", "multi"),
        ("/fapi/v1/leverageBracket?symbol=ETHUSDT", "GET /fapi/v1/leverageBracket?symbol=ETHUSDT", "multi"),
        ("/fapi/v1/multiAssetsMargin", "GET /fapi/v1/multiAssetsMargin", "multi"),
        ("/fapi/v1/positionSide/dual", "GET /fapi/v1/positionSide/dual", "hedge"),
        ("/fapi/v1/accountConfig", "GET /fapi/v1/accountConfig", "single"),
        ("/fapi/v1/symbolConfig", "GET /fapi/v1/symbolConfig", "single"),
        ("/fapi/v2/balance", "GET /fapi/v2/balance", "single"),
        ("/fapi/v2/account", "GET /fapi/v2/account [single-asset]", "single"),
        ("/fapi/v2/account", "GET /fapi/v2/account [multi-assets]", "multi"),
        ("/fapi/v3/account", "GET /fapi/v3/account [single-asset]", "single"),
        ("/fapi/v3/account", "GET /fapi/v3/account [multi-assets]", "multi"),
        ("/fapi/v2/positionRisk", "GET /fapi/v2/positionRisk [hedge]", "hedge"),
        ("/fapi/v3/positionRisk", "GET /fapi/v3/positionRisk [one-way]", "single"),
        ("/fapi/v1/exchangeInfo", "GET /fapi/v1/exchangeInfo [recorded 2021-07-21, 4 of 122 symbols kept]", "multi"),
    ],
)
async def test_answers_have_the_documented_fields_and_types(
    sim: SimExchange, session: aiohttp.ClientSession, shared: Path, path: str, sample: str, account: str
) -> None:
    samples = json.loads((shared / "data/binance/rest_samples.json").read_text())
    rest = Rest(sim, session, account)
    path, _, query = path.partition("?")
    answer = await rest.get(path, **dict(pair.split("=") for pair in query.split("&") if pair))
    assert rest.status == 200
    # Per-user scale of the tiers, a field that the exchange dropped since, and rows of differing kinds.
    absent = {"notionalCoef", "settlePlan", "filters"}
    assert_same_shape(answer, samples[sample], absent, path)


def assert_same_shape(value: Any, sample: Any, absent: set[str], where: str) -> None:
    if isinstance(sample, dict):
        assert isinstance(value, dict), where
        missing = set(sample) - set(value) - absent
        assert not missing, f"{where}: {missing} missing"
        for name in set(sample) - absent:
            assert_same_shape(value[name], sample[name], absent, f"{where}.{name}")
    elif isinstance(sample, list):
        assert isinstance(value, list), where
        assert value or not sample, f"{where} is empty"
        for row in value if sample else []:
            assert_same_shape(row, sample[0], absent, f"{where}[]")
    elif isinstance(sample, bool) or isinstance(value, bool):
        assert type(value) is type(sample), where
    elif isinstance(sample, int | float):
        assert isinstance(value, int | float), where
    else:
        assert type(value) is type(sample), where


async def test_amounts_are_cut_not_rounded_to_eight_places(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    sim.price("BTCUSDT", "97279.54799899")
    rest = Rest(sim, session, "single")
    row = next(p for p in await rest.get("/fapi/v3/positionRisk") if p["symbol"] == "BTCUSDT")
    assert row["notional"] == "48639.77399949"  # 0.5 × 97279.54799899 = 48639.773999495


async def test_v3_lists_what_is_open_v2_lists_everything(sim: SimExchange, session: aiohttp.ClientSession) -> None:
    rest = Rest(sim, session, "hedge")
    v3 = await rest.get("/fapi/v3/positionRisk")
    assert [(p["symbol"], p["positionSide"]) for p in v3] == [("BTCUSDT", "LONG"), ("BTCUSDT", "SHORT")]
    v2 = await rest.get("/fapi/v2/positionRisk")
    assert len(v2) == 3 * len(sim.binance.market.contracts)
    assert "leverage" in v2[0]
    assert "leverage" not in v3[0]


async def test_the_dated_contract_has_no_funding(rest: Rest) -> None:
    rows = await rest.call("GET", "/fapi/v1/premiumIndex")
    dated = next(row for row in rows if "_" in row["symbol"])
    assert (dated["lastFundingRate"], dated["nextFundingTime"]) == ("", 0)


async def test_the_universe_can_be_padded(session: aiohttp.ClientSession) -> None:
    async with SimExchange(symbols=120, frozen=True) as sim:
        info = await Rest(sim, session).call("GET", "/fapi/v1/exchangeInfo")
    assert len(info["symbols"]) == 120
    assert len({row["symbol"] for row in info["symbols"]}) == 120


# ---------------------------------------------------------------------- listen keys


async def test_a_listen_key_lives_an_hour_and_each_keep_alive_adds_one(rest: Rest, sim: SimExchange) -> None:
    first = (await rest.listen_key())["listenKey"]
    assert (await rest.listen_key())["listenKey"] == first, "a second POST returns the live one"
    sim.clock(advance_ms=HOUR_MS - 1)
    assert (await rest.listen_key("PUT"))["listenKey"] == first
    sim.clock(advance_ms=HOUR_MS - 1)
    assert (await rest.listen_key("PUT"))["listenKey"] == first
    sim.clock(advance_ms=HOUR_MS)
    assert (await rest.listen_key("PUT"))["code"] == -1125
    assert rest.status == 400
    assert (await rest.listen_key())["listenKey"] != first


async def test_a_deleted_listen_key_is_gone(rest: Rest) -> None:
    await rest.listen_key()
    assert await rest.listen_key("DELETE") == {}
    assert (await rest.listen_key("PUT"))["code"] == -1125
    assert (await rest.listen_key("DELETE"))["code"] == -1125


# ---------------------------------------------------------------------- faults


async def test_rejected_late_and_html_answers(rest: Rest, sim: SimExchange) -> None:
    sim.fault("reject_rest", count=2, path="account", status=503, code=-1001, msg="down", retry_after_s=7)
    assert (await rest.call("GET", "/fapi/v1/time"))["serverTime"] == sim.now_ms(), "another path is not concerned"
    for _ in range(2):
        assert await rest.get(ACCOUNT) == {"code": -1001, "msg": "down"}
        assert (rest.status, rest.headers["Retry-After"]) == (503, "7")
    assert "totalMaintMargin" in await rest.get(ACCOUNT)
    sim.fault("reject_rest", html=True)
    assert "<html>" in await rest.get(ACCOUNT)
    sim.fault("delay_rest", delay_ms=80)
    started = asyncio.get_running_loop().time()
    assert "totalMaintMargin" in await rest.get(ACCOUNT)
    assert asyncio.get_running_loop().time() - started >= 0.08


async def test_stale_answers_are_those_of_the_moment_of_the_fault(rest: Rest, sim: SimExchange) -> None:
    before = await rest.get(ACCOUNT)
    sim.fault("stale_rest", count=2)
    sim.transfer("USDT", "1000")
    assert await rest.get(ACCOUNT) == before
    assert (await rest.get("/fapi/v3/balance"))[0]["balance"] == "20000.00000000"
    fresh = await rest.get(ACCOUNT)
    assert fresh["assets"][0]["walletBalance"] == "21000.00000000"


async def test_zero_mark_in_position_risk(rest: Rest, sim: SimExchange) -> None:
    sim.fault("zero_mark")
    assert {row["markPrice"] for row in await rest.get("/fapi/v3/positionRisk")} == {"0.00000000"}
    assert "0.00000000" not in {row["markPrice"] for row in await rest.get("/fapi/v3/positionRisk")}


async def test_the_control_api_is_the_methods(rest: Rest, sim: SimExchange) -> None:
    async def control(name: str, **arguments: Any) -> Any:
        return await rest.call("POST", f"/sim/{name}", body=json.dumps(arguments))

    assert (await control("step", ticks=3))["result"]["tick"] == 3
    await control("price", symbol="BTCUSDT", price="90000")
    await control("transfer", account="single", asset="USDT", amount=-10)
    ledger = await rest.call("GET", "/sim/ledger")
    assert ledger == json.loads(json.dumps(sim.ledger()))
    assert ledger["venues"]["binance_usdm"]["marks"]["BTCUSDT"] == "90000"
    assert ledger["venues"]["binance_usdm"]["accounts"]["single"]["assets"]["USDT"]["wallet"] == "49990"
    assert (await control("order", symbol="NOSUCH", side="BUY", quantity=1))["code"] == -1121
    assert rest.status == 400
    assert "known" in (await control("fault", kind="nonsense"))["error"]
    assert "price" in (await control("price", symbol="BTCUSDT", price="-1"))["error"]
    assert "TypeError" in (await control("price", sybmol="BTCUSDT"))["error"]
