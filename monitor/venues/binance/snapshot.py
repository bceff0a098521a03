"""An account's full picture out of the raw REST answers, v2 and v3 shapes both. Pure: also for answers that were saved to files.

An answer with one unreadable row is refused whole: what is missing in a snapshot counts as flat.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from monitor.model.events import AccountSnapshot, Balance, Mode, Position, VenueFigures
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance.answers import Answer, read, read_one_or_many
from monitor.venues.binance.numbers import Amount, Leverage, Name, NotNegative, TimeMs
from monitor.venues.binance.user_wire import SIDES
from monitor.venues.binance.wire import VENUE

Leg = tuple[str, str]  # symbol, side


# ------------------------------------------------------------------ shapes; a default marks what some version lacks


class AccountConfig(Struct, rename="camel"):
    """`accountConfig`; `multiAssetsMargin` and `positionSide/dual` answer one half each."""

    multi_assets_margin: bool | None = None
    dual_side_position: bool | None = None


class SymbolConfig(Struct, rename="camel"):
    """One row of `symbolConfig`."""

    symbol: Name
    leverage: Leverage
    margin_type: str = ""


class AccountAsset(Struct, rename="camel"):
    asset: Name
    wallet_balance: Amount
    cross_wallet_balance: Amount
    cross_un_pnl: Amount
    unrealized_profit: Amount
    maint_margin: Amount
    initial_margin: Amount
    open_order_initial_margin: Amount
    available_balance: Amount
    max_withdraw_amount: Amount
    update_time: TimeMs = 0


class AccountPosition(Struct, rename="camel"):
    symbol: Name
    position_amt: Amount
    unrealized_profit: Amount
    initial_margin: Amount
    maint_margin: Amount
    position_side: str = "BOTH"
    update_time: TimeMs = 0
    notional: Amount | None = None
    isolated_wallet: Amount | None = None
    entry_price: NotNegative | None = None  # v2
    leverage: Leverage | None = None  # v2
    isolated: bool | None = None  # v2


class Account(Struct, rename="camel"):
    """`account`, v2 or v3."""

    total_initial_margin: Amount
    total_maint_margin: Amount
    total_margin_balance: Amount
    available_balance: Amount
    max_withdraw_amount: Amount
    assets: list[AccountAsset]
    positions: list[AccountPosition]
    multi_assets_margin: bool | None = None  # v2


class RiskPosition(Struct, rename="camel"):
    """One row of `positionRisk`, v2 or v3."""

    symbol: Name
    position_amt: Amount
    entry_price: NotNegative
    un_realized_profit: Amount
    position_side: str = "BOTH"
    mark_price: Amount = 0.0  # the venue has sent 0
    notional: Amount | None = None
    isolated_wallet: Amount = 0.0
    update_time: TimeMs = 0
    margin_asset: str = ""  # v3
    leverage: Leverage | None = None  # v2
    margin_type: str = ""  # v2


# ------------------------------------------------------------------ the picture


class SnapshotAnswers(Struct, frozen=True):
    """One account's answers, read. `risk` None: positionRisk was not asked."""

    account: Account
    risk: list[RiskPosition] | None
    symbols: dict[str, SymbolConfig]
    config: AccountConfig

    def torn(self) -> bool:
        """A fill came between the two answers: their figures belong to different moments."""
        if self.risk is None:
            return False
        return {_leg(row): row.position_amt for row in self.account.positions if row.position_amt} != {
            _leg(row): row.position_amt for row in self.risk if row.position_amt
        }


def read_answers(
    account: Answer, position_risk: Answer | None = None, symbol_config: Answer | None = None, configs: Sequence[Answer] = ()
) -> SnapshotAnswers:
    """Raises VenueError(BAD_ANSWER) with the path of the first field that is not as documented.

    `configs`: `accountConfig`, or `multiAssetsMargin` and `positionSide/dual`, in any order.
    """
    config = AccountConfig()
    for answer in configs:
        part = read(answer, AccountConfig, "accountConfig")
        config = AccountConfig(
            config.multi_assets_margin if part.multi_assets_margin is None else part.multi_assets_margin,
            config.dual_side_position if part.dual_side_position is None else part.dual_side_position,
        )
    answers = SnapshotAnswers(
        read(account, Account, "account"),
        None if position_risk is None else read_one_or_many(position_risk, RiskPosition, "positionRisk"),
        {row.symbol: row for row in read_one_or_many(symbol_config or [], SymbolConfig, "symbolConfig")},
        config,
    )
    for row in (*answers.account.positions, *(answers.risk or ())):
        if row.position_side not in SIDES:
            raise VenueError(Fault.BAD_ANSWER, f"{row.symbol}: unknown positionSide", retryable=True)
    return answers


