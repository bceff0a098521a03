"""Names and sockets below REST and the streams: the last addresses of a name, and peers that vanish without a word."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger

USER_TIMEOUT_MS: Final = 15_000
_LOOKUP_S = 3.0  # where last addresses are known, a resolver that hangs must not use up the time to connect

AddressInfo = tuple[int, int, int, str, Any]  # as getaddrinfo gives it: family, type, protocol, name, address and port
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class _Known(Struct):
    at: float  # loop time of the last answer
    infos: Sequence[AddressInfo]


class _Loss(Struct):
    since: float
    told: bool = False


class Names:
    """Resolves host names and keeps the last answers, for the time in which there are none.

    Only where to connect comes from memory: TLS goes on to demand the name itself of whoever answers there.
    lasting: told once of a name that is still not resolved `lasting_s` after the first failure; a hiccup is only logged.
    """

    def __init__(self, kept_s: float, lasting: Callable[[str], None], log: Logger, *, lasting_s: float = 60.0) -> None:
        self._kept_s = kept_s
        self._lasting = lasting
        self._lasting_s = lasting_s
        self._log = log
        self._known: dict[tuple[str, int, int], _Known] = {}
        self._lost: dict[str, _Loss] = {}  # names of which the last addresses are used

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> Sequence[AddressInfo]:
        """At least one address. Raises OSError (socket.gaierror) where none is known."""
        loop = asyncio.get_running_loop()
        known = self._known.get((host, port, family))
        if known is not None and loop.time() - known.at > self._kept_s:
            known = None
        try:
            async with asyncio.timeout(_LOOKUP_S if known else None):
                infos = await loop.getaddrinfo(
                    host, port, family=family, type=socket.SOCK_STREAM, flags=getattr(socket, "AI_ADDRCONFIG", 0)
                )
            if not infos:
                raise socket.gaierror(socket.EAI_NONAME, "no address")
        except OSError as exc:  # TimeoutError is one
            if known is None:
                raise
            self._note_loss(host, type(exc).__name__, loop.time() - known.at, loop.time())
            return known.infos
        self._known[host, port, family] = _Known(loop.time(), infos)
        if self._lost.pop(host, None) is not None:
            self._log.info("name_resolved_again", host=host)
        return infos

    def _note_loss(self, host: str, reason: str, age_s: float, now: float) -> None:
        loss = self._lost.get(host)
        if loss is None:
            loss = self._lost[host] = _Loss(now)
            self._log.warning("name_not_resolved", host=host, reason=reason, last_resolved_s=round(age_s))
        if not loss.told and now - loss.since >= self._lasting_s:
            loss.told = True
            self._lasting(host)

    async def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connected socket. Each address gets its share of the time. Raises OSError (TimeoutError, socket.gaierror)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        async with asyncio.timeout_at(deadline):
            infos = await self.resolve(host, port)
        failure: OSError = OSError("no address")
        for tried, info in enumerate(infos):
            sock = socket_of(info)
            try:
                share_s = (deadline - loop.time()) / (len(infos) - tried)
                async with asyncio.timeout(share_s):
                    await loop.sock_connect(sock, info[4])
                return sock
            except OSError as exc:
                sock.close()
                failure = exc
            except BaseException:
                sock.close()
                raise
        raise failure

    def connector(self, tls: Any) -> aiohttp.TCPConnector:
        """For REST: by these names, over these sockets. tls: an SSLContext, or True for the default."""
        return aiohttp.TCPConnector(ssl=tls, limit_per_host=16, resolver=_Resolver(self), socket_factory=socket_of)


class _Resolver(AbstractResolver):
    """The same names for aiohttp."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=of, proto=protocol, flags=_NUMERIC)
            for of, _, protocol, _, address in await self._names.resolve(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def socket_of(info: AddressInfo) -> socket.socket:
    """An unconnected socket that ends by itself when the peer acknowledges nothing for 15 s (Linux; RFC 5482).

    Without it the kernel repeats what we sent for a quarter of an hour before it tells us that nobody is there.
    """
    sock = socket.socket(info[0], info[1], info[2])
    sock.setblocking(False)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return sock
