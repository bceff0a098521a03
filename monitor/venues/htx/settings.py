"""Every host, path, period and limit of the HTX coin-margined futures adapter."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from monitor.venues.dial import StreamLimits

_NEVER_S = 10 * 365 * 86_400.0

Coin = Annotated[str, StringConstraints(pattern="^[A-Z0-9]{1,16}$")]


class HtxSettings(BaseModel, frozen=True, extra="forbid"):
    """The defaults are the live venue. Periods are in seconds."""

    # -------------------------------------------------------------- hosts and paths
    rest: str = Field("https://api.hbdm.com", description="base URL of the futures REST interface")
    spot: str = Field("https://api.huobi.pro", description="base URL of the spot host; only the key-permission check goes there")
    streams: str = Field("wss://api.hbdm.com", description="base URL of the WebSocket streams, without path")
    market_path: str = Field("/ws", description="path of the trades")
    index_path: str = Field("/ws_index", description="path of the index and mark prices")
    notification_path: str = Field("/notification", description="path of the account pushes and contract notices")
    coins: tuple[Coin, ...] = Field(
        (), description="coins to watch, such as BTC; empty: those in which an account holds anything"
    )

    # -------------------------------------------------------------- streams
    silence_s: float = Field(15, gt=0, description="seconds without heartbeat, or without account pushes, that end a connection")
    index_fault_s: float = Field(15, gt=0, description="seconds without any index or mark price after which the stream is down")
    index_silence_s: float = Field(30, gt=0, description="seconds without any index or mark price that end the connection")
    subscribe_s: float = Field(
        10, gt=0, description="seconds from the dial until the venue must have confirmed all account topics"
    )
    hearing_grace_s: float = Field(4, gt=0, description="seconds after which a trade that only REST shows proves the stream deaf")
    send_timeout_s: float = Field(5, gt=0, description="seconds in which a heartbeat answer or a request must be sent")
    requests_per_s: float = Field(30, gt=0, description="subscriptions per second and connection (the venue allows 40)")
    hostile_frames: int = Field(5, gt=0, description="unreadable frames within hostile_window_s that end a connection")
    hostile_window_s: float = Field(10, gt=0, description="seconds of the window of hostile_frames")
    hostile_pause_s: float = Field(
        300,
        ge=0,
        description="seconds after such an end in which unreadable frames are only counted: another dial would not help",
    )
    future_s: float = Field(
        300, gt=0, description="seconds by which a push may be ahead of the venue's clock before it is refused"
    )
    open_timeout_s: float = Field(10, gt=0, description="seconds to open a connection, TLS and handshake included")
    close_timeout_s: float = Field(2, gt=0, description="seconds to wait for the closing handshake")
    frame_bytes_max: int = Field(4 << 20, gt=0, description="bytes of the largest frame accepted, packed")
    inflated_bytes_max: int = Field(8 << 20, gt=0, description="bytes of the largest frame accepted, unpacked")
    backoff_min_s: float = Field(0.5, gt=0, description="seconds of the first pause after a failed connection; full jitter")
    backoff_max_s: float = Field(30, gt=0, description="seconds of the longest pause; tries never end")
    settle_s: float = Field(30, ge=0, description="seconds of data after which a connection counts as a success")
    attempts_max: int = Field(
        300,
        gt=0,
        description="connection attempts of all streams in attempts_window_s; a tenth is for those of all accounts",
    )
    attempts_window_s: float = Field(300, gt=0, description="seconds of the window of attempts_max")

    # -------------------------------------------------------------- account
    reconcile_s: float = Field(30, gt=0, description="seconds between full snapshots of each coin of an account")
    discover_s: float = Field(300, gt=0, description="seconds between looks for coins in which an account newly holds something")
    fallback_s: float = Field(
        4, gt=0, description="seconds between full snapshots while the account's stream is out; below `rules.stale.warning`"
    )
    auth_retry_s: float = Field(60, gt=0, description="seconds between tries with a key that the venue rejects")
    buffer_events_max: int = Field(1000, gt=0, description="pushes of one coin kept while it waits for its snapshot")

    # -------------------------------------------------------------- prices
    last_quiet_s: float = Field(3, gt=0, description="seconds without a trade of a contract after which REST is asked for it")
    mark_quiet_s: float = Field(10, gt=0, description="seconds without an index or mark price after which REST is asked for it")
    takeover_s: float = Field(1, gt=0, description="seconds between looks for quiet prices")
    confirm_margin_ms: int = Field(
        1500, ge=0, description="milliseconds before an answer up to which it proves that a quiet contract had no later trade"
    )

    # -------------------------------------------------------------- reference data and settlement
    reload_s: float = Field(3600, gt=0, description="seconds between reloads of contracts and tables")
    reload_debounce_s: float = Field(3, ge=0, description="seconds from a notice of unknown or ended contracts to the reload")
    settle_poll_s: float = Field(5, gt=0, description="seconds between looks whether a coin's settlement is over")

    # -------------------------------------------------------------- REST
    connect_timeout_s: float = Field(5, gt=0, description="seconds to connect")
    addresses_kept_s: float = Field(
        3600, ge=0, description="seconds for which the last addresses of a name are used while it is not resolved"
    )
    total_timeout_s: float = Field(10, gt=0, description="seconds for a whole answer")
    answer_bytes_max: int = Field(8 << 20, gt=0, description="bytes of the largest answer accepted, unpacked")
    tries: int = Field(3, gt=0, description="tries of a call that meets 5xx, a timeout or a broken connection")
    retry_min_s: float = Field(0.5, gt=0, description="seconds of the first pause between such tries; jittered")
    retry_max_s: float = Field(5, gt=0, description="seconds of the longest pause between such tries")
    private_calls: int = Field(24, gt=0, description="account calls per limit_interval_s and account (the venue allows 36 reads)")
    public_calls: int = Field(96, gt=0, description="reference data calls per limit_interval_s (the venue allows 120)")
    market_calls: int = Field(300, gt=0, description="market data calls per limit_interval_s (the venue allows 2400)")
    limit_interval_s: float = Field(3, gt=0, description="seconds of the window of the three limits")
    limit_pause_max_s: float = Field(60, gt=0, description="longest pause in seconds that a rate-limit header may order")
    unavailable_pause_s: float = Field(10, gt=0, description="seconds between tries during maintenance")
    firewall_s: float = Field(60, gt=0, description="seconds of pause after HTTP 403 of the web firewall")
    clock_sync_s: float = Field(600, gt=0, description="seconds between comparisons with the venue's clock")
    clock_skew_warn_ms: int = Field(1000, gt=0, description="milliseconds of difference to the venue's clock that are logged")

    def stream_limits(self) -> StreamLimits:
        """Neither WebSocket pings of our own nor planned rotation.

        The venue documents its own heartbeat only, and no end of a connection's life.
        """
        return StreamLimits(
            open_timeout_s=self.open_timeout_s,
            close_timeout_s=self.close_timeout_s,
            ping_interval_s=_NEVER_S,
            ping_timeout_s=_NEVER_S,
            frame_bytes_max=self.frame_bytes_max,
            backoff_min_s=self.backoff_min_s,
            backoff_max_s=self.backoff_max_s,
            settle_s=self.settle_s,
            rotate_after_s=_NEVER_S,
            rotate_jitter_s=0,
            overlap_s=0,
        )
