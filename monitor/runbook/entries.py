"""What each alert means and what to do: the one source of the page `/runbook` and of deploy/docs/runbook.md.

An entry's anchor is the rule's name, which every message links to; alerts that only Prometheus can raise have their alert's name.
Texts are plain; `code` is marked by backticks. Limits are not repeated here: the pages take them from the rules.
"""

from typing import Literal

from msgspec import Struct

Group = Literal["account", "trust", "monitor"]


class Entry(Struct, frozen=True, kw_only=True):
    """One alert for a person who was asleep."""

    anchor: str
    group: Group
    title: str
    means: str
    sure: str  # how sure it is, and what else it could be
    now: tuple[str, ...]  # steps, the first one first
    look: tuple[str, ...] = ()  # what to check afterwards, or if the steps did not help
    also: tuple[str, ...] = ()  # further alerts that it is for
    quiet: str = ""  # how to silence it where the ordinary way does not fit


GROUPS: dict[Group, str] = {
    "account": "The account is in danger, or changed",
    "trust": "The figures may be wrong or old",
    "monitor": "The monitor itself",
}

_ADD_OR_CUT = (
    "Read the line `to do` of the message: each lever has an amount. One of them is enough.",
    "Fastest and surest: transfer what the lever says into the pool (Binance: the futures wallet; HTX: the coin's contract "
    "account). On Binance rather what counts in full (USDT, USDC) than what has a haircut.",
    "Or close what the other lever says; reduce-only, so that nothing is opened by mistake.",
    "Watch health rise on the page or by `margin-monitor top`. The alert ends 4 % above its limit, not at it.",
)

