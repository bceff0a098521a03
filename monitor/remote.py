"""The running daemon, asked over its HTTP API by the command line: how all stands, what is open, acknowledge, silence."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import orjson
from pydantic_core import PydanticCustomError

from monitor.model.secret import Secret
from monitor.secret_sources import SecretReader
from monitor.terminal import length, printable

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 << 20


class RemoteError(Exception):
    """The daemon could not be asked or refused; `problem` and `hint` are for people."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class AddressError(RemoteError):
    """What was given to reach the daemon by is wrong in itself."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that was named and to no other."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


class Daemon:
    """Its HTTP API at `url`, e.g. http://127.0.0.1:9877. No proxy is used and no redirect followed.

    token_file: holds web.token, readable by its owner only. Raises AddressError.
    """

    def __init__(self, url: str, token_file: Path | None = None) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good:
            raise AddressError(f"{url!r} is no address of a daemon", "write it like http://127.0.0.1:9877")
        self._url = url.rstrip("/")
        self._token = None if token_file is None else _token(token_file)
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects).open

    def hangs(self) -> list[str]:
        """Why a restart of it would help, in plain words; empty: it is alive. Needs no token."""
        answer = self._call("GET", "/-/healthy", besides=http.client.SERVICE_UNAVAILABLE)
        if "healthy" not in answer:
            raise RemoteError(f"what answers at {self._url} is no margin-monitor", "--url is the daemon's web.listen")
        return [*map(str, answer.get("hangs", []))]

    def missing(self) -> list[str]:
        """What keeps it from being ready, in plain words; empty if nothing does."""
        return [*map(str, self._call("GET", "/-/ready", besides=http.client.SERVICE_UNAVAILABLE)["missing"])]

    def status(self) -> dict[str, Any]:
        """All that the status page shows: all pools, streams, incidents, channels, and what is missing."""
        return self._status("")

    def worst(self, rows: int) -> dict[str, Any]:
        """The same with the `rows` worst pools, each with the position `nearest` to liquidation; `total`, `levels`: of all."""
        return self._status(f"?rows={rows}")

    def _status(self, query: str) -> dict[str, Any]:
        answer = self._call("GET", f"/api/v1/status{query}")
        if "pools" not in answer:
            raise RemoteError(f"what answers at {self._url} is no margin-monitor", "--url is the daemon's web.listen")
        return answer

    def alerts(self) -> dict[str, Any]:
        """`incidents`, worst first, and `now_ms` by the daemon's clock."""
        return self._call("GET", "/api/v1/alerts")

    def acknowledge(self, incident_id: str, author: str, note: str, minutes: float) -> dict[str, Any]:
        """The incident as it is now."""
        return self._call("POST", f"{_alert(incident_id)}/ack", {"author": author, "note": note, "minutes": minutes})

    def unacknowledge(self, incident_id: str) -> dict[str, Any]:
        return self._call("DELETE", f"{_alert(incident_id)}/ack")

    def silences(self) -> dict[str, Any]:
        """`silences` in force, the next to end first, and `now_ms` by the daemon's clock."""
        return self._call("GET", "/api/v1/silences")

    def silence(self, match: dict[str, str], author: str, note: str, minutes: float) -> dict[str, Any]:
        """match: venue, account, pool, rule, subject, as far as they are named."""
        return self._call("POST", "/api/v1/silences", {"author": author, "note": note, "minutes": minutes, **match})

    def unsilence(self, silence_id: str) -> None:
        self._call("DELETE", f"/api/v1/silences/{quote(silence_id, safe='')}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None, *, besides: int = 0) -> dict[str, Any]:
        """besides: an HTTP status that is an answer like 200."""
        headers = {"Accept": "application/json", "User-Agent": "margin-monitor"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310  http or https, see above
        try:
            with self._open(request, timeout=TIMEOUT_S) as response:
                answer = response.read(ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code != besides:
                    _refused(exc, token_given=self._token is not None)
                answer = exc.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as exc:
            reason = getattr(exc, "reason", exc)
            why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise RemoteError(
                f"no daemon answers at {self._url}: {why}", "is `margin-monitor run` running? --url is its web.listen"
            ) from None
        return _object(answer, self._url)


def _refused(exc: urllib.error.HTTPError, *, token_given: bool) -> NoReturn:
    if exc.code == http.client.UNAUTHORIZED and token_given:
        raise RemoteError("the daemon refuses this token", "it wants the one in the file that its web.token names")
    if exc.code == http.client.UNAUTHORIZED:
        raise RemoteError("the daemon wants its token", "--token-file FILE, the file that web.token names")
    try:
        said = _object(exc.read(ANSWER_BYTES_MAX), "")
        problem, hint = str(said["error"]), str(said.get("hint", ""))
    except (RemoteError, KeyError, OSError, http.client.HTTPException):
        problem, hint = f"HTTP {exc.code}", "is this address a margin-monitor?"
    raise RemoteError(f"the daemon refused: {problem}", hint)


def _object(answer: bytes, url: str) -> dict[str, Any]:
    try:
        decoded = orjson.loads(answer)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise RemoteError(f"what answers at {url} is no margin-monitor", "--url is the daemon's web.listen")
    return decoded


def _alert(incident_id: str) -> str:
    return f"/api/v1/alerts/{quote(incident_id, safe='')}"


def _token(path: Path) -> Secret:
    try:
        return SecretReader(environ=os.environ, folder=Path.cwd())({"file": str(path)})
    except PydanticCustomError as exc:
        context = exc.context or {}
        raise AddressError(str(context.get("problem", exc.message())), str(context.get("hint", ""))) from None


# ------------------------------------------------------------------ lines


def alert_lines(answer: dict[str, Any]) -> list[str]:
    """Two lines per open incident, worst first. answer: of `Daemon.alerts`."""
    lines = []
    for one in answer["incidents"]:
        place = " · ".join(one[part] for part in ("account", "pool", "venue", "rule", "subject") if one[part])
        age = length(answer["now_ms"] - one["opened_ms"])
        lines.append(f"{one['level']:<11} {one['id']}  {age}{_quiet(one, answer['now_ms'])}  {place}")
        lines.append(f"{'':<11} {one['summary']}")
    return [printable(line) for line in lines] or ["nothing is open"]


def silence_lines(answer: dict[str, Any]) -> list[str]:
    """A line per silence in force. answer: of `Daemon.silences`."""
    lines = []
    for one in answer["silences"]:
        rest = f"{length(one['until_ms'] - answer['now_ms'])} more, {len(one['matches'])} open now, by {one['author']}"
        lines.append(f"{one['id']}  {matched(one)}  {rest}" + (f": {one['note']}" if one["note"] else ""))
    return [printable(line) for line in lines] or ["nothing is silenced"]


def matched(silence: dict[str, Any]) -> str:
    """What a silence matches, in words."""
    return " ".join(f"{part}={silence[part]}" for part in ("venue", "account", "pool", "rule", "subject") if silence[part])


def _quiet(incident: dict[str, Any], now_ms: int) -> str:
    acknowledged = incident["acknowledged"]
    text = "  silenced" if incident["silence_id"] else ""
    if acknowledged is not None:
        text += f"  acknowledged by {acknowledged['author']}, {length(acknowledged['until_ms'] - now_ms)} more"
    return text
