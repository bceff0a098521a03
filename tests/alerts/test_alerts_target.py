"""Where messages must never go: forty ways to write an address of this house, names that lead into it, and names that change.

A listener stands on loopback; what counts is that nobody reaches it, whatever refuses and whenever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts.channels import target
from monitor.alerts.channels.http import Answer, Http, NoAnswer
from monitor.alerts.channels.target import PrivateAddressError, PublicOnly, check_target, is_public

FORMS = [
    ("127.0.0.1", "loopback"),
    ("127.8.8.8", "loopback is a whole network"),
    ("127.1", "short form"),
    ("127.0.1", "short form"),
    ("2130706433", "decimal"),
    ("0x7f000001", "hexadecimal"),
    ("0x7F.0.0.1", "hexadecimal in parts"),
    ("0177.0.0.1", "octal"),
    ("017700000001", "octal, whole"),
    ("0177.0x0.1", "mixed"),
    ("127.0.0.1.", "with the root's dot"),
    ("127。0。0。1", "ideographic full stops"),
    ("１２７.0.0.1", "full-width digits"),
    ("①②⑦.0.0.1", "circled digits"),
    ("127%2e0%2e0%2e1", "escaped dots"),
    ("public.example\\@127.0.0.1", "what some take for a path"),
    ("public.example@127.0.0.1", "a user that looks like a host"),
    ("0", "this host"),
    ("0.0.0.0", "this host"),
    ("[::]", "this host"),
    ("[::1]", "loopback"),
    ("[0:0:0:0:0:0:0:1]", "loopback, at length"),
    ("[::127.0.0.1]", "IPv4-compatible"),
    ("[::ffff:127.0.0.1]", "IPv6-mapped"),
    ("[::ffff:7f00:1]", "IPv6-mapped, in hexadecimal"),
    ("[::ffff:a9fe:a9fe]", "IPv6-mapped metadata"),
    ("[64:ff9b::7f00:1]", "NAT64"),
    ("[64:ff9b:1::7f00:1]", "NAT64 of a site"),
    ("[2002:7f00:1::]", "6to4"),
    ("[2001:0:7f00:1::]", "Teredo"),
    ("[fe80::1]", "link-local"),
    ("[fe80::1%25lo]", "link-local with its zone"),
    ("[fec0::1]", "site-local"),
    ("[fd00:ec2::254]", "a cloud's metadata in IPv6"),
    ("[ff02::1]", "all nodes"),
    ("169.254.169.254", "a cloud's metadata"),
    ("0xa9fea9fe", "metadata in hexadecimal"),
    ("2852039166", "metadata in decimal"),
    ("10.0.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.0.1", "private"),
    ("100.100.100.200", "a cloud's metadata in a provider's own network"),
    ("localhost", "a name of the hosts file"),
    ("LOCALHOST.", "the same, with the root's dot"),
]


class Listener:
    """On loopback, on all its addresses; `reached` counts connections."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "0.0.0.0", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    one = Listener()
    async with await one.start():
        yield one


async def ask(url: str, *, allow_insecure: bool = False, resolver: AbstractResolver | None = None) -> Answer | NoAnswer:
    async with Http(allow_insecure=allow_insecure, connect_s=0.5, total_s=0.5, now_ms=lambda: 0) as http:
        if resolver is not None:
            public = http._session._connector._resolver  # type: ignore[union-attr]
            assert isinstance(public, PublicOnly)
            await public._resolver.close()
            public._resolver = resolver
        return await http.post(url, b"{}", {})


def refusal(url: str) -> str:
    """Of the configuration; "" if it lets the url pass."""
    try:
        check_target(url, allow_insecure=False)
    except ValueError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize(("host", "why"), FORMS, ids=[ascii(host) for host, _ in FORMS])
async def test_no_form_of_an_address_of_this_house_is_reached(listener: Listener, host: str, why: str) -> None:
    url = f"https://{host}:{listener.port}/canary"
    said = refusal(url)
    assert "canary" not in said
    assert str(listener.port) not in said, "the url may be a secret as a whole"
    if not said:  # a name: it is judged when it is resolved
        assert "localhost" in host.lower(), f"{why}: the configuration sees it already"
        assert await ask(url) in (NoAnswer("private_address"), NoAnswer("name_not_resolved")), why
    assert listener.reached == 0, why


async def test_the_listener_can_be_reached_where_it_is_allowed(listener: Listener) -> None:
    """Else the test above would prove nothing."""
    url = f"http://127.0.0.1:{listener.port}/"
    check_target(url, allow_insecure=True)
    assert await ask(url, allow_insecure=True) == NoAnswer("connection_lost")
    assert listener.reached == 1


@pytest.mark.parametrize(
    "host",
    [
        "hooks.slack.com",
        "xn--bcher-kva.example",
        "a",
        "a-b.example.",
        "8.8.8.8",
        "[2606:4700:4700::1111]",
        "1password.com",
        "a_b.example",
    ],
)
def test_plain_hosts_pass(host: str) -> None:
    url = f"https://{host}:8443/x?y=z"
    assert check_target(url, allow_insecure=False) == url


@given(st.one_of(st.ip_addresses(), st.ip_addresses(network="::ffff:0:0/96"), st.ip_addresses(network="64:ff9b::/96")))
def test_an_address_is_judged_the_same_in_every_spelling(address: object) -> None:
    one = ip_address(str(address))
    assert is_public(one.compressed) == is_public(one.exploded)
    if one.version == 4:
        assert is_public(str(one)) == is_public(f"::ffff:{one}") == is_public(f"64:ff9b::{one}")


# ------------------------------------------------------------------ names


class Script(AbstractResolver):
    """A name server whose answers follow a script; the last one holds."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        self.asked += 1
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)
            for one in found
        ]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (["127.0.0.1"], "a public name of a private address"),
        (["10.0.0.7"], "of a neighbour"),
        (["169.254.169.254"], "of the cloud's metadata"),
        (["8.8.8.8", "127.0.0.1"], "one private address among public ones is enough"),
        (["::ffff:127.0.0.1"], "mapped"),
        (["fe80::1%lo"], "with a zone"),
    ],
)
async def test_a_name_that_leads_into_this_house(listener: Listener, found: list[str], why: str) -> None:
    answer = await ask(f"https://public.example:{listener.port}/", resolver=Script(found))
    assert (answer, listener.reached) == (NoAnswer("private_address"), 0), why


async def test_a_name_that_is_rebound_after_it_was_judged(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.2 plays the internet. The connection goes to what was judged; nobody asks the name server a second time."""
    judge = target.is_public
    monkeypatch.setattr(target, "is_public", lambda host: host == "127.0.0.2" or judge(host))
    names = Script(["127.0.0.2"], ["127.0.0.1"])
    with socket.socket() as internet:
        internet.bind(("127.0.0.2", 0))
        internet.listen()
        internet.setblocking(False)
        port = internet.getsockname()[1]
        asking = asyncio.create_task(ask(f"https://public.example:{port}/", resolver=names))
        connection, peer = await asyncio.get_running_loop().sock_accept(internet)
        connection.close()
        assert isinstance(await asking, NoAnswer)
        assert peer[0].startswith("127.")
        assert names.asked == 1, "resolved once, connected to that"
    assert await ask(f"https://public.example:{listener.port}/", resolver=names) == NoAnswer("private_address")
    assert listener.reached == 0


async def test_what_the_resolver_finds_private_is_an_error() -> None:
    resolver = PublicOnly()
    with pytest.raises(PrivateAddressError):
        await resolver.resolve("localhost", 443)
    await resolver.close()
