"""The simulated exchange's own arithmetic: margins and totals of one account, at full precision, in plain loops.

Sources: the help pages "How to calculate margin in Multi-Assets mode" and "How to calculate liquidation price", and the
maintenance tiers. Nothing here is shared with the monitor that it is to test.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from monitor.sim.binance.account import Account, Leg
from monitor.sim.binance.market import Bracket, Collateral, Market, bracket_of

ZERO = Decimal(0)


@dataclass
class LegFigures:
    """One position or, with quantity 0, the open orders of a position to be. Amounts in the margin asset."""

    leg: Leg
    asset: str
    isolated: bool
    mark: Decimal
    notional: Decimal  # signed
    pnl: Decimal
    bracket: Bracket
    maintenance: Decimal
    position_initial: Decimal
    order_initial: Decimal
    bid_notional: Decimal  # open orders
    ask_notional: Decimal

    @property
    def initial(self) -> Decimal:
        return self.position_initial + self.order_initial


@dataclass
class AssetFigures:
    """One asset of the account, in that asset. Without `cross_` an amount includes isolated positions."""

    asset: str
    wallet: Decimal
    cross_wallet: Decimal
    pnl: Decimal = ZERO
    cross_pnl: Decimal = ZERO
    maintenance: Decimal = ZERO
    cross_maintenance: Decimal = ZERO
    position_initial: Decimal = ZERO
    cross_position_initial: Decimal = ZERO
    order_initial: Decimal = ZERO
    isolated_order_initial: Decimal = ZERO
    available: Decimal = ZERO
    max_withdraw: Decimal = ZERO

    @property
    def initial(self) -> Decimal:
        return self.position_initial + self.order_initial

    @property
    def cross_initial(self) -> Decimal:
        return self.cross_position_initial + self.order_initial - self.isolated_order_initial

    @property
    def equity(self) -> Decimal:
        """What counts towards the pool: cross wallet and cross PnL."""
        return self.cross_wallet + self.cross_pnl


@dataclass
class Totals:
    """The account's total* fields: USD in Multi-Assets mode, the USDT asset alone in single-asset mode."""

    wallet: Decimal
    pnl: Decimal
    equity: Decimal
    maintenance: Decimal
    position_initial: Decimal
    order_initial: Decimal
    cross_wallet: Decimal
    cross_pnl: Decimal
    available: Decimal
    max_withdraw: Decimal


@dataclass
class Pool:
    """What is liquidated together: "USD" (Multi-Assets), an asset (single-asset cross), or one isolated position."""

    name: str
    equity: Decimal
    maintenance: Decimal
    legs: list[LegFigures] = field(default_factory=list)

    @property
    def is_due(self) -> bool:
        return self.maintenance > 0 and self.equity <= self.maintenance


@dataclass
class Figures:
    legs: list[LegFigures]
    assets: dict[str, AssetFigures]
    totals: Totals
    pools: dict[str, Pool]


def counted(amount: Decimal, collateral: Collateral) -> Decimal:
    """USD that an asset's equity counts for: owned at bid, owed at ask."""
    return amount * (collateral.bid if amount >= 0 else collateral.ask)


def figures(account: Account, market: Market) -> Figures:
    legs = leg_figures(account, market)
    assets = _asset_figures(account, market, legs)
    if account.multi_assets:
        totals = _joint_totals(assets, market)
        for row in assets.values():
            collateral = market.assets[row.asset]
            row.available = totals.available / collateral.ask
            row.max_withdraw = max(ZERO, min(row.cross_wallet, totals.available / collateral.bid))
        cross = [leg for leg in legs if not leg.isolated]
        pools = {"USD": Pool("USD", totals.equity, totals.maintenance, cross)}
    else:
        for row in assets.values():
            _single_availability(row)
        totals = _usdt_totals(assets)
        pools = _single_pools(assets, legs)
    return Figures(legs, assets, totals, pools)


