"""Everything a venue tells us, as immutable facts with absolute values and the venue's time.

A repeated or late event is harmless: rows carry their version. `account` is the alias of the configuration.
The engine folds these into figures; live feeds, the simulated exchange and a replay are sources of the same events.
"""

from enum import StrEnum

from msgspec import Struct

from monitor.model.instruments import AssetInfo, BracketTable, CoinTerms, FactorTable, Instrument, LadderTable

# ------------------------------------------------------------------ market


class PriceKind(StrEnum):
    """Three different things; a margin scheme names the one it uses."""

    MARK = "mark"
    LAST = "last"
    INDEX = "index"


class Price(Struct, gc=False):
    """One price of one contract, quote per unit. The wire refuses what is not finite and > 0."""

    symbol: str
    price: float
    event_time_ms: int  # the venue's clock, not ours


class Prices(Struct, frozen=True):
    """A frame of prices: any number of symbols, upserted by symbol."""

    venue: str
    kind: PriceKind
    rows: list[Price]
    late_ms: int = 0  # by how much it came later than usual: what waited in buffers is so old, however new it is to us


class AssetRate(Struct, gc=False):
    """What one unit of a collateral asset counts for, in USD."""

    asset: str
    index: float
    bid: float  # index × (1 − haircut): owned
    ask: float  # index × (1 + haircut): owed
    event_time_ms: int
    auto_exchange_bid: float = 0.0  # 0: not said
    auto_exchange_ask: float = 0.0


class AssetRates(Struct, frozen=True):
    venue: str
    rows: list[AssetRate]


class Instruments(Struct, frozen=True):
    """Contracts, and margin assets where the venue lists them. `complete`: a symbol that is missing here is gone."""

    venue: str
    rows: tuple[Instrument, ...]
    assets: tuple[AssetInfo, ...] = ()
    complete: bool = False


class Brackets(Struct, frozen=True):
    """Maintenance tiers. account "": they hold for every account that has none of its own (a public notice)."""

    venue: str
    account: str
    tables: tuple[BracketTable, ...]
    event_time_ms: int


class GuaranteeTables(Struct, frozen=True):
    """The tables of coin-margined futures, public and complete for the coins that they name; empty tuples say nothing."""

    venue: str
    event_time_ms: int
    factors: tuple[FactorTable, ...] = ()
    ladders: tuple[LadderTable, ...] = ()
    terms: tuple[CoinTerms, ...] = ()


class Settlement(Struct, frozen=True):
    """A coin's settlement or delivery begins or is over. While it lasts the venue's answers on the coin are not to be trusted.

    account: of which the coin was read again afterwards; "": of all.
    """

    venue: str
    coin: str
    running: bool
    event_time_ms: int
    account: str = ""


# ------------------------------------------------------------------ account


class Mode(StrEnum):
    """How an account's margin is pooled."""

    MULTI_ASSETS = "multi_assets"  # one pool "USD"
    SINGLE_ASSET = "single_asset"  # one pool per margin asset, one per isolated position


class Balance(Struct, frozen=True):
    """One asset's wallet: absolute."""

    asset: str
    wallet: float  # realised balance, isolated margins included
    cross_wallet: float  # without isolated margins
    version_ms: int  # the venue's time of the last change


class Position(Struct, frozen=True):
    """One leg: absolute. quantity 0 is flat."""

    symbol: str
    side: str  # "BOTH" (one-way), "LONG", "SHORT"
    quantity: float  # signed: coin (linear), contracts (inverse); short < 0 on either side value
    entry_price: float  # unrealised PnL counts from here; 0 when flat
    version_ms: int
    isolated: bool = False
    isolated_wallet: float = 0.0
    margin_asset: str = ""  # "": not said here, the instrument decides
    open_price: float | None = None  # average price of opening where it differs from entry_price (cost_open)


class VenueFigures(Struct, frozen=True):
    """The venue's own figures of one pool, in the pool's unit: what we reconcile against."""

    pool: str
    equity: float
    maintenance_margin: float
    initial_margin: float | None = None
    available: float | None = None
    withdrawable: float | None = None


class AccountSnapshot(Struct, frozen=True, kw_only=True):
    """A full picture. What is missing in it is flat, unless a newer row says otherwise."""

    venue: str
    account: str
    as_of_ms: int  # the venue's clock when we asked: the answer is not older than this
    mode: Mode
    hedge: bool  # True: LONG and SHORT legs side by side
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    leverages: dict[str, float]  # by symbol, where known
    open_order_margins: dict[str, float]  # initial margin of open orders by asset, in the asset
    figures: tuple[VenueFigures, ...]  # the venue's own, by pool
    implied_prices: dict[str, float]  # mark prices that the venue computed `figures` with, where they follow from the answer


