"""Who may ask: host names, the token, other sites."""

from __future__ import annotations

from base64 import b64encode

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from web.conftest import Serve
from web.view_in_memory import MemoryView, a_pool

from monitor.model.secret import Secret
from monitor.web.guard import HostCheck, TokenCheck, guard

TOKEN = "correct-horse-Ω"


@pytest.mark.parametrize(
    ("listen", "names", "host", "allowed", "why"),
    [
        ("127.0.0.1", (), "127.0.0.1:9877", True, "the address itself"),
        ("127.0.0.1", (), "localhost:9877", True, "loopback by name"),
        ("127.0.0.1", (), "localhost", True, "without a port"),
        ("127.0.0.1", (), "LOCALHOST", True, "names know no case"),
        ("127.0.0.1", (), "localhost:8080", True, "another port: a tunnel"),
        ("127.0.0.1", (), "[::1]:9877", True, "loopback of IPv6"),
        ("::1", (), "[::1]", True, "loopback of IPv6, without a port"),
        ("127.0.0.1", (), "evil.example:9877", False, "a rebound name keeps its name"),
        ("127.0.0.1", (), "127.0.0.1.evil.example", False, "begins like ours"),
        ("127.0.0.1", (), "localhost.evil.example", False, "begins like ours"),
        ("127.0.0.1", (), "evil.example#localhost", False, "no part of a URL"),
        ("127.0.0.1", (), "evil@localhost", False, "no user"),
        ("127.0.0.1", (), "localhost:", False, "a port without digits"),
        ("127.0.0.1", (), "localhost:123456", False, "no port"),
        ("127.0.0.1", (), "", False, "empty"),
        ("127.0.0.1", (), "ｌocalhost", False, "looks like ours"),
        ("127.0.0.1", (), "192.168.1.7:9877", False, "an address that we do not listen on"),
        ("192.168.1.7", (), "192.168.1.7:9877", True, "the listen address"),
        ("192.168.1.7", (), "192.168.1.8:9877", False, "a neighbour"),
        ("0.0.0.0", (), "192.168.1.7:9877", True, "all addresses are ours, and an address cannot be rebound"),
        ("::", (), "[fe80::1]:9877", True, "the same in IPv6"),
        ("0.0.0.0", (), "evil.example", False, "a name can be rebound wherever we listen"),
        ("0.0.0.0", (), "1.2.3", False, "neither a name of ours nor an address"),
        ("0.0.0.0", ("Monitor.desk.example",), "monitor.desk.example:443", True, "a configured name"),
        ("127.0.0.1", ("monitor",), "monitor2", False, "names are compared whole"),
    ],
)
def test_host_names(listen: str, names: tuple[str, ...], host: str, allowed: bool, why: str) -> None:
    assert HostCheck(listen, names).allows(host) is allowed, why


@given(st.text())
def test_any_host_gets_an_answer(host: str) -> None:
    ours = {"localhost", "127.0.0.1", "[::1]"}
    assert not HostCheck("127.0.0.1").allows(host) or host.lower().rpartition(":")[0] in ours or host.lower() in ours


async def test_a_rebound_name_is_refused_on_every_path(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView([a_pool()]))
    for path in ("", "metrics", "-/healthy", "api/v1/status", "api/v1/events", "static/app.js", "nothing"):
        async with client.get(server.url + path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403, path
            assert b"12000" not in await answer.read()
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def basic(password: str, user: str = "me") -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "allowed", "why"),
    [
        (f"Bearer {TOKEN}", True, "the token"),
        (f"bearer   {TOKEN}", True, "schemes know no case"),
        (basic(TOKEN), True, "a browser can only ask for a password"),
        (basic(TOKEN, ""), True, "of any user"),
        (f"Bearer {TOKEN}x", False, "longer"),
        (f"Bearer {TOKEN[:-1]}", False, "shorter"),
        (f"Bearer {TOKEN.upper()}", False, "another case"),
        ("Bearer ", False, "empty"),
        ("", False, "nothing"),
        (TOKEN, False, "no scheme"),
        (f"Token {TOKEN}", False, "another scheme"),
        (basic("wrong"), False, "a wrong password"),
        (basic("", TOKEN), False, "the token as the user"),
        ("Basic ====", False, "not base64"),
        ("Basic " + b64encode(b"\xff\xfe").decode(), False, "not UTF-8"),
        ("Bearer \udcff", False, "a byte that is not UTF-8, as aiohttp hands it on"),
    ],
)
def test_token(authorization: str, allowed: bool, why: str) -> None:
    assert TokenCheck(Secret(TOKEN)).allows(authorization) is allowed, why