def account_snapshot(
    answers: SnapshotAnswers, *, account: str, as_of_ms: int, margin_assets: Mapping[str, str] | None = None
) -> AccountSnapshot:
    """The event. `margin_assets`: symbol → margin asset from exchange_info, for answers that do not name it.

    Without any word on the mode (v3 `account` alone) it is taken as single-asset: totals of one asset look like totals in USD.
    `figures` and `implied_prices` come from `account` alone, so that they belong together; a torn picture has none.
    """
    mode = _mode(answers)
    hedge = _hedge(answers)
    positions = tuple(_positions(answers, mode))
    torn = answers.torn()
    if torn:
        figures: tuple[VenueFigures, ...] = ()
    elif mode is Mode.MULTI_ASSETS:
        figures = (_joint_figures(answers.account),)
    else:
        figures = tuple(_single_figures(answers.account, positions, margin_assets or {}, hedge=hedge))
    return AccountSnapshot(
        venue=VENUE,
        account=account,
        as_of_ms=as_of_ms,
        mode=mode,
        hedge=hedge,
        balances=tuple(
            Balance(row.asset, row.wallet_balance, row.cross_wallet_balance, row.update_time)
            for row in answers.account.assets
            if row.wallet_balance or row.cross_wallet_balance
        ),
        positions=positions,
        leverages=_leverages(answers),
        open_order_margins={
            row.asset: row.open_order_initial_margin for row in answers.account.assets if row.open_order_initial_margin
        },
        figures=figures,
        implied_prices={} if torn else _implied_prices(answers),
    )


def _leg(row: AccountPosition | RiskPosition) -> Leg:
    return row.symbol, row.position_side


def _mode(answers: SnapshotAnswers) -> Mode:
    joint = answers.config.multi_assets_margin
    if joint is None:
        joint = answers.account.multi_assets_margin
    return Mode.MULTI_ASSETS if joint else Mode.SINGLE_ASSET


def _hedge(answers: SnapshotAnswers) -> bool:
    """One-way accounts have BOTH rows only."""
    if answers.config.dual_side_position is not None:
        return answers.config.dual_side_position
    return any(row.position_side != "BOTH" for row in (*answers.account.positions, *(answers.risk or ())))


def _leverages(answers: SnapshotAnswers) -> dict[str, float]:
    rows = (*answers.account.positions, *(answers.risk or ()))
    told = {row.symbol: row.leverage for row in rows if row.leverage is not None}
    return told | {symbol: row.leverage for symbol, row in answers.symbols.items()}


# ------------------------------------------------------------------ positions


def _positions(answers: SnapshotAnswers, mode: Mode) -> Iterable[Position]:
    """From positionRisk if asked: its rows hold amount, entry, wallet and margin asset of one moment."""
    by_leg = {_leg(row): row for row in answers.account.positions}
    if answers.risk is None:
        for row in answers.account.positions:
            if row.position_amt:
                isolated = mode is Mode.SINGLE_ASSET and _is_isolated(row, None, answers.symbols.get(row.symbol))
                yield Position(
                    row.symbol,
                    row.position_side,
                    row.position_amt,
                    row.entry_price or _entry_price(row.symbol, row.position_amt, row.notional, row.unrealized_profit),
                    row.update_time,
                    isolated,
                    (row.isolated_wallet or 0.0) if isolated else 0.0,
                )
        return
    for risk in answers.risk:
        if risk.position_amt:
            isolated = mode is Mode.SINGLE_ASSET and _is_isolated(by_leg.get(_leg(risk)), risk, answers.symbols.get(risk.symbol))
            yield Position(
                risk.symbol,
                risk.position_side,
                risk.position_amt,
                risk.entry_price or _entry_price(risk.symbol, risk.position_amt, risk.notional, risk.un_realized_profit),
                risk.update_time,
                isolated,
                risk.isolated_wallet if isolated else 0.0,
                risk.margin_asset,
            )