class AccountUpdate(Struct, frozen=True, kw_only=True):
    """Only what changed; values absolute. Empty `positions` clears nothing."""

    venue: str
    account: str
    event_time_ms: int
    reason: str  # the venue's own word: ORDER, FUNDING_FEE, …
    balances: tuple[Balance, ...] = ()
    positions: tuple[Position, ...] = ()


class CoinBalance(Struct, frozen=True, kw_only=True):
    """One coin's account (coin-margined futures), absolute, in the coin; with the venue's own figures, where told."""

    coin: str
    margin_static: float  # equity without unrealised PnL
    profit_real: float  # realised in this settlement period, inside margin_static
    margin_frozen: float  # margin of open orders
    leverage: float  # one for all contracts and both sides of the coin
    adjust_factor: float | None  # in force at version_ms, by the venue's own word
    version_ms: int
    venue_equity: float | None = None  # margin_balance
    venue_position_margin: float | None = None  # margin_position, after locking
    venue_guarantee_asset_ratio: float | None = None  # risk_rate, a fraction
    venue_available: float | None = None
    venue_withdrawable: float | None = None
    venue_liquidation_price: float | None = None


class CoinsHeld(Struct, frozen=True):
    """The coins in which an account holds anything, or that are to be watched: of each a snapshot is to come."""

    venue: str
    account: str
    coins: tuple[str, ...]
    as_of_ms: int


class CoinSnapshot(Struct, frozen=True, kw_only=True):
    """A full picture of one coin of one account. What is missing in it is flat, unless a newer row says otherwise.

    Position.entry_price is cost_hold, from which unrealised PnL counts; quantity is contracts, short < 0; side LONG or SHORT.
    """

    venue: str
    account: str
    as_of_ms: int
    balance: CoinBalance
    positions: tuple[Position, ...]
    implied_prices: dict[str, float]  # last prices that the venue computed its figures with
    live: bool = False  # the account's stream was open when it was asked for, and carries the coin on from here


class CoinUpdate(Struct, frozen=True, kw_only=True):
    """Only what changed, of any coins; values absolute. A leg that is not named is as it was."""

    venue: str
    account: str
    event_time_ms: int
    reason: str  # the venue's own word: order.match, settlement, snapshot, …
    balances: tuple[CoinBalance, ...] = ()
    positions: tuple[Position, ...] = ()
    implied_prices: dict[str, float] = {}  # last prices of its legs' contracts that the venue computed its figures with


class LeverageChanged(Struct, frozen=True):
    venue: str
    account: str
    symbol: str
    leverage: float
    event_time_ms: int


class ModeChanged(Struct, frozen=True):
    """The pooling of the account changed: nothing is trusted until the next snapshot."""

    venue: str
    account: str
    mode: Mode
    event_time_ms: int


class VenueCall(Struct, frozen=True):
    """The venue itself raises the alarm: a margin call, an order of its own that closes a position, or a key that it refuses."""

    venue: str
    account: str
    kind: str  # "margin_call", "liquidation", "adl", "settlement", "delivery", "key_refused"
    symbols: tuple[str, ...]
    text: str  # one plain line with the venue's own numbers
    event_time_ms: int


# ------------------------------------------------------------------ trust


class Degraded(Struct, frozen=True):
    """Something between us and the venue is impaired while the figures go on: the owner may have to act before they do not."""

    venue: str
    account: str  # "": all accounts of the venue
    kind: str  # a fixed word: "banned", "firewall", "listen_key", "names"
    text: str  # one plain line
    event_time_ms: int


class StreamUp(Struct, frozen=True):
    """First data after a (re)connect. account "": a stream of the whole venue."""

    venue: str
    account: str
    stream: str  # "market", "user"


class StreamDown(Struct, frozen=True):
    """A gap: of an account's stream it takes the trust away until the next snapshot."""

    venue: str
    account: str
    stream: str
    reason: str


class ClockOffset(Struct, frozen=True):
    """How far the venue's clock is from ours. The true offset is sure to be within `error_ms` of `offset_ms`."""

    venue: str
    offset_ms: int  # venue − ours
    error_ms: int  # half the round trip of the question


class TimePassed(Struct, frozen=True):
    """Fed about once a second: staleness lives on it, for a dead feed sends nothing."""


Event = (
    Prices
    | AssetRates
    | Instruments
    | Brackets
    | GuaranteeTables
    | Settlement
    | AccountSnapshot
    | AccountUpdate
    | CoinsHeld
    | CoinSnapshot
    | CoinUpdate
    | LeverageChanged
    | ModeChanged
    | VenueCall
    | Degraded
    | StreamUp
    | StreamDown
    | ClockOffset
    | TimePassed
)