def leg_figures(account: Account, market: Market) -> list[LegFigures]:
    rows = []
    for leg in account.legs.values():
        orders = [o for o in account.orders.values() if (o.symbol, o.position_side) == (leg.symbol, leg.side)]
        if not leg.quantity and not orders:
            continue
        contract = market.contracts[leg.symbol]
        leverage = account.leverage(leg.symbol)
        notional = leg.quantity * contract.mark
        bids = sum((o.quantity * o.price for o in orders if o.side == "BUY"), ZERO)
        asks = sum((o.quantity * o.price for o in orders if o.side == "SELL"), ZERO)
        worse = max(abs(notional), abs(notional + bids), abs(notional - asks))
        bracket = bracket_of(contract.brackets, notional)
        rows.append(
            LegFigures(
                leg=leg,
                asset=contract.margin_asset,
                isolated=account.is_isolated(leg.symbol),
                mark=contract.mark,
                notional=notional,
                pnl=leg.quantity * (contract.mark - leg.entry_price),
                bracket=bracket,
                maintenance=abs(notional) * bracket.rate - bracket.cum,
                position_initial=abs(notional) / leverage,
                order_initial=(worse - abs(notional)) / leverage,
                bid_notional=bids,
                ask_notional=asks,
            )
        )
    return rows


def _asset_figures(account: Account, market: Market, legs: Iterable[LegFigures]) -> dict[str, AssetFigures]:
    """A row for every asset that the exchange lists."""
    rows = {
        asset: AssetFigures(asset, account.wallets.get(asset, ZERO), account.cross_wallet(asset, market))
        for asset in market.assets
    }
    for leg in legs:
        row = rows[leg.asset]
        row.pnl += leg.pnl
        row.maintenance += leg.maintenance
        row.position_initial += leg.position_initial
        row.order_initial += leg.order_initial
        if leg.isolated:
            row.isolated_order_initial += leg.order_initial
        else:
            row.cross_pnl += leg.pnl
            row.cross_maintenance += leg.maintenance
            row.cross_position_initial += leg.position_initial
    return rows


def _joint_totals(assets: dict[str, AssetFigures], market: Market) -> Totals:
    totals = Totals(*[ZERO] * 10)
    for row in assets.values():
        collateral = market.assets[row.asset]
        if not collateral.margin_available:
            continue
        # One rate per asset, picked by the sign of its equity: PnL is not valued by its own sign.
        rate = collateral.bid if row.equity >= 0 else collateral.ask
        totals.wallet += row.cross_wallet * rate
        totals.pnl += row.cross_pnl * rate
        totals.equity += counted(row.equity, collateral)
        totals.maintenance += row.cross_maintenance * collateral.ask
        totals.position_initial += row.cross_position_initial * collateral.ask
        totals.order_initial += row.order_initial * collateral.ask
    totals.cross_wallet, totals.cross_pnl = totals.wallet, totals.pnl
    totals.available = max(ZERO, totals.equity - totals.position_initial - totals.order_initial)
    totals.max_withdraw = totals.available
    return totals


def _single_availability(row: AssetFigures) -> None:
    row.available = max(ZERO, row.equity - row.cross_initial - row.isolated_order_initial)
    without_pnl = row.cross_wallet - row.isolated_order_initial - row.cross_maintenance
    row.max_withdraw = max(ZERO, min(without_pnl, row.available))


def _usdt_totals(assets: dict[str, AssetFigures]) -> Totals:
    row = assets["USDT"]
    return Totals(
        wallet=row.wallet,
        pnl=row.pnl,
        equity=row.wallet + row.pnl,
        maintenance=row.maintenance,
        position_initial=row.position_initial,
        order_initial=row.order_initial,
        cross_wallet=row.cross_wallet,
        cross_pnl=row.cross_pnl,
        available=row.available,
        max_withdraw=row.max_withdraw,
    )


def _single_pools(assets: dict[str, AssetFigures], legs: Iterable[LegFigures]) -> dict[str, Pool]:
    pools: dict[str, Pool] = {}
    for leg in legs:
        if leg.isolated:
            name = leg.leg.symbol if leg.leg.side == "BOTH" else f"{leg.leg.symbol}:{leg.leg.side}"
            pools[name] = Pool(name, leg.leg.isolated_wallet + leg.pnl, leg.maintenance, [leg])
        else:
            row = assets[leg.asset]
            pools.setdefault(leg.asset, Pool(leg.asset, row.equity, row.cross_maintenance)).legs.append(leg)
    for row in assets.values():
        if row.cross_wallet and row.asset not in pools:
            pools[row.asset] = Pool(row.asset, row.equity, row.cross_maintenance)
    return pools
