"""What a person may do about alerts over HTTP: acknowledge, silence, and take both back.

    POST   /api/v1/alerts/{id}/ack   {"author": "ann", "note": "adding margin", "minutes": 60}
    DELETE /api/v1/alerts/{id}/ack
    GET    /api/v1/silences
    POST   /api/v1/silences          {"author": "ann", "note": "…", "minutes": 30, "account": "main", "rule": "stale"}
    DELETE /api/v1/silences/{id}

A silence names at least one of venue, account, pool, rule, subject. Answers are JSON, refusals `{"error": …, "hint": …}`.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta, Struct, structs

from monitor.model.alerts import IncidentKey, Silence
from monitor.model.view import Desk, View
from monitor.web.answers import JSON, RefusedError, json_answer, problem
from monitor.web.status import incident_rows

BODY_BYTES_MAX = 8192
OPEN_SHOWN_MAX = 10
ALERT_IDS = "GET /api/v1/alerts lists what is open"
SILENCE_IDS = "GET /api/v1/silences lists what is in force"

Author = Annotated[str, Meta(min_length=1, max_length=64)]
Note = Annotated[str, Meta(max_length=300)]
Part = Annotated[str, Meta(max_length=100)]


class Acknowledge(Struct, forbid_unknown_fields=True):
    """The body of an acknowledgement."""

    author: Author
    note: Note = ""
    minutes: Annotated[float, Meta(gt=0, le=1440)] = 60.0


class AddSilence(Struct, forbid_unknown_fields=True):
    """The body of a new silence."""

    author: Author
    note: Note = ""
    minutes: Annotated[float, Meta(gt=0, le=10080)] = 60.0
    venue: Part = ""
    account: Part = ""
    pool: Part = ""
    rule: Part = ""
    subject: Part = ""


Body = TypeVar("Body", bound=Struct)


class DeskPaths:
    """The handlers. desk: None where nobody may be asked; then every call says so."""

    def __init__(self, view: View, desk: Desk | None, *, writable: bool) -> None:
        self._view = view
        self._desk = desk
        self._writable = writable  # False: reachable by others and no token is set

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/v1/alerts/{id}/ack", self._acknowledge)
        router.add_delete("/api/v1/alerts/{id}/ack", self._unacknowledge)
        router.add_get("/api/v1/silences", self._silences)
        router.add_post("/api/v1/silences", self._silence)
        router.add_delete("/api/v1/silences/{id}", self._unsilence)

    async def _acknowledge(self, request: web.Request) -> web.Response:
        body = await _body(request, Acknowledge)
        try:
            incident = await self._writing().acknowledge(
                request.match_info["id"], author=body.author, note=body.note, minutes=body.minutes
            )
        except ValueError as exc:
            raise _refused(400, str(exc)) from None
        if incident is None:
            return problem(404, "there is no such open incident", self._open())
        return json_answer(incident_rows([incident])[0])

    async def _unacknowledge(self, request: web.Request) -> web.Response:
        incident = await self._writing().unacknowledge(request.match_info["id"])
        if incident is None:
            return problem(404, "there is no such open incident, or it is not acknowledged", ALERT_IDS)
        return json_answer(incident_rows([incident])[0])

    async def _silences(self, request: web.Request) -> web.Response:
        silences = [] if self._desk is None else self._desk.silences()
        incidents = self._view.incidents()
        rows = [_row(silence, [one.id for one in incidents if silence.matches(one.key)]) for silence in silences]
        return json_answer({"now_ms": self._view.now_ms(), "silences": rows})

    async def _silence(self, request: web.Request) -> web.Response:
        body = await _body(request, AddSilence)
        match = IncidentKey(body.venue, body.account, body.pool, body.rule, body.subject)
        try:
            silence = await self._writing().silence(match, author=body.author, note=body.note, minutes=body.minutes)
        except ValueError as exc:
            raise _refused(400, str(exc)) from None
        return json_answer(_row(silence, [one.id for one in self._view.incidents() if silence.matches(one.key)]), status=201)

    async def _unsilence(self, request: web.Request) -> web.Response:
        silence_id = request.match_info["id"]
        if not await self._writing().unsilence(silence_id):
            return problem(404, "there is no such silence in force", SILENCE_IDS)
        return json_answer({"ended": silence_id})

    def _open(self) -> str:
        """What there is to be acknowledged, the worst first."""
        ids = [incident.id for incident in self._view.incidents()]
        more = f" and {len(ids) - OPEN_SHOWN_MAX} more; {ALERT_IDS}" if len(ids) > OPEN_SHOWN_MAX else ""
        return f"open: {', '.join(ids[:OPEN_SHOWN_MAX])}{more}" if ids else "nothing is open"

    def _writing(self) -> Desk:
        if self._desk is None:
            raise _refused(403, "this server only shows", "it was started without an alert desk")
        if not self._writable:
            raise _refused(403, "without a token only loopback may change anything", "set web.token")
        return self._desk


def _refused(status: int, what: str, hint: str = "") -> RefusedError:
    return RefusedError(problem(status, what, hint))


async def _body(request: web.Request, kind: type[Body]) -> Body:
    """The body as `kind`. Only application/json: no form of another site can send it without asking first."""
    if request.content_type != JSON:
        raise _refused(415, "the body must be JSON", f"send {hdrs.CONTENT_TYPE}: {JSON}")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as exc:  # of a field too: its text names the field and what is wrong, not the value
        fields = ", ".join(field.name for field in structs.fields(kind))
        raise _refused(400, str(exc), f"the body is an object of {fields}") from None


def _row(silence: Silence, incident_ids: list[str]) -> dict[str, Any]:
    return {**structs.asdict(silence), "matches": incident_ids}
