"""The REST interface of HTX: signatures, envelopes, limits, rights, and the shapes of its answers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sim_htx_client import HtxRest, Json, books, signature, stamp

from monitor.sim import SimExchange
from monitor.sim.htx.auth import sign, text_to_sign

V1 = "/api/v1/contract_"
MINUTE_MS = 60_000


def test_the_vendors_own_signatures(shared: Path) -> None:
    for vector in json.loads((shared / "data/htx/signing_vectors.json").read_text())["vectors"]:
        parameters = dict(part.split("=") for part in vector["query"].replace("%3A", ":").split("&"))
        text = text_to_sign(vector["method"], vector["host"], vector["path"], parameters)
        assert sign(vector["secret"], text) == vector["signature_base64"], vector["id"]
        # and the client of these tests agrees
        assert signature(vector["secret"], vector["method"], vector["host"], vector["path"], parameters) == sign(
            vector["secret"], text
        )


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({}, None, "as documented"),
        ({"late_ms": 4 * MINUTE_MS}, None, "five minutes are allowed"),
        ({"late_ms": 6 * MINUTE_MS}, 12001, "too old"),
        ({"late_ms": -6 * MINUTE_MS}, 12001, "from the future"),
        ({"Timestamp": "yesterday"}, 12001, "no time at all"),
        ({"Timestamp": None}, 12006, "no time sent"),
        ({"secret": "wrong"}, 12008, "wrong secret"),
        ({"host": "api.hbdm.com"}, 12008, "signed for another host"),
        ({"AccessKeyId": "nobody"}, 12007, "unknown key"),
        ({"SignatureVersion": "1"}, 12002, "old version"),
        ({"SignatureMethod": "HmacMD5"}, 12003, "old method"),
    ],
)
async def test_signatures(htx_rest: HtxRest, changes: Json, code: int | None, why: str) -> None:
    late_ms = changes.pop("late_ms", 0)
    if late_ms:
        changes["Timestamp"] = stamp(htx_rest.sim.now_ms() - late_ms)
    path = V1 + "account_info"
    answer = await htx_rest.call("POST", path, htx_rest.auth("POST", path, **changes), {})
    assert htx_rest.status == 200, "refusals come with HTTP 200"
    assert answer.get("err_code") == code, why
    assert answer["status"] == ("ok" if code is None else "error")
    assert answer["ts"] == htx_rest.sim.now_ms()


async def test_a_post_signs_the_four_alone_and_a_get_everything(htx_rest: HtxRest) -> None:
    assert (await htx_rest.post(V1 + "account_info", symbol="btc"))["status"] == "ok", "the body is not signed"
    uid = (await htx_rest.signed_get("/v2/user/uid"))["data"]
    signed = htx_rest.auth("GET", "/v2/user/api-key", {"uid": uid})
    assert (await htx_rest.call("GET", "/v2/user/api-key", signed))["code"] == 200
    tampered = await htx_rest.call("GET", "/v2/user/api-key", {**signed, "uid": 5})
    assert tampered == {"code": 1003, "message": "invalid signature"}


async def test_rights_of_a_key(htx_sim: SimExchange, session: aiohttp.ClientSession) -> None:
    reads, other = HtxRest(htx_sim, session), HtxRest(htx_sim, session, "other")
    uid = (await reads.signed_get("/v2/user/uid"))["data"]
    answer = await reads.signed_get("/v2/user/api-key", uid=uid, accessKey=reads.account.api_key)
    assert [(row["permission"], row["status"], row["validDays"]) for row in answer["data"]] == [("readOnly", "normal", -1)]
    assert (await reads.signed_get("/v2/user/api-key", uid="1"))["code"] == 1002, "somebody else's"
    uid = (await other.signed_get("/v2/user/uid"))["data"]
    assert await other.signed_get("/v2/user/api-key", uid=uid) == {"code": 1002, "message": "forbidden"}, "a sub-account"
    htx_sim.htx.account("other").may_ask_key = True
    assert (await other.signed_get("/v2/user/api-key", uid=uid))["data"][0]["permission"] == "readOnly,trade"


SAMPLED = {
    "contract_info": {},
    "index": {"symbol": "BTC"},
    "adjustfactor": {"symbol": "BTC"},
    "ladder_margin": {"symbol": "BTC"},
    "query_elements": {"contract_code": "ETH"},
    "estimated_settlement_price": {"symbol": "BTC"},
    "delivery_price": {"symbol": "BTC"},
    "api_state": {"symbol": "BTC"},
    "account_info": {"symbol": "ADA"},
    "position_info": {"symbol": "BTC"},
    "account_position_info": {"symbol": "BTC"},
    "available_level_rate": {"symbol": "BTC"},
    "transfer_limit": {"symbol": "BTC"},
    "position_limit": {"symbol": "BTC"},
    "user_settlement_records": {"symbol": "BTC"},
    "/index/market/history/mark_price_kline": {"symbol": "BTC_CQ", "period": "5min", "size": 1},
    "/index/market/history/index": {"symbol": "BTC-USD", "period": "60min", "size": 1},
    "/market/trade": {},
    "/market/detail/merged": {"symbol": "BTC_NQ"},
    "/heartbeat/": {},
    "/api/v1/timestamp": {},
}


def shape(value: Any) -> Any:
    """Names and kinds of values, without the values; null fits every kind."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else "list"
    return "text" if isinstance(value, str) else "null" if value is None else "number"


