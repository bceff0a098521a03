"""Every host, route, period and limit of the Binance USDⓈ-M adapter."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from monitor.model.misfit import misfit
from monitor.venues.dial import StreamLimits

# A key must not travel in clear: without TLS only to this machine.
_LOOPBACK = r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?"
_HTTP = rf"^(https://[^/?#\s]+|http://{_LOOPBACK})$"
_WS = rf"^(wss://[^/?#\s]+|ws://{_LOOPBACK})$"
_ROUTE = r"^(/[A-Za-z0-9._-]+)*$"


class BinanceSettings(BaseModel, frozen=True, extra="forbid"):
    """The defaults are the live venue. Periods are in seconds, weights in the venue's own request weight."""

    # -------------------------------------------------------------- hosts and routes
    rest: str = Field("https://fapi.binance.com", pattern=_HTTP, description="base URL of the futures REST interface")
    spot: str = Field(
        "https://api.binance.com",
        pattern=_HTTP,
        description="base URL of the spot host; only the key-permission check goes there",
    )
    streams: str = Field("wss://fstream.binance.com", pattern=_WS, description="base URL of the WebSocket streams, without route")
    market_route: str = Field(
        "/market", pattern=_ROUTE, description="route of the market streams; empty for hosts without routes"
    )
    private_route: str = Field(
        "/private", pattern=_ROUTE, description="route of the user streams; empty for hosts without routes"
    )
    mark_price_stream: str = Field("!markPrice@arr@1s", description="stream of the mark prices of all symbols")
    asset_index_stream: str = Field("!assetIndex@arr", description="stream of the USD rates of the collateral assets")
    contract_info_stream: str = Field("!contractInfo", description="stream of listings, status and bracket changes")

    # -------------------------------------------------------------- streams
    first_frame_s: float = Field(5, gt=0, description="seconds without a first frame after which a connection is given up")
    fault_s: float = Field(5, gt=0, description="seconds of silence after which a 1 s stream counts as down and REST takes over")
    silence_s: float = Field(10, gt=0, description="seconds of silence after which the connection is replaced")
    index_replace_s: float = Field(
        60, gt=0, description="seconds without asset rates, while mark prices flow, after which a second connection takes over"
    )
    open_timeout_s: float = Field(10, gt=0, description="seconds to open a connection, TLS and handshake included")
    close_timeout_s: float = Field(2, gt=0, description="seconds to wait for the closing handshake")
    ping_interval_s: float = Field(5, gt=0, description="seconds between our own WebSocket pings")
    ping_timeout_s: float = Field(
        8,
        gt=0,
        description="seconds without a pong after which the peer is gone; with the interval and the close at most 15",
    )
    frame_bytes_max: int = Field(4 << 20, gt=0, description="bytes of the largest frame accepted")
    backoff_min_s: float = Field(0.5, gt=0, description="seconds of the first pause after a failed connection; full jitter")
    backoff_max_s: float = Field(30, gt=0, description="seconds of the longest pause; tries never end")
    settle_s: float = Field(30, ge=0, description="seconds of data after which a connection counts as a success")
    rotate_after_s: float = Field(
        23 * 3600, gt=0, le=86_000, description="age in seconds at which a second connection takes over (limit 24 h)"
    )
    rotate_jitter_s: float = Field(1800, ge=0, description="seconds by which the rotation may come earlier, at random")
    overlap_s: float = Field(2, ge=0, description="seconds for which both connections deliver during a rotation")
    attempts_max: int = Field(
        300,
        gt=0,
        description="connection attempts of all streams in attempts_window_s; a tenth is for those of all accounts",
    )
    attempts_window_s: float = Field(300, gt=0, description="seconds of the window of attempts_max")

    # -------------------------------------------------------------- account
    keep_alive_s: float = Field(1800, gt=0, le=3000, description="seconds between extensions of the listen key (it lives 60 min)")
    keep_alive_retry_s: float = Field(5, gt=0, description="seconds between tries after a failed extension")
    keep_alive_tries: int = Field(5, gt=0, description="failed extensions in a row after which the key is renewed")
    reconcile_s: float = Field(
        30, gt=0, description="seconds between full snapshots of an account; longer when many accounts share the request weight"
    )
    fallback_s: float = Field(
        4, gt=0, description="seconds between full snapshots while the account's user stream is out; below `rules.stale.warning`"
    )
    snapshot_pause_s: float = Field(1, ge=0, description="least seconds between snapshots of an account, whatever asks for them")
    order_refetch_s: float = Field(10, ge=0, description="least seconds between snapshots that order events ask for")
    order_debounce_s: float = Field(1, ge=0, description="seconds from an order event to the snapshot it asks for")
    hearing_grace_s: float = Field(
        5, gt=0, description="seconds after which a change that only a snapshot shows proves the user stream deaf"
    )
    auth_retry_s: float = Field(60, gt=0, description="seconds between tries with a key that the venue rejects")
    buffer_events_max: int = Field(10_000, gt=0, description="stream events kept while an account waits for its snapshot")

    # -------------------------------------------------------------- reference data
    reload_s: float = Field(3600, gt=0, description="seconds between reloads of contracts and brackets")
    reload_debounce_s: float = Field(3, ge=0, description="seconds from a notice of changed contracts to the reload")
    takeover_s: float = Field(3, gt=0, description="seconds between REST calls for prices or rates while their stream is out")

    # -------------------------------------------------------------- REST
    connect_timeout_s: float = Field(5, gt=0, description="seconds to connect")
    addresses_kept_s: float = Field(
        3600, ge=0, description="seconds for which the last addresses of a name are used while it is not resolved"
    )
    total_timeout_s: float = Field(10, gt=0, description="seconds for a whole answer")
    answer_bytes_max: int = Field(16 << 20, gt=0, description="bytes of the largest answer accepted, unpacked")
    tries: int = Field(3, gt=0, description="tries of a call that meets 5xx, a timeout or a broken connection")
    retry_min_s: float = Field(0.5, gt=0, description="seconds of the first pause between such tries; jittered")
    retry_max_s: float = Field(5, gt=0, description="seconds of the longest pause between such tries")
    recv_window_ms: int = Field(5000, gt=0, le=60_000, description="milliseconds for which a signed call stays valid")
    clock_sync_s: float = Field(600, gt=0, description="seconds between comparisons with the venue's clock")
    clock_skew_warn_ms: int = Field(1000, gt=0, description="milliseconds of difference to the venue's clock that are logged")
    weight_limit: int = Field(2400, gt=0, description="request weight per minute until exchangeInfo names the venue's own limit")
    reload_share: float = Field(0.8, gt=0, le=1, description="share of the weight above which reloads wait for the next minute")
    takeover_share: float = Field(0.9, gt=0, le=1, description="share of the weight above which price calls wait")
    snapshot_share: float = Field(0.95, gt=0, le=1, description="share of the weight above which even snapshots wait")
    reconcile_share: float = Field(0.5, gt=0, le=1, description="share of the weight that regular reconciliation may use")
    ban_default_s: float = Field(120, gt=0, description="seconds of pause after HTTP 418 that names no end")
    limit_default_s: float = Field(30, gt=0, description="seconds of pause after HTTP 429 that names no end")
    limit_pause_max_s: float = Field(
        3600, gt=0, description="longest pause in seconds that HTTP 429 or 403 may order; a ban (418) may order 3 days"
    )
    firewall_s: float = Field(300, gt=0, description="seconds of pause after HTTP 403 of the web firewall")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.rotate_jitter_s >= self.rotate_after_s:
            raise misfit("rotate_jitter_s must be smaller than rotate_after_s", "rotate_jitter_s", "rotate_after_s")
        if self.backoff_min_s > self.backoff_max_s:
            raise misfit("backoff_min_s must not be larger than backoff_max_s", "backoff_min_s", "backoff_max_s")
        if self.fault_s > self.silence_s:
            raise misfit("fault_s must not be larger than silence_s", "fault_s", "silence_s")
        return self

    def market_url(self) -> str:
        names = (self.mark_price_stream, self.asset_index_stream, self.contract_info_stream)
        return f"{self.streams}{self.market_route}/stream?streams={'/'.join(names)}"

    def user_url(self, listen_key: str) -> str:
        """Holds the listen key: never logged."""
        return f"{self.streams}{self.private_route}/ws/{listen_key}"

    def stream_limits(self) -> StreamLimits:
        return StreamLimits(**{name: getattr(self, name) for name in StreamLimits.__struct_fields__})
