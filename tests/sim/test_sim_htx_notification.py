"""The private and center sockets of HTX: authentication, topics, what is pushed when, and pushes that go astray."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sim_htx_client import HtxReader, books, htx_reader, stamp
from websockets.exceptions import ConnectionClosed

from monitor.sim import SimExchange

NOTIFICATION = "/notification"


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({}, 0, "as documented"),
        ({"secret": "wrong"}, 2003, "wrong secret"),
        ({"Timestamp": stamp(0)}, 2003, "out of time"),
        ({"AccessKeyId": "nobody"}, 2001, "unknown key"),
        ({"type": "ticket"}, 2013, "another way of authentication"),
        ({"Timestamp": None}, 2040, "a parameter is missing"),
    ],
)
async def test_authentication(htx_sim: SimExchange, changes: Any, code: int, why: str) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        answer = await reader.auth(**changes)
        assert (answer["op"], answer["cid"], answer["err-code"]) == ("auth", "a", code), why
        if code == 0:
            assert answer["data"] == {"user-id": htx_sim.htx.account().uid}
            assert (await reader.auth())["err-code"] == 2005, "twice"
            assert (await reader.op("sub", "accounts.btc"))["err-code"] == 0, "which does no harm"
        else:
            assert (await reader.message())["op"] == "close"
            with pytest.raises(ConnectionClosed):
                await reader.message()


@pytest.mark.parametrize(
    ("path", "signs_in", "op", "topic", "code", "why"),
    [
        (NOTIFICATION, False, "sub", "accounts.btc", 2002, "private"),
        (NOTIFICATION, False, "sub", "public.btc.contract_info", 0, "public"),
        (NOTIFICATION, False, "sub", "public.*.contract_info", 0, "public, all coins"),
        (NOTIFICATION, True, "sub", "positions.*", 0, "all coins"),
        (NOTIFICATION, True, "sub", "orders.ETH", 0, "in any case"),
        (NOTIFICATION, True, "sub", "accounts.xyz", 2011, "unknown coin"),
        (NOTIFICATION, True, "sub", "balances.btc", 2010, "unknown topic"),
        (NOTIFICATION, True, "unsub", "accounts.btc", 2012, "never subscribed"),
        (NOTIFICATION, False, "sub", "public.futures.heartbeat", 2010, "at home on the center socket"),
        ("/center-notification", False, "sub", "public.futures.heartbeat", 0, "there"),
        ("/center-notification", False, "sub", "accounts.btc", 2010, "nothing else lives there"),
    ],
)
async def test_subscriptions(htx_sim: SimExchange, path: str, signs_in: bool, op: str, topic: str, code: int, why: str) -> None:
    async with htx_reader(htx_sim, path) as reader:
        if signs_in:
            await reader.auth()
        answer = await reader.op(op, topic)
        assert (answer["topic"], answer["err-code"]) == (topic, code), why
        if code == 0:
            assert (await reader.op("sub", topic))["err-code"] == 2014, "twice"


async def test_one_coin_cannot_leave_a_subscription_to_all(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await reader.auth()
        await reader.op("sub", "accounts.*")
        assert (await reader.op("unsub", "accounts.btc"))["err-code"] == 2010
        assert (await reader.op("unsub", "accounts.*"))["err-code"] == 0


async def test_an_unknown_op_is_an_error_that_ends_nothing(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        for text in ('{"op":"shout"}', "{", "[]", "5", '{"op":"sub"}', '{"op":{}}', '{"op":"sub","topic":[]}'):
            assert (await reader.ask(text))["op"] == "error", text
        assert await reader.ask({"op": "ping", "ts": "5"}) == {"op": "pong", "ts": "5"}


async def signed_in(reader: HtxReader, *topics: str, account: str = "") -> list[Any]:
    """The first pictures of the topics."""
    await reader.auth(account)
    pictures = 0
    for topic in topics:
        assert (await reader.op("sub", topic))["err-code"] == 0
        if topic.split(".")[0] in {"accounts", "positions"}:
            pictures += 5 if topic.endswith("*") else 1
    return await reader.messages(pictures)


async def test_init_shows_all_there_is(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        account, positions, *every = await signed_in(reader, "accounts.btc", "positions.BTC", "accounts.*")
        assert {m["event"] for m in (account, positions, *every)} == {"init"}
        assert account["topic"] == "accounts.btc"
        assert account["data"][0]["margin_balance"] == Decimal(books(htx_sim)["BTC"]["equity"])
        assert {(row["contract_code"], row["direction"]) for row in positions["data"]} == {
            (row["contract_code"], row["direction"]) for row in books(htx_sim)["BTC"]["positions"]
        }
        assert [m["data"][0]["symbol"] for m in every] == ["BTC", "ETH", "LTC", "LINK", "ADA"]


async def test_a_fill_pushes_the_account_whole_and_the_position_in_part(htx_sim: SimExchange, shared: Path) -> None:
    samples = {}
    for sample in json.loads((shared / "data/htx/ws_notification.json").read_text())["messages"]:
        if sample["message"]["op"] == "notify":
            samples[sample["message"]["topic"].split(".")[0]] = sample["message"]
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "accounts.btc", "positions.btc", "orders.btc", "accounts.eth")
        htx_sim.htx_control.order("BTC_CW", "buy", "open", 250)
        account, positions, order = await reader.messages(3)
        assert {m["ts"] for m in (account, positions, order)} == {htx_sim.now_ms()}
        assert account["event"] == positions["event"] == "order.match"
        assert [row["volume"] for row in positions["data"]] == [4250], "the other leg of the contract is not told"
        assert account["data"][0]["profit_real"] == Decimal(books(htx_sim)["BTC"]["profit_real"])
        assert (order["status"], order["trade_volume"], order["liquidation_type"]) == (6, 250, "0")
        assert set(account["data"][0]) == set(samples["accounts"]["data"][0])
        assert set(positions["data"][0]) == set(samples["positions"]["data"][0])
        assert set(account) == set(samples["accounts"])
        assert set(order) == set(samples["orders"])
        assert set(order["trade"][0]) == set(samples["orders"]["trade"][0])
        assert await reader.is_silent(), "nothing of ETH, and nothing twice"


@pytest.mark.parametrize(("absent", "volumes"), [(False, [0]), (True, [])])
async def test_a_leg_that_is_closed(htx_sim: SimExchange, absent: bool, volumes: list[int]) -> None:
    htx_sim.htx_control.fault("absent_closed_legs", on=absent)
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "positions.eth")
        htx_sim.htx_control.order("ETH_NW", "buy", "close", 300)
        assert [row["volume"] for row in (await reader.message())["data"]] == volumes


@pytest.mark.parametrize(
    ("act", "events", "why"),
    [
        (lambda c: c.transfer("BTC", "0.5"), {"accounts": "contract.transfer"}, "positions have no part in it"),
        (
            lambda c: c.leverage("BTC", 10),
            {"accounts": "switch_lever_rate", "positions": "switch_lever_rate"},
            "all legs need other margins now",
        ),
        (lambda c: c.order("BTC_CW", "buy", "open", 1, "50000"), {"accounts": "order.open"}, "margin is frozen, no leg touched"),
        (
            lambda c: c.order("BTC_CW", "sell", "close", 1, "150000"),
            {"accounts": "order.open", "positions": "order.open"},
            "contracts of a leg are frozen",
        ),
        (lambda c: c.adjust_factors("BTC", 20, [[0, "0.3"]]), {}, "tables change without a word"),
        (lambda c: c.price("BTC", "96000"), {}, "prices alone push nothing"),
    ],
)
async def test_what_pushes_what(htx_sim: SimExchange, act: Any, events: dict[str, str], why: str) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "accounts.*", "positions.*")
        act(htx_sim.htx_control)
        told = await reader.messages(len(events))
        assert {m["topic"].removesuffix(".btc"): m["event"] for m in told} == events, why
        assert await reader.is_silent(), why


async def test_snapshots_come_after_five_quiet_seconds(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "accounts.btc", "positions.btc")
        await htx_sim.step(6)
        assert {(m["topic"], m["event"]) for m in await reader.messages(2)} == {
            ("accounts.btc", "snapshot"),
            ("positions.btc", "snapshot"),
        }
        await htx_sim.step(2)
        htx_sim.htx_control.transfer("BTC", "1")
        assert (await reader.message())["event"] == "contract.transfer"
        await htx_sim.step(3)
        positions = await reader.message()
        assert (positions["topic"], len(positions["data"])) == ("positions.btc", 3)
        await htx_sim.step(2)
        account = await reader.message()
        assert account["topic"] == "accounts.btc", "later: of the account there was a push in between"
        assert account["ts"] == positions["ts"] + 2000


async def test_owners_see_their_own_alone(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as mixed, htx_reader(htx_sim, NOTIFICATION) as other:
        await signed_in(mixed, "accounts.*")
        await signed_in(other, "accounts.btc", account="other")
        htx_sim.htx_control.transfer("BTC", "1", account="other")
        assert (await other.message())["data"][0]["margin_balance"] == 2
        assert await mixed.is_silent()


async def test_contracts_are_told_at_first_on_change_and_each_minute(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await reader.op("sub", "public.ada.contract_info")
        first = await reader.message()
        assert (first["event"], [row["contract_type"] for row in first["data"]]) == (
            "init",
            ["this_week", "next_week", "quarter"],
        )
        htx_sim.clock(advance_ms=60_000)
        assert (await reader.message())["event"] == "snapshot"
        htx_sim.htx_control.settlement("ADA", 1)
        assert {row["contract_status"] for row in (await reader.message())["data"]} == {5}


async def test_the_center_socket_outlives_maintenance(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, "/center-notification") as center, htx_reader(htx_sim, NOTIFICATION) as private:
        await center.op("sub", "public.futures.heartbeat")
        first = await center.message()
        assert (first["event"], first["data"]["heartbeat"]) == ("init", 1)
        htx_sim.htx_control.fault("maintenance")
        down = await center.message()
        assert (down["event"], down["data"]["heartbeat"]) == ("update", 0)
        assert down["data"]["estimated_recovery_time"] > htx_sim.now_ms()
        with pytest.raises(ConnectionClosed):
            await private.message()
        htx_sim.htx_control.fault("clear")
        assert (await center.message())["data"] == {"heartbeat": 1, "estimated_recovery_time": None}


@pytest.mark.parametrize(
    ("fault", "amounts", "why"),
    [
        (("drop_pushes", {}), [2, 3], "the first is lost, without a trace"),
        (("drop_pushes", {"event": "order.open"}), [1, 2, 3], "only pushes of one event"),
        (("duplicate_pushes", {}), [1, 1, 2, 3], "the first comes twice"),
        (("reorder_pushes", {"count": 2}), [2, 1, 3], "the first two change places"),
    ],
)
async def test_pushes_that_go_astray(htx_sim: SimExchange, fault: Any, amounts: list[int], why: str) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "accounts.link")
        htx_sim.htx_control.fault(fault[0], **fault[1])
        for _ in range(3):
            htx_sim.htx_control.transfer("LINK", 1)
        assert [m["data"][0]["margin_balance"] for m in await reader.messages(len(amounts))] == amounts, why


async def test_clear_lets_held_pushes_go(htx_sim: SimExchange) -> None:
    async with htx_reader(htx_sim, NOTIFICATION) as reader:
        await signed_in(reader, "accounts.link")
        htx_sim.htx_control.fault("reorder_pushes", count=5)
        htx_sim.htx_control.transfer("LINK", 1)
        assert await reader.is_silent()
        htx_sim.htx_control.fault("clear")
        assert (await reader.message())["data"][0]["margin_balance"] == 1


async def test_a_user_has_thirty_connections(htx_sim: SimExchange) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            reader = await stack.enter_async_context(htx_reader(htx_sim, NOTIFICATION))
            assert (await reader.auth())["err-code"] == 0
        last = await stack.enter_async_context(htx_reader(htx_sim, NOTIFICATION))
        assert (await last.auth())["err-code"] == 2030
