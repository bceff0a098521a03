"""What a key may do, as the venue itself says: a monitor needs to read, and nothing else."""

from collections.abc import Iterable

from msgspec import Struct

from monitor.venues.base import AccountAccess, Fault, KeyFinding, VenueError
from monitor.venues.binance.answers import Answer, read
from monitor.venues.binance.budget import Priority
from monitor.venues.binance.rest import RestClient
from monitor.venues.binance.signing import KEY_RIGHTS, PRODUCTS


class KeyRights(Struct, rename="camel"):
    """`apiRestrictions`. None: the venue did not say."""

    ip_restrict: bool | None = None
    enable_reading: bool | None = None
    enable_withdrawals: bool | None = None
    enable_internal_transfer: bool | None = None
    permits_universal_transfer: bool | None = None
    enable_spot_and_margin_trading: bool | None = None
    enable_margin: bool | None = None
    enable_futures: bool | None = None
    enable_vanilla_options: bool | None = None
    enable_fix_api_trade: bool | None = None
    enable_portfolio_margin_trading: bool | None = None


class _Products(Struct, rename="camel"):
    """`account/info`. None: the venue did not say."""

    is_portfolio_margin_retail_enabled: bool | None = None


_REFUSED = {
    "enable_withdrawals": ("enableWithdrawals", "can withdraw"),
    "enable_internal_transfer": ("enableInternalTransfer", "can transfer to other accounts"),
    "permits_universal_transfer": ("permitsUniversalTransfer", "can transfer between wallets"),
}
_WARNED = {
    "enable_spot_and_margin_trading": ("enableSpotAndMarginTrading", "can trade spot and margin"),
    "enable_margin": ("enableMargin", "can borrow and trade on margin"),
    "enable_futures": ("enableFutures", "can trade futures"),
    "enable_vanilla_options": ("enableVanillaOptions", "can trade options"),
    "enable_fix_api_trade": ("enableFixApiTrade", "can trade through FIX"),
    "enable_portfolio_margin_trading": ("enablePortfolioMarginTrading", "can trade in portfolio margin"),
}
_HINT = "this monitor only reads: use a key with nothing but Enable Reading"


async def check_key(rest: RestClient, access: AccountAccess) -> list[KeyFinding]:
    """What is wrong with an account's key. Rights that cannot be learned are a warning: not every host has this call."""
    try:
        answer = await rest.call(KEY_RIGHTS, access=access, priority=Priority.RELOAD)
        found = list(findings(answer, access.alias))
    except VenueError as exc:
        what = "the venue rejects the key" if exc.reason is Fault.AUTH else "permissions unknown"
        return [KeyFinding(access.alias, "warn", "", f"{what}: {exc.detail}")]
    try:
        found += product_findings(await rest.call(PRODUCTS, access=access, priority=Priority.RELOAD), access.alias)
    except VenueError as exc:
        found.append(KeyFinding(access.alias, "warn", "", f"whether the account is in Portfolio Margin is unknown: {exc.detail}"))
    return found


def product_findings(answer: Answer, alias: str) -> Iterable[KeyFinding]:
    """Portfolio Margin is another product: its collateral and positions are on other interfaces, under another ratio (uniMMR).

    What this venue's futures answers say of such an account is empty or a part, and no danger would be seen in it. Raises
    VenueError(BAD_ANSWER). Source: the venue's wallet documentation, "Account info".
    """
    if read(answer, _Products, "account/info").is_portfolio_margin_retail_enabled:
        name = "isPortfolioMarginRetailEnabled"
        text = f"the account is in Portfolio Margin ({name}), which is not watched: its figures here would be empty or wrong"
        yield KeyFinding(alias, "refuse", name, f"{text}; take it out of the configuration")


def findings(answer: Answer, alias: str) -> Iterable[KeyFinding]:
    """Raises VenueError(BAD_ANSWER)."""
    rights = read(answer, KeyRights, "apiRestrictions")
    for field, (name, text) in _REFUSED.items():
        if getattr(rights, field) is None:
            yield KeyFinding(alias, "warn", name, f"permissions unknown: the venue does not say whether the key {text}")
        elif getattr(rights, field):
            yield KeyFinding(alias, "refuse", name, f"the key {text} ({name}); {_HINT}")
    for field, (name, text) in _WARNED.items():
        if getattr(rights, field):
            yield KeyFinding(alias, "warn", name, f"the key {text} ({name}); {_HINT}")
    if rights.ip_restrict is not True:
        yield KeyFinding(alias, "warn", "ipRestrict", "the key works from any address: restrict it to this machine's")
    if rights.enable_reading is False:
        yield KeyFinding(alias, "warn", "enableReading", "the key cannot read: turn Enable Reading on")
