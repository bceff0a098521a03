"""What a key may do, as the venue itself says: a monitor needs to read, and nothing else.

The futures host does not tell; the spot host does, to the parent user only.
"""

from collections.abc import Iterable

from msgspec import Struct

from monitor.venues.base import AccountAccess, Fault, KeyFinding, VenueError
from monitor.venues.htx.numbers import Answer, read
from monitor.venues.htx.rest import RestClient
from monitor.venues.htx.signing import USER_API_KEY, USER_UID

_HINT = "this monitor only reads: use a key with nothing but the right readOnly"
_DAYS_LEFT_WARN = 14


class _Uid(Struct):
    data: int | str


class _Key(Struct, rename="camel"):
    permission: str
    access_key: str = ""
    status: str = ""
    ip_addresses: str = ""
    valid_days: int = -1


class _Keys(Struct):
    data: list[_Key]


async def check_key(rest: RestClient, access: AccountAccess) -> list[KeyFinding]:
    """What is wrong with an account's key. Rights that cannot be learned are a warning: unknown is not safe."""
    try:
        uid = read(await rest.call(USER_UID, access=access), _Uid, "user/uid").data
        rest.identify(access, str(uid))
        parameters = [("uid", str(uid)), ("accessKey", access.api_key.reveal())]
        answer = await rest.call(USER_API_KEY, parameters, access=access)
        return list(findings(answer, access.alias, access.api_key.reveal()))
    except VenueError as exc:
        what = "the venue rejects the key" if exc.reason is Fault.AUTH else "permissions unknown"
        return [KeyFinding(access.alias, "warn", "", f"{what}: {exc.detail}")]


def findings(answer: Answer, alias: str, access_key: str) -> Iterable[KeyFinding]:
    """Raises VenueError(BAD_ANSWER). The text never holds the key."""
    keys = [key for key in read(answer, _Keys, "user/api-key").data if key.access_key == access_key]
    if not keys:
        yield KeyFinding(alias, "warn", "", "permissions unknown: the venue does not name this key")
        return
    key = keys[0]
    rights = [right.strip() for right in key.permission.split(",") if right.strip()]
    if not rights:
        yield KeyFinding(alias, "warn", "", "permissions unknown: the venue names no right of the key")
    for right in rights:
        if right.lower() == "withdraw":
            yield KeyFinding(alias, "refuse", right, f"the key can withdraw; {_HINT}")
        elif right.lower() == "trade":
            yield KeyFinding(alias, "warn", right, f"the key can trade and transfer; {_HINT}")
        elif right.lower() != "readonly":
            yield KeyFinding(alias, "warn", right, f"the key has a right that is not known here; {_HINT}")
    if rights and "readonly" not in (right.lower() for right in rights):
        yield KeyFinding(alias, "warn", "readOnly", "the key cannot read: turn the right readOnly on")
    if not key.ip_addresses.strip():
        yield KeyFinding(alias, "warn", "ipAddresses", "the key works from any address: restrict it to this machine's")
    if 0 <= key.valid_days <= _DAYS_LEFT_WARN:
        yield KeyFinding(alias, "warn", "validDays", f"the key ends in {key.valid_days} days: a key bound to an address does not")
    if key.status and key.status != "normal":
        yield KeyFinding(alias, "warn", "status", "the venue has suspended the key")