def fits(ours: Any, published: Any) -> bool:
    """Every published name is there with the same kind of value; newer names may come on top."""
    if isinstance(published, dict):
        return isinstance(ours, dict) and all(name in ours and fits(ours[name], kind) for name, kind in published.items())
    if isinstance(published, list):
        return isinstance(ours, list) and fits(ours[0], published[0])
    return ours == published or "null" in {ours, published}


async def test_answers_have_the_published_shapes(htx_sim: SimExchange, htx_rest: HtxRest, shared: Path) -> None:
    htx_sim.htx_control.settlement("BTC", 0)
    await htx_sim.step(3)
    checked = set()
    for file in ("rest_public.json", "rest_private.json"):
        for sample in json.loads((shared / "data/htx" / file).read_text())["samples"]:
            name = sample["path"].removeprefix(V1)
            if name not in SAMPLED:
                continue
            path = V1 + name if "/" not in name else name
            method = sample["method"]
            answer = await (htx_rest.post(path, **SAMPLED[name]) if method == "POST" else htx_rest.get(path, **SAMPLED[name]))
            assert fits(shape(answer), shape(sample["response"])), (path, shape(answer), shape(sample["response"]))
            assert htx_rest.headers["Content-Type"].startswith("text/plain"), "as recorded; never JSON"
            checked.add(name)
    assert checked == set(SAMPLED)