def _is_isolated(row: AccountPosition | None, risk: RiskPosition | None, symbol: SymbolConfig | None) -> bool:
    """The position's own word first: v2 flags, then a wallet of its own (v3), then the symbol's setting."""
    if row is not None and row.isolated is not None:
        return row.isolated
    if risk is not None and risk.margin_type:
        return risk.margin_type.lower() == "isolated"
    if (row is not None and row.isolated_wallet) or (risk is not None and risk.isolated_wallet):
        return True
    return symbol is not None and symbol.margin_type.upper() == "ISOLATED"


def _entry_price(symbol: str, quantity: float, notional: float | None, pnl: float) -> float:
    """Where the answer has no entry price: mark − PnL / quantity. An entry of 0 would turn the whole notional into profit."""
    entry = abs(notional / quantity) - pnl / quantity if notional else 0.0
    if entry <= 0:
        raise VenueError(Fault.BAD_ANSWER, f"{symbol}: no entry price (v3 accounts have it only in positionRisk)", retryable=True)
    return entry


def _implied_prices(answers: SnapshotAnswers) -> dict[str, float]:
    """The marks that the venue computed the account's figures with."""
    risks = {_leg(row): row for row in answers.risk or ()}
    prices: dict[str, float] = {}
    for row in answers.account.positions:
        if not row.position_amt:
            continue
        risk = risks.get(_leg(row))
        price = 0.0
        if row.notional:
            price = abs(row.notional / row.position_amt)
        elif row.notional is None and row.entry_price:
            price = row.entry_price + row.unrealized_profit / row.position_amt
        elif risk is not None:
            price = risk.mark_price
        if price > 0:
            prices[row.symbol] = price
    return prices


# ------------------------------------------------------------------ the venue's own figures


def _joint_figures(account: Account) -> VenueFigures:
    return VenueFigures(
        "USD",
        equity=account.total_margin_balance,
        maintenance_margin=account.total_maint_margin,
        initial_margin=account.total_initial_margin,
        available=account.available_balance,
        withdrawable=account.max_withdraw_amount,
    )


def _single_figures(
    account: Account, positions: Sequence[Position], margin_assets: Mapping[str, str], *, hedge: bool
) -> Iterable[VenueFigures]:
    """One pool per asset in use, one per isolated position. An asset's totals hold its isolated positions: they are taken out."""
    rows = {_leg(row): row for row in account.positions}
    assets = [row.asset for row in account.assets]
    isolated: dict[str, list[AccountPosition]] = {}
    for position in positions:
        row = rows.get((position.symbol, position.side))
        if position.isolated and row is not None:
            asset = position.margin_asset or margin_assets.get(position.symbol) or margin_asset_of(position.symbol, assets)
            isolated.setdefault(asset, []).append(row)
            wallet = position.isolated_wallet if row.isolated_wallet is None else row.isolated_wallet
            yield VenueFigures(
                f"{position.symbol}:{position.side}" if hedge else position.symbol,
                equity=wallet + row.unrealized_profit,
                maintenance_margin=row.maint_margin,
                initial_margin=row.initial_margin,
            )
    for asset_row in account.assets:
        own = isolated.get(asset_row.asset, [])
        if not (asset_row.cross_wallet_balance or asset_row.cross_un_pnl or asset_row.initial_margin or asset_row.maint_margin):
            continue
        # The venue has reported cross PnL that held isolated positions: with such, the total without them is the safer figure.
        cross_pnl = asset_row.unrealized_profit - sum(row.unrealized_profit for row in own) if own else asset_row.cross_un_pnl
        yield VenueFigures(
            asset_row.asset,
            equity=asset_row.cross_wallet_balance + cross_pnl,
            maintenance_margin=max(0.0, asset_row.maint_margin - sum(row.maint_margin for row in own)),
            initial_margin=max(0.0, asset_row.initial_margin - sum(row.initial_margin for row in own)),
            available=asset_row.available_balance,
            withdrawable=asset_row.max_withdraw_amount,
        )


def margin_asset_of(symbol: str, assets: Iterable[str]) -> str:
    """The margin asset by the symbol's end, for v2 answers without exchangeInfo: ETHBTC → BTC, BTCUSDT_210924 → USDT."""
    pair = symbol.partition("_")[0]
    return max((asset for asset in assets if pair.endswith(asset)), key=len, default="")