ENTRIES: tuple[Entry, ...] = (
    # ------------------------------------------------------------------ the account
    Entry(
        anchor="health",
        group="account",
        title="Health is low: liquidation comes near",
        means=(
            "Health is equity divided by the equity at which the venue begins to liquidate. Lower is worse and 1.00 is "
            "liquidation; 1.20 means that equity is 20 % above that point. It is `1 / margin ratio`. On HTX it is `(R + a) / "
            "a` with R the guarantee-asset ratio and a the adjustment factor."
        ),
        sure=(
            "As sure as the age of its data, which the message tells, and the venue's own figures beside it. If `reconcile` "
            "is open for the same pool, believe the venue's own page."
        ),
        now=_ADD_OR_CUT,
        look=(
            "At `emergency` and below, do it at once and read later: a move of a few percent is enough, and the venue cancels "
            "your open orders and closes positions by itself, with a fee.",
            "If the move came from a collateral rate or from funding, more of the same collateral helps less than a stablecoin.",
            "On HTX the venue liquidates by the last price and only if the mark price agrees; a single wild trade may pass. "
            "Do not bet on it.",
        ),
    ),
    Entry(
        anchor="margin_ratio",
        group="account",
        title="Margin ratio is high: liquidation comes near",
        means=(
            "The same as `health` in the other sense: maintenance margin divided by equity. Higher is worse and 100 % is "
            "liquidation."
        ),
        sure="As `health`.",
        now=_ADD_OR_CUT,
    ),
    Entry(
        anchor="guarantee_asset_ratio",
        group="account",
        title="Guarantee-asset ratio at or below 0: HTX liquidates",
        means=(
            "HTX only: equity divided by used margin, less the adjustment factor. Lower is worse; at 0 % the venue cancels "
            "the coin's orders, nets opposite positions and takes positions over, tier by tier."
        ),
        sure="The figure is computed with last prices, as the venue does; it acts only if the mark price agrees.",
        now=(
            "Transfer the coin (BTC for BTC contracts) into its contract account: every coin is a pool of its own.",
            "If that is too slow, close part of the largest unlocked position; closing one side of a locked pair raises the "
            "used margin.",
            "Look at the venue's own page: it may have begun, and then amounts change under your hands.",
        ),
    ),
    Entry(
        anchor="venue_call",
        group="account",
        title="The venue itself raised the alarm",
        means=(
            "Binance sent a margin call, an order of the venue's own (liquidation, auto-deleveraging) was seen, or the venue "
            "refuses the account's key (`key_refused`)."
        ),
        sure="It is the venue's own word. A margin call says only that the ratio is too high; an order says that it has begun.",
        now=(
            "A margin call: act as for `health`, now.",
            "A liquidation or auto-deleveraging order: look at the positions on the venue's page; some may be gone or smaller.",
            "Take away orders and hedges that belonged to what is gone: they are bets of their own now.",
            "`key_refused`: the account is not watched until the key is good. Look on the venue's page whether it was deleted or "
            "bound to another address; put the new one into its file and reload. It is tried again once a minute.",
        ),
        look=("The message names the symbols. What was paid is in the venue's income history (insurance clear, commission).",),
        quiet="It is told once and does not repeat.",
    ),
    Entry(
        anchor="collateral_rate",
        group="account",
        title="The rate of a pegged asset moved",
        means=(
            "What one unit of a stablecoin counts for, in USD, moved away from 1, or within the last hour. Equity moves with it "
            "although no position did. Assets without a peg are not judged here: `collateral_move`."
        ),
        sure=(
            "The rates come from the venue's own index stream, which is what it values your collateral with; another market "
            "may differ. Assets below 1 % of your equity are left out."
        ),
        now=(
            "Look how much health it cost: the share of equity is in the message, health on the page.",
            "A stablecoin off its dollar: decide whether to swap it while its rate is still good; a thin market costs more by "
            "the minute.",
            "If `health` is open too, send another asset than the falling one.",
        ),
        look=("Is it one asset or all? All at once is rather a fault of the index: compare with the venue's own page.",),
    ),
    Entry(
        anchor="collateral_move",
        group="account",
        title="The move of a collateral asset takes health",
        means=(
            "An asset without a peg (BTC, ETH, …) is collateral, and its rate moved within the last hour. The number is the part "
            "of the pool's health that this move alone took: at 10 %, health would be 2.0 where it is 1.8."
        ),
        sure=(
            "As sure as the figures of the pool. Off by default: what the move does is in `health` already; this tells its cause "
            "early. A debt in an asset that rises takes health as well."
        ),
        now=(
            "Look at `health` first: only it says how near liquidation is.",
            "If it is too low, send or swap into what does not fall with the same market (USDT, USDC).",
        ),
        look=("Do positions lose by the same move? Then collateral and positions fall together: cut the larger one.",),
    ),
    Entry(
        anchor="premium",
        group="account",
        title="A stablecoin costs more than its dollar",
        means="USD index of a stablecoin above 1. Owned it counts for more; owed it costs more.",
        sure="The venue's own index. Off by default: rather an opportunity than a danger.",
        now=("Nothing is in danger. If you owe that asset, paying the debt back has become dearer.",),
    ),
    Entry(
        anchor="asset_mix",
        group="account",
        title="The collateral is off its target mix",
        means="The share of an asset in the pool's equity is further from its target than you allowed.",
        sure="As sure as the figures of the pool. Targets are yours: `rules.asset_mix.targets`.",
        now=("Move or swap collateral back to the mix that you want; look at `health` first, it must not fall on the way.",),
    ),
    Entry(
        anchor="auto_exchange",
        group="account",
        title="A debt nears the venue's automatic exchange",
        means=(
            "The wallet of one asset is negative and nears the threshold at which Binance sells other collateral to pay it, "
            "at a worse rate than the market."
        ),
        sure=(
            "The threshold is the venue's where it names one; thresholds differ by user tier, so yours may be nearer: -5,000 "
            "instead of -10,000 USDT. The wallet counts, not the margin balance."
        ),
        now=(
            "Transfer the asset that is owed into the futures wallet, or buy it there; the message tells the wallet and the "
            "threshold.",
            "Losing positions that settle in that asset deepen the debt with every funding payment and every close.",
        ),
    ),
    Entry(
        anchor="settlement",
        group="account",
        title="A delivery is about to break a margin lock",
        means=(
            "HTX: a contract that is locked against another period of the same coin is delivered soon. With it goes the lock: "
            "the leg that stays needs its whole margin, and health falls in one step."
        ),
        sure="Delivery times come from the venue's contract list. The step can be seen before: the page shows what is locked.",
        now=(
            "Close or roll the leg that stays, or both, before the delivery.",
            "Or add the coin: the locked margin on the page is what will be needed on top.",
            "Transfers stop during settlement: do it before.",
        ),
    ),
    Entry(
        anchor="tier_change",
        group="account",
        title="Brackets, haircuts or adjustment factors changed",
        means=(
            "The venue changed a table that the margin of your positions or collateral is computed with. Health before and "
            "after is in the message."
        ),
        sure=(
            "It was read from the venue and is in force in the figures already. Announced changes often begin on several "
            "contracts at once."
        ),
        now=("If health fell, act as for `health`. If not, there is nothing to do.",),
        quiet="It is told once and does not repeat.",
    ),
    Entry(
        anchor="mode_change",
        group="account",
        title="Account mode, margin type or leverage changed",
        means=(
            "Somebody changed a setting of the account: asset mode, position mode, margin type or leverage. Pools may have "
            "been split or joined."
        ),
        sure="It is the venue's own message.",
        now=(
            "Was it you or your program? Then there is nothing to do but to look at health in the new mode.",
            "If not: somebody has your login or a key that may trade. Delete the keys on the venue, change the password, look "
            "at open orders.",
        ),
        quiet="It is told once and does not repeat.",
    ),
    # ------------------------------------------------------------------ trust
    Entry(
        anchor="stale",
        group="trust",
        title="Data are old, or missing: the level may be UNKNOWN",
        means=(
            "An input has not been renewed for too long: a market stream, the account's own stream, or the regular "
            "comparison. From `critical` on, the pool's level is UNKNOWN. Unknown is not safe and not liquidated: nobody here "
            "knows."
        ),
        sure="That the data are old is certain. Why is not: the venue, the network, this machine or a changed interface.",
        now=(
            "Look at the account on the venue's own page or app: until this ends, that is your monitor.",
            "Read which stream it is and why: `margin-monitor status`. The monitor reconnects by itself, without end.",
            "Several accounts and venues at once: this machine's network or DNS. One venue: look at its status page.",
        ),
        look=(
            "A key that was revoked or bound to another address shows as a refused user stream: `margin-monitor check CONFIG`.",
            "During the venue's maintenance it ends by itself; orders do not work then either.",
        ),
        quiet=(
            "Silence the account for the time of an announced maintenance: `margin-monitor silence --venue NAME --rule stale "
            "--minutes 90`."
        ),
    ),
    Entry(
        anchor="degraded",
        group="trust",
        title="The way to the venue is impaired",
        means=(
            "Something between here and the venue does not work as it should, while the figures still go on. The subject says "
            "what: `banned` or `firewall` (the venue refuses this address by REST, until the time in the message), `listen_key` "
            "(the key of the user stream ended twice within 10 min), `names` (a host name has not been resolved for a minute), "
            "`internal_error` (a part of the monitor itself failed and begins again; its pools are UNKNOWN until it works), or, "
            "without a venue, `reload` (the new configuration was refused late; the one before it is in force again)."
        ),
        sure="Certain. The figures of this moment are good; what is missing later is told by `stale`.",
        now=(
            "`banned`, `firewall`: nothing else on this address may call the venue until the end; every call makes the ban "
            "longer. Do not restart the monitor: it waits by itself. Stop other bots and scripts that share the address.",
            "`listen_key`: an account has one listen key. Find the program that closes it (a `DELETE` at its end is enough) or "
            "give it an account of its own.",
            "`names`: look at this machine's DNS. The last addresses are used for an hour; after that the streams stay down.",
            "`internal_error`: look at the account by hand while its figures are UNKNOWN; report the traceback of the log.",
            "`reload`: correct what the message names, then reload again.",
        ),
        look=(
            "After a ban: `margin_rest_requests_total` by result, and how many programs share the address.",
            "Several listen keys in an hour without such a program: a key or a login in the wrong hands. Delete the keys.",
        ),
        quiet="It is told once and does not repeat; a new ban is told anew.",
    ),
    Entry(
        anchor="reconcile",
        group="trust",
        title="Own figures differ from the venue's",
        means=(
            "Equity or maintenance margin, computed here at the venue's own marks, is not what the venue says. Something is "
            "missed or misread: a position, a transfer, a bracket, a kind of account that this program does not know."
        ),
        sure="The difference is certain. Believe the venue until you know why.",
        now=(
            "Open the account on the venue's page and compare health there. If that is low, act as for `health`.",
            "Look at the pool on the page: own and the venue's figure stand beside each other, with every position and asset.",
        ),
        look=(
            "Portfolio Margin and other products in the same account are not read.",
            "A difference that stays for an hour is a defect worth reporting: the page's figures of that pool, without keys.",
        ),
    ),
    Entry(
        anchor="clock",
        group="trust",
        title="This machine's clock is off",
        means=(
            "Our clock differs from the venue's by more than the round trip can explain. Signed calls are refused beyond a "
            "few seconds."
        ),
        sure="Certain; which of the two is wrong is not, but the venue's rarely is.",
        now=(
            "`timedatectl` or `chronyc tracking`: is the time synchronised? If not, start the time service.",
            "Then start the monitor again: it reads the system clock once and carries it on by itself.",
        ),
    ),
    Entry(
        anchor="MarginPoolLevelHigh",
        also=("MarginPoolLevelCritical",),
        group="trust",
        title="A pool stands at a high level, though health is above the limit",
        means=(
            "Prometheus sees the pool's level, which is the worst of all its rules, while health itself is above its limit. "
            "Health that has just risen above it keeps its level until it is 4 % clear."
        ),
        sure="It is what the status page shows.",
        now=("Open the page: the open incidents name the rule. Go on with the entry of that rule.",),
    ),
    Entry(
        anchor="MarginPoolVanished",
        also=("MarginPoolVanishedCritical",),
        group="trust",
        title="A pool in trouble is no longer shown",
        means=(
            "A pool that stood at a warning or worse, or was unknown, has no figures any more. Its position may be closed or "
            "liquidated, or the monitor no longer sees it."
        ),
        sure="That it vanished is certain, the reason is not. Missing data resolve nothing.",
        now=(
            "Look at the position on the venue's page. If it was liquidated, go on with `venue_call`.",
            "If the position is still there: `margin-monitor status`, then `stale`.",
            "If the account was taken out of the configuration, there is nothing to do.",
        ),
    ),
    # ------------------------------------------------------------------ the monitor itself
    Entry(
        anchor="channel",
        group="monitor",
        title="A channel takes no messages",
        means=(
            "The receiver refuses in a way that no retry helps: the webhook was deleted, the channel archived, the bot "
            "blocked, the token changed. You read this on another channel."
        ),
        sure="It is the receiver's own answer; its words are in the message. It is tried again, less and less often.",
        now=(
            "Mend it at the receiver, or put the new address or token into its secret file and `kill -HUP` the monitor.",
            "Prove it: `margin-monitor test-alert CONFIG NAME`.",
        ),
        look=("What waited is sent when the channel works again; what is too old comes as one summary.",),
        quiet="Take the channel out of the configuration and reload.",
    ),
    Entry(
        anchor="store",
        also=("MarginStateNotDurable",),
        group="monitor",
        title="The state on disk is at risk",
        means=(
            "Open incidents and unsent messages cannot be written, or the file was damaged and a new one begun. Watching and "
            "alerting go on from memory; a restart would forget what happens now."
        ),
        sure="Certain: the disk refused. The message has its words.",
        now=(
            "Free space or mend the folder: `df -h`, and `store.path` in the configuration. Do not restart before.",
            "It recovers by itself within a minute, and says so.",
        ),
        look=("A damaged file was moved aside beside the store; keep it if you want to know why.",),
    ),
    Entry(
        anchor="test",
        group="monitor",
        title="A test message",
        means="Somebody ran `margin-monitor test-alert`. No account is in danger.",
        sure="It says so itself.",
        now=("Nothing.",),
        quiet="It is told once.",
    ),
    Entry(
        anchor="MarginMonitorDown",
        also=("MarginMonitorAbsent",),
        group="monitor",
        title="The monitor does not answer, or is not scraped",
        means="Prometheus gets no figures. Nobody watches the accounts, and no alert of any rule can come.",
        sure=(
            "Sure that Prometheus gets nothing. The daemon may still live if only the network or the token between them is "
            "broken."
        ),
        now=(
            "Look at the accounts on the venues' own pages first.",
            "`systemctl status margin-monitor` and `journalctl -u margin-monitor -n 50`: the last line says why it ended.",
            "`curl http://127.0.0.1:9877/-/healthy` on its machine: if that answers, mend the scrape (address, token, Host "
            "name).",
            "Start it again. What was open or unsent is still known.",
        ),
        look=("A configuration that no longer loads: `margin-monitor check-config CONFIG`.",),
        quiet="In Alertmanager, for the time of planned work.",
    ),
    Entry(
        anchor="MarginMonitorRestarts",
        group="monitor",
        title="The monitor starts again and again",
        means="It crashes, or the service manager's watchdog ends it because its loop hangs. Between two starts nobody watches.",
        sure="Certain; a series of deployments looks the same.",
        now=(
            "`journalctl -u margin-monitor`: look for `crashed`, or for a watchdog that ran out.",
            "Out of memory: `journalctl -k | grep -i oom`. Hanging: `loop_slow` in `margin_heartbeat_withheld`.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginPoolsAbsent",
        group="monitor",
        title="The monitor runs and shows no pool",
        means="No account holds anything, or no picture of any account has come since the start.",
        sure="Look at readiness: it tells the two apart.",
        now=(
            "`margin-monitor status`: `not ready` names what is missing.",
            "Keys that are refused: `margin-monitor check CONFIG`.",
        ),
        quiet="In Alertmanager, if the accounts are meant to be empty.",
    ),
    Entry(
        anchor="MarginStreamDown",
        group="monitor",
        title="A stream is down",
        means=(
            "One connection to a venue brings nothing. Prices and snapshots are asked by REST meanwhile, so that figures stay "
            "usable, but slower."
        ),
        sure="Certain. If it lasts, `stale` follows.",
        now=(
            "`margin-monitor status` says why. It is dialled again without end; wait a minute.",
            "Refused with 401, 403 or an error of the key: `margin-monitor check CONFIG`.",
        ),
        quiet="In Alertmanager, for an announced maintenance.",
    ),
    Entry(
        anchor="MarginStreamUnsteady",
        group="monitor",
        title="A stream breaks again and again",
        means="Many reconnects in a short time. Each costs seconds of sight.",
        sure="Certain; the label `reason` of `margin_stream_reconnects_total` says how they broke.",
        now=(
            "`close_1008` or `http_4xx`: the venue refuses us; too many connections from this address, or another program "
            "with the same key.",
            "`timeout`, `network`, `silent`: this machine's network, or a machine that is too busy to read.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginFramesRefused",
        group="monitor",
        title="Frames of a venue are not believed",
        means="The venue sent what its own documentation does not allow; it was left out. A changed interface shows itself so.",
        sure="Certain that it was not understood. The label `reason` says what was wrong.",
        now=(
            "Compare one account with the venue's page. If `reconcile` is clear, nothing that counts was lost.",
            "Look for a newer version of this program, and for the venue's announcement of a change.",
        ),
        quiet="In Alertmanager, once you know what it is.",
    ),
    Entry(
        anchor="MarginRestFailing",
        group="monitor",
        title="Many REST requests fail",
        means="Snapshots and comparisons depend on these requests: figures go on from the streams, but nothing proves them.",
        sure="Certain; the label `result` of `margin_rest_requests_total` says how they fail.",
        now=(
            "`429` or `418`: another program uses up the limit of this address. Stop it; a ban ends by itself.",
            "`-2015`, `-1021` or `auth`: key or clock. `margin-monitor check CONFIG` says which.",
            "`5xx`, `timeout`: the venue or the network; wait.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginOutboxStuck",
        also=("MarginOutboxStuckCritical",),
        group="monitor",
        title="Alert messages wait",
        means=(
            "A message has been waiting for longer than it should: a receiver is slow or refuses. Critical ones go over to "
            "the next channel after 10 s."
        ),
        sure="Certain. What you have not been told stands on the page.",
        now=(
            "Open the page: what is open, and which channel waits.",
            "`margin-monitor test-alert CONFIG --all` says which receiver answers, and what.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginChannelBroken",
        also=("MarginNoChannelWorks",),
        group="monitor",
        title="A channel is broken, or all are",
        means="As `channel`. If all are broken, nobody is called any more but by Prometheus.",
        sure="It is the receivers' own answer.",
        now=(
            "Go on with `channel`.",
            "All at once: this machine cannot reach them. `margin-monitor test-alert CONFIG --all`.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginHeartbeatWithheld",
        also=("MarginHeartbeatLate", "MarginHeartbeatNeverArrived"),
        group="monitor",
        title="The sign of life is held back, late, or has never arrived",
        means=(
            "The outgoing heartbeat is sent only while data are fresh, the loop turns and messages get out. One of these does "
            "not hold, or the service does not answer."
        ),
        sure=(
            "Certain; the label `reason` names it: `stream_down`, `data_too_old`, `loop_slow`, `outbox_stuck`, "
            "`channels_broken`, `store_at_risk`."
        ),
        now=(
            "Go on with the entry of that reason: `stale`, `MarginLoopLag`, `MarginOutboxStuck`, `channel`, `store`.",
            "No reason holds: `result` of `margin_heartbeats_total` says how the calls fail. Compare `heartbeat.url` with the "
            "address that the service shows.",
        ),
        quiet="In Alertmanager; and pause the check at the heartbeat service.",
    ),
    Entry(
        anchor="MarginConfigReloadFailed",
        group="monitor",
        title="The last reload was refused",
        means=(
            "The new configuration is wrong or could not start. The one before it is in force: what you meant to change has "
            "not changed."
        ),
        sure="Certain.",
        now=(
            "`margin-monitor check-config CONFIG` says all that is wrong, with line and column.",
            "Mend it and reload again: `systemctl reload margin-monitor`, or `kill -HUP`.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginLoopLag",
        also=("MarginTicksSlow",),
        group="monitor",
        title="The monitor is too slow",
        means="Its event loop is late, or price frames take too long. Alerts come later than they should.",
        sure="Certain. A machine that sleeps or is stopped shows the same.",
        now=(
            "`top` on the machine: who takes the CPU? Does the disk stand still?",
            "Many accounts: give it a core of its own, or split the accounts over two monitors with a store each.",
        ),
        quiet="In Alertmanager.",
    ),
    Entry(
        anchor="MarginFilesRunOut",
        group="monitor",
        title="Open files run out",
        means="Each account needs a connection. Without a free descriptor no stream and no page can be opened.",
        sure="Certain.",
        now=("Raise the limit (`LimitNOFILE=` of the unit, `ulimits` of the container) and restart.",),
        quiet="In Alertmanager.",
    ),
)