async def test_private_figures_are_those_of_the_ledger_to_the_last_digit(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    htx_sim.htx_control.order("BTC_NW", "buy", "open", 100, "90000")
    htx_sim.htx_control.order("BTC_CW", "sell", "close", 500, "120000")
    (row,) = (await htx_rest.post(V1 + "account_position_info", symbol="BTC"))["data"]
    book = books(htx_sim)["BTC"]
    names = {
        "margin_balance": "equity",
        "margin_static": "margin_static",
        "margin_position": "position_margin",
        "margin_frozen": "frozen_margin",
        "margin_available": "available",
        "profit_real": "profit_real",
        "profit_unreal": "profit_unreal",
        "risk_rate": "guarantee_asset_ratio",
        "withdraw_available": "withdrawable",
        "adjust_factor": "adjust_factor",
    }
    for theirs, ours in names.items():
        assert Decimal(row[theirs]) == Decimal(book[ours]), theirs
    assert Decimal(row["new_risk_rate"]) == Decimal(book["margin_ratio"])
    assert book["frozen_margin"] == "0.005555555555555555", "100 × 100 USD / 90000 / 20, cut"
    legs = {(leg["contract_code"], leg["direction"]): leg for leg in row["positions"]}
    assert {key: leg["volume"] for key, leg in legs.items()} == {
        (leg["contract_code"], leg["direction"]): leg["volume"] for leg in book["positions"]
    }
    long = next(leg for leg in row["positions"] if leg["direction"] == "buy")
    assert (long["volume"], long["available"], long["frozen"]) == (4000, 3500, 500)
    every = (await htx_rest.post(V1 + "account_info"))["data"]
    assert [coin["symbol"] for coin in every] == ["BTC", "ETH", "LTC", "LINK", "ADA"], "coins without anything too"
    empty = next(coin for coin in every if coin["symbol"] == "LTC")
    assert (empty["risk_rate"], empty["liquidation_price"], empty["new_risk_rate"]) == (None, None, "")


@pytest.mark.parametrize(
    ("path", "parameters", "code", "why"),
    [
        (V1 + "contract_info", {"symbol": "XYZ"}, 1013, "unknown coin"),
        (V1 + "contract_info", {"contract_code": "BTC200101"}, 1014, "a contract of long ago"),
        (V1 + "delivery_price", {}, 1030, "the coin is required"),
        ("/index/market/history/mark_price_kline", {"symbol": "BTC_CQ", "period": "7min", "size": 1}, 1030, "unknown period"),
        ("/index/market/history/mark_price_kline", {"symbol": "BTC_CQ", "period": "1min", "size": 2001}, 1030, "too many"),
        ("/index/market/history/mark_price_kline", {"symbol": "BTC_XX", "period": "1min", "size": 1}, 1014, "unknown alias"),
        ("/market/detail/merged", {"symbol": "NO"}, 1014, "unknown contract"),
    ],
)
async def test_public_refusals(htx_rest: HtxRest, path: str, parameters: Json, code: int, why: str) -> None:
    answer = await htx_rest.get(path, **parameters)
    assert (answer["status"], answer["err_code"]) == ("error", code), why


async def test_private_refusals(htx_rest: HtxRest) -> None:
    path = V1 + "account_position_info"
    assert (await htx_rest.post(path))["err_code"] == 1030
    assert (await htx_rest.post(path, symbol="XYZ"))["err_code"] == 1013
    assert (await htx_rest.post(path, symbol={}))["err_code"] == 1030
    assert (await htx_rest.post(V1 + "account_info", symbol={}))["err_code"] == 1013
    for body in ("[1]", "{", "no"):
        assert (await htx_rest.call("POST", path, htx_rest.auth("POST", path), body))["err_code"] == 1030
    records = V1 + "user_settlement_records"
    assert (await htx_rest.post(records, symbol="BTC", page_size=51))["err_code"] == 1030
    await htx_rest.call("GET", path)
    assert htx_rest.status == 404, "a private call is a POST"


async def test_parameters_select(htx_rest: HtxRest) -> None:
    info = V1 + "contract_info"
    assert {row["symbol"] for row in (await htx_rest.get(info))["data"]} == {"BTC", "ETH", "LTC", "LINK", "ADA"}
    assert [row["contract_type"] for row in (await htx_rest.get(info, symbol="ada"))["data"]] == [
        "this_week",
        "next_week",
        "quarter",
    ]
    weekly = (await htx_rest.get(info, symbol="BTC", contract_type="this_week"))["data"]
    assert (await htx_rest.get(info, contract_code=weekly[0]["contract_code"]))["data"] == weekly
    one = await htx_rest.get("/market/trade", symbol="BTC_NQ")
    assert [row["symbol"] for row in one["tick"]["data"]] == ["BTC_NQ"]
    every = await htx_rest.get("/market/detail/batch_merged")
    assert {row["symbol"] for row in every["ticks"]} >= {"BTC_CW", "ETH_NQ", "ADA_CQ"}


async def test_private_limit_per_user(htx_sim: SimExchange, session: aiohttp.ClientSession) -> None:
    one, two = HtxRest(htx_sim, session), HtxRest(htx_sim, session, "other")
    for left in range(35, -1, -1):
        assert (await one.post(V1 + "account_info", symbol="ADA"))["status"] == "ok"
        assert one.headers["ratelimit-remaining"] == str(left)
    refused = await one.post(V1 + "account_info", symbol="ADA")
    assert (refused["status"], refused["err_code"]) == ("error", 1032)
    assert one.headers["ratelimit-limit"] == "36"
    assert one.headers["ratelimit-interval"] == "3000"
    reset_ms = int(one.headers["ratelimit-reset"])
    assert htx_sim.now_ms() < reset_ms <= htx_sim.now_ms() + 3000, "an absolute time, as recorded"
    assert (await two.post(V1 + "account_info", symbol="ADA"))["status"] == "ok", "users are counted apart"
    assert (await one.get(V1 + "index", symbol="BTC"))["status"] == "ok", "public calls too"
    assert one.headers["ratelimit-limit"] == "120"
    htx_sim.clock(set_ms=reset_ms)
    assert (await one.post(V1 + "account_info", symbol="ADA"))["status"] == "ok"


async def test_maintenance(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    htx_sim.htx_control.fault("maintenance")
    for path in (V1 + "contract_info", "/market/trade"):
        assert await htx_rest.get(path) == {"status": "maintain"}
    assert await htx_rest.post(V1 + "account_info") == {"status": "maintain"}
    assert (await htx_rest.get("/api/v1/timestamp"))["status"] == "ok"
    heartbeat = (await htx_rest.get("/heartbeat/"))["data"]
    assert heartbeat["heartbeat"] == 0
    assert heartbeat["estimated_recovery_time"] > htx_sim.now_ms()
    htx_sim.htx_control.fault("clear")
    assert (await htx_rest.get("/heartbeat/"))["data"]["heartbeat"] == 1
    assert (await htx_rest.get(V1 + "contract_info"))["status"] == "ok"


async def test_rest_faults(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    fault = htx_sim.htx_control.fault
    fault("reject_rest", path="account_info", code=12005, message="Incorrect IP address")
    assert (await htx_rest.get(V1 + "index"))["status"] == "ok", "another path"
    assert (await htx_rest.post(V1 + "account_info"))["err_code"] == 12005
    assert (await htx_rest.post(V1 + "account_info"))["status"] == "ok", "once"
    fault("reject_rest", status=503, html=True)
    assert "<html>" in await htx_rest.get(V1 + "index")
    assert htx_rest.status == 503
    fault("stale_rest", count=2)
    before = (await htx_rest.post(V1 + "account_info", symbol="ADA"))["data"]
    htx_sim.htx_control.transfer("ADA", "100")
    assert (await htx_rest.post(V1 + "account_info", symbol="ada"))["data"] == before
    (fresh,) = (await htx_rest.post(V1 + "account_info", symbol="ADA"))["data"]
    assert fresh["margin_balance"] == before[0]["margin_balance"] + 100
    with pytest.raises(ValueError, match="silence_topic"):
        fault("nonsense")


async def test_tables_change_on_order_and_figures_follow(htx_sim: SimExchange, htx_rest: HtxRest) -> None:
    before = books(htx_sim)["BTC"]
    assert before["net_position"] == 4500
    htx_sim.htx_control.adjust_factors("BTC", 20, [[0, "0.1"], [4500, "0.3"]])
    (row,) = (await htx_rest.post(V1 + "account_info", symbol="BTC"))["data"]
    assert row["adjust_factor"] == Decimal("0.3")
    assert row["risk_rate"] == Decimal(before["guarantee_asset_ratio"]) + Decimal(before["adjust_factor"]) - Decimal("0.3")
    ladders = (await htx_rest.get(V1 + "adjustfactor", symbol="BTC"))["data"][0]["list"]
    assert next(row for row in ladders if row["lever_rate"] == 20)["ladders"] == [
        {"ladder": 0, "min_size": 0, "max_size": 4499, "adjust_factor": Decimal("0.1")},
        {"ladder": 1, "min_size": 4500, "max_size": None, "adjust_factor": Decimal("0.3")},
    ]
    htx_sim.htx_control.ladder("BTC", 20, [[0, 1, 0, 1], [1, None, 1, None]])
    after = books(htx_sim)["BTC"]
    cap = 1 + (Decimal(after["equity"]) - 1) / 20
    assert abs(Decimal(after["available"]) - (cap - Decimal(after["used_margin"]))) < Decimal("1E-17")
    htx_sim.htx_control.transfer_ratio("BTC", "0.25")
    elements = (await htx_rest.get(V1 + "query_elements", contract_code="BTC"))["data"][0]
    assert (elements["real_time_settlement"], elements["transfer_profit_ratio"]) == (1, Decimal("0.25"))


async def test_the_control_api_is_the_same_thing(htx_sim: SimExchange, session: aiohttp.ClientSession) -> None:
    base = f"http://127.0.0.1:{htx_sim.port}/sim"

    async def control(name: str, **arguments: Any) -> tuple[int, Any]:
        async with session.post(f"{base}/{name}", json=arguments) as answer:
            return answer.status, await answer.json()

    status, answer = await control("htx_order", contract="BTC_CQ", direction="sell", offset="open", volume=10)
    assert status == 200
    assert answer["result"] > 2**53, "an id beyond what a double holds"
    assert await control("htx_order", contract="BTC_XX", direction="sell", offset="open", volume=10) == (
        400,
        {"code": 1014, "error": "This contract doesn't exist."},
    )
    assert (await control("htx_leverage", coin="BTC", leverage=7))[1]["code"] == 1037
    assert (await control("htx_price", symbol="BTC_CQ", price="-1"))[0] == 400
    assert (await control("htx_price", symbol="BTC_CQ", price="100000.01"))[0] == 200
    async with session.get(f"{base}/ledger") as ledger:
        venue = (await ledger.json())["venues"]["htx_coin_futures"]
    contract = next(row for row in venue["contracts"].values() if row["alias"] == "BTC_CQ")
    assert (contract["last_price"], contract["mark_price"]) == ("100000.01", "100000.01")
