"""Who may ask what: one middleware before every handler.

The server listens on loopback, where every web page that the owner's browser shows can send requests too. So the `Host` must be
one of ours (a page that rebinds its own name to 127.0.0.1 keeps its name in `Host`), what changes something must not come from
another site, and nothing is ever allowed across origins.
"""

import hmac
import ipaddress
import re
from base64 import b64decode
from collections.abc import Iterable

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from monitor.model.secret import Secret
from monitor.web.answers import RefusedError, problem

log = structlog.get_logger(__name__)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEALTHY_PATH = "/-/healthy"  # needs no token: whoever restarts a dead process has none
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",  # balances do not belong on a browser's disk
    "Server": "margin-monitor",
}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:\[\]/@\\?#]+))(?::\d{1,5})?", re.ASCII)


class HostCheck:
    """Which `Host` headers are ours: loopback, the listen address, and the names of the configuration.

    Listening on all addresses, any literal address is ours too: only names can be rebound.
    """

    def __init__(self, listen: str, names: Iterable[str] = ()) -> None:
        self._names = LOOPBACK_NAMES | {listen.strip("[]").lower()} | {name.lower() for name in names}
        self._any_address = listen in ("", "0.0.0.0", "::", "[::]")  # noqa: S104  compared, not bound

    def allows(self, host: str) -> bool:
        """host: the header's value, with or without a port; the port is free, for it changes on the way through a tunnel."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match[1] or match[2]
        return name in self._names or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class TokenCheck:
    """`Authorization: Bearer <token>`; or the token as the password of `Basic`, which is what a browser can ask its user for."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def allows(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() == "basic":
            try:
                credentials = b64decode(credentials, validate=True).decode().partition(":")[2]
            except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
                return False
        elif scheme.lower() != "bearer":
            return False
        # surrogateescape: aiohttp decodes headers so, and a header that is not UTF-8 is a wrong token, not a crash
        return hmac.compare_digest(credentials.encode("utf-8", "surrogateescape"), self._token.reveal().encode())


def guard(hosts: HostCheck, token: TokenCheck | None) -> Middleware:
    """The middleware: host, token and origin first, and every refusal as JSON."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = _refusal(request, hosts, token)
            return await handler(request) if refusal is None else refusal
        except RefusedError as exc:
            return exc.response
        except web.HTTPException as exc:  # of the router: no such path, no such method
            refusal = problem(exc.status, f"{request.method} {request.path}: {exc.reason}")
            if isinstance(exc, web.HTTPMethodNotAllowed):
                refusal.headers[hdrs.ALLOW] = ", ".join(sorted(exc.allowed_methods))
            return refusal
        except Exception:
            log.exception("web_request_failed", path=request.path)  # no query, no headers
            return problem(500, "this is a defect of the monitor; its log says more")

    return middleware


def _refusal(request: web.Request, hosts: HostCheck, token: TokenCheck | None) -> web.Response | None:
    given = request.headers.getall(hdrs.HOST, [])
    if len(given) != 1 or not hosts.allows(given[0]):
        return problem(403, "this Host is not one of ours", "add it to the host names of the web settings")
    if token is not None and request.path != HEALTHY_PATH and not token.allows(request.headers.get(hdrs.AUTHORIZATION, "")):
        refusal = problem(401, "a token is needed", "send it as 'Authorization: Bearer …', or as the password of any user")
        refusal.headers.add(hdrs.WWW_AUTHENTICATE, 'Bearer realm="margin-monitor"')
        refusal.headers.add(hdrs.WWW_AUTHENTICATE, 'Basic realm="margin-monitor", charset="UTF-8"')
        return refusal
    if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) and _from_elsewhere(request):
        return problem(403, f"a {request.method} from another site is refused")
    return None


def _from_elsewhere(request: web.Request) -> bool:
    """A browser says where a POST or DELETE comes from; a script or curl says nothing, and has no user to be abused."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    host = request.headers[hdrs.HOST].lower()
    # Compared whole, not taken apart: what a hostile page may write there need not be a URL.
    return any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in request.headers.getall(hdrs.ORIGIN, []))


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: the same headers on every answer, streams and refusals included."""
    response.headers.update(SECURITY_HEADERS)
