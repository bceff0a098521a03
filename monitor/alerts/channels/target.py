"""Where a message may go: https, to the public internet, unless the owner allows more for one receiver.

An address has many forms, and what reads it last decides what it means: a resolver takes 2130706433, 0x7f.1 and 127.1 for
127.0.0.1, and a library takes full-width digits and dots for plain ones. So only the plain forms are accepted.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import ValidationInfo

from monitor.model.secret import Secret

_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\.?", re.IGNORECASE)
SHOWN_CHARS = 4
SHOWN_FROM_CHARS = 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def checked_target(url: Secret, info: ValidationInfo) -> Secret:
    """For a field validator of a secret address, after a field `allow_insecure`."""
    check_target(url.reveal(), allow_insecure=info.data.get("allow_insecure", False))
    return url


def check_target(url: str, *, allow_insecure: bool) -> str:
    """The url, if a channel may post to it; else ValueError, whose text never contains the url (it may be a secret)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("must be a URL that starts with https://")
    if any(char <= " " or char == "\x7f" for char in url):
        raise ValueError("a URL has no spaces or control characters")
    if "\\" in parts.netloc:
        raise ValueError("a host has no backslash")
    if allow_insecure:
        return url
    if parts.scheme != "https":
        raise ValueError("must be https; allow_insecure: true permits http")
    if not (_is_address(host) or _NAME.fullmatch(host)):
        raise ValueError(
            "has no plain host: write a name in its ASCII form (xn--…), or an address as 203.0.113.7 or [2001:db8::7]"
        )
    if not is_public(host):
        raise ValueError("is a private address; allow_insecure: true permits it")
    return url


def shown(secret: Secret, host: str = "") -> str:
    """A secret address as it may be shown, to tell it from others: its host, and the last four characters of a long rest.

    host: of a secret that is no address itself.
    """
    rest = secret.reveal()
    if not host:
        parts = urlsplit(rest)
        host, rest = parts.hostname or "", parts._replace(scheme="", netloc="").geturl()
    return f"{host}/…{rest[-SHOWN_CHARS:] if len(rest) >= SHOWN_FROM_CHARS else ''}"


def is_public(host: str) -> bool:
    """False for an address that does not lead to the public internet. Names pass: they are judged when resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if address.is_reserved or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return host.isascii()


class PrivateAddressError(OSError):
    """A name of a public target leads into a private network."""


class PublicOnly(AbstractResolver):
    """Resolves once and hands out what it judged, so that the connection goes to the judged address and to no other."""

    def __init__(self) -> None:
        self._resolver: AbstractResolver = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not all(is_public(one["host"].partition("%")[0]) for one in found):
            raise PrivateAddressError("private address")
        return found

    async def close(self) -> None:
        await self._resolver.close()