async def test_a_token_guards_everything_but_healthy(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView([a_pool()]), token=Secret("t0ken-canary"))
    for path in ("", "metrics", "-/ready", "api/v1/status", "api/v1/alerts", "api/v1/events", "static/app.js", "nothing"):
        async with client.get(server.url + path) as answer:
            body = await answer.read()
            assert answer.status == 401, path
            assert [challenge.split()[0] for challenge in answer.headers.getall("WWW-Authenticate")] == ["Bearer", "Basic"]
            assert b"t0ken-canary" not in body
        if path != "api/v1/events":
            async with client.get(server.url + path, headers={"Authorization": "Bearer t0ken-canary"}) as answer:
                assert answer.status == (404 if path == "nothing" else 200), path
    async with client.get(server.url + "-/healthy") as answer:
        assert answer.status == 200
    async with client.get(server.url + "-/healthy", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403, "the host is checked there too"


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ({}, 200, "curl says nothing of where it comes from"),
        ({"Sec-Fetch-Site": "same-origin"}, 200, "our own page"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "a form on another site"),
        ({"Sec-Fetch-Site": "same-site"}, 403, "another port of this machine is another site to us"),
        ({"Origin": "http://evil.example"}, 403, "an older browser says only this"),
        ({"Origin": "null"}, 403, "a sandboxed frame"),
        ({"Origin": "http://localhost:1"}, 403, "another port"),
        ({"Origin": "http://["}, 403, "row 20: no URL at all"),
        ({"Origin": ""}, 403, "empty"),
    ],
)
async def test_a_post_from_another_site_is_refused(
    serve: Serve, client: aiohttp.ClientSession, headers: dict[str, str], status: int, why: str
) -> None:
    reloads = 0

    async def reload() -> list[str]:
        nonlocal reloads
        reloads += 1
        return []

    server = await serve(MemoryView(), reload=reload)
    async with client.post(server.url + "-/reload", headers=headers) as answer:
        assert answer.status == status, why
    assert reloads == (status == 200)


@given(
    host=st.sampled_from(["localhost", "127.0.0.1:9877", "[::1]:1", "LocalHost"]) | st.text(),
    origin=st.from_regex(r"(https?|file|)(://|:/|)[\[\]a-z0-9:.@/?#%]*", fullmatch=True)
    | st.text()
    | st.sampled_from(["http://localhost", "https://127.0.0.1:9877", "http://[::1]:1", "http://["]),
)
async def test_row_20_any_host_and_origin_get_an_answer(host: str, origin: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    with capture_logs() as logs:
        headers = {"Host": host, "Origin": origin}
        answer = await guard(HostCheck("127.0.0.1"), None)(make_mocked_request("POST", "/-/reload", headers), handler)
    ours = HostCheck("127.0.0.1").allows(host) and origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
    assert (answer.status, logs) == (200 if ours else 403, [])


async def test_our_own_origin_may_post(serve: Serve, client: aiohttp.ClientSession) -> None:
    async def reload() -> list[str]:
        return []

    server = await serve(MemoryView(), reload=reload)
    async with client.post(server.url + "-/reload", headers={"Origin": server.url[:-1]}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "token", "warned"), [("127.0.0.1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", Secret("x"), False)]
)
async def test_an_open_port_without_a_token_is_said_in_the_log(
    serve: Serve, host: str, token: Secret | None, warned: bool
) -> None:
    with capture_logs() as logs:
        await serve(MemoryView(), host=host, token=token)
    assert ("web_open_to_network" in [entry["event"] for entry in logs]) is warned
