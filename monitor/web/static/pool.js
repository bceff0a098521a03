/* One pool: how near, what to do, why, its history and its workings. */

import { byId, dress, element, fillFacts, fillList, fillTable, levelChip, write } from "./dom.js";
import {
  NONE, UNKNOWN, amount, duration, health, number, percent, plain, price, ratio, side, signed, times, toLiquidation,
} from "./words.js";
import * as chart from "./chart.js";
import * as list from "./list.js";

const EVERY_MS = 1000;
const WHY_MAX = 6;

let key = ""; // of the open pool
let askedAt = 0;
let asking = false;

const ASSET_COLUMNS = [
  ["Asset"], ["Wallet", true], ["Equity", true], ["Index", true], ["Bid, if owned", true], ["Ask, if owed", true],
  ["Counts for", true], ["Maintenance", true],
];
const POSITION_COLUMNS = [
  ["Symbol"], ["Side"], ["Quantity", true], ["Price", true], ["Liquidates at", true], ["Distance", true], ["PnL", true],
  ["Notional", true], ["Maintenance", true], ["Rate", true], ["Bracket", true], ["Entry", true], ["Age of price", true],
];
// Coin-margined futures have neither brackets nor a maintenance margin of a single leg, but a margin before locking.
const COIN_POSITION_COLUMNS = [
  ["Contract"], ["Side"], ["Contracts", true], ["Last price", true], ["Liquidates at", true], ["Distance", true], ["PnL", true],
  ["Notional", true], ["Margin before locking", true], ["Held at", true], ["Age of price", true],
];

export function begin() {
  addEventListener("hashchange", () => openFromAddress(true));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && key && !document.querySelector("dialog[open]")) close();
  });
  byId("pool-close").addEventListener("click", close);
  chart.begin(() => key);
  openFromAddress(false);
}

/* The address is the state: an alert links to it, and so does every row. */
function openFromAddress(moveFocus) {
  let wanted = "";
  try {
    wanted = location.hash.slice(1).split("/").map(decodeURIComponent).join("/");
  } catch {
    wanted = ""; // not a text that we wrote
  }
  if (wanted === key) return;
  key = wanted;
  askedAt = 0;
  list.setOpened(key);
  chart.open(key);
  byId("pool").hidden = !key;
  if (!key) return;
  const [venue, ...rest] = key.split("/"); // neither a venue nor a pool has a slash
  const name = rest.pop();
  byId("pool-title").replaceChildren(rest.join("/") + " · " + name, element("span", "venue", venue));
  for (const id of ["positions", "assets"]) byId(id).replaceChildren();
  for (const id of ["pool-level", "pool-figures", "pool-unknown", "pool-levers", "pool-why", "pool-facts"]) byId(id).replaceChildren();
  if (moveFocus) byId("pool-title").focus();
  refresh();
}

function close() {
  const link = list.linkOf(key);
  history.pushState(null, "", location.pathname + location.search);
  openFromAddress(false);
  link?.focus();
}

export async function refresh() {
  if (!key || asking || Date.now() - askedAt < EVERY_MS) return;
  const mine = key;
  asking = true;
  askedAt = Date.now();
  try {
    const answer = await fetch("api/v1/status?pool=" + encodeURIComponent(mine));
    const figures = await answer.json();
    if (mine !== key) return;
    problem(answer.ok ? "" : figures.error);
    if (answer.ok) show(figures);
  } catch (error) {
    if (mine === key) problem("The workings could not be read: " + error.message);
  } finally {
    asking = false;
    if (mine !== key) refresh();
  }
}

function problem(text) {
  write(byId("pool-problem"), text);
  byId("pool-problem").hidden = !text;
}

function show(f) {
  if (byId("pool-level").textContent !== f.level) byId("pool-level").replaceChildren(levelChip(f.level));
  byId("pool").classList.toggle("blind", f.level === "unknown");
  const nearest = f.nearest;
  fillFacts(byId("pool-figures"), [
    ["Health", health(f), "↓ lower is worse, 1.00 liquidates"],
    ["Margin ratio", ratio(f).text, "↑ higher is worse, 100 % liquidates"],
    ...(f.guarantee ? [["Guarantee-asset ratio", share(f.guarantee_asset_ratio), "↓ lower is worse, 0 % liquidates"]] : []),
    ["To liquidation", plain(toLiquidation(f)),
      nearest ? `${nearest.symbol} from ${price(nearest.price)} to ${price(nearest.liquidation_price)}` : "no price alone liquidates"],
    ["Oldest input", f.age_ms === null ? UNKNOWN : duration(f.age_ms), f.level === "unknown" ? "old: too old, or incomplete" : "old"],
  ]);
  const reasons = [...f.unknown];
  if (!f.trusted && !reasons.some((why) => why.startsWith("not trusted"))) {
    reasons.unshift("not trusted until the next reconciled snapshot of the account");
  }
  const notable = f.level === "unknown" || !f.trusted ? reasons : [];
  fillList(byId("pool-unknown"), notable, () => element("li"), write);
  fillList(byId("pool-levers"), levers(f), () => element("li"), write);
  fillList(byId("pool-why"), causes(f), () => element("li"), (item, [text, className]) => {
    dress(item, className);
    write(item, text);
  });
  chart.refresh(f);
  fillFacts(byId("pool-facts"), facts(f, notable.length ? [] : reasons));
  const columns = f.guarantee ? COIN_POSITION_COLUMNS : POSITION_COLUMNS;
  fillTable(byId("positions"), columns, f.positions.map((p) => positionRow(p, f)), "No positions.");
  fillTable(byId("assets"), ASSET_COLUMNS, f.assets.map((a) => ({ key: a.asset, cells: assetCells(a, f) })), "No assets.");
}

const share = (value) => (value === null ? UNKNOWN : percent(value));

/* Each alone brings health back. */
function levers(f) {
  if (f.level === "unknown") return ["Nothing can be worked out from what is known: see below why."];
  if (f.level === "ok" && !f.levers.length) return ["Nothing: all limits are kept."];
  const mildest = Math.max(...Object.values(f.limits));
  if (!f.levers.length && (f.health === null || f.health > mildest)) return ["Nothing for health: another rule raised the level, see the open incidents."];
  if (!f.levers.length) return ["No single deposit or closing brings it back: see why."];
  const target = f.levers[0].health.toFixed(2);
  const texts = f.levers.map((lever, i) => {
    const what = lever.what === "send" ? `Send ${plain(amount(lever.amount, lever.asset))}` : closing(lever, f);
    return (i ? "or " + what[0].toLowerCase() + what.slice(1) : what) + (i ? "" : `: health is ${target} again`);
  });
  return texts;
}

function closing(lever, f) {
  const contracts = f.guarantee ? " contracts" : "";
  return `Close ${plain(number(lever.amount))}${contracts} of ${lever.asset}`;
}

/* What the pool's equity and requirement are made of, the dearest first. */
function causes(f) {
  const assets = new Map(f.assets.map((a) => [a.asset, a]));
  const margins = f.positions.map((p) => p.initial_margin);
  const whole = !f.guarantee ? f.requirement : margins.includes(null) ? null : margins.reduce((sum, one) => sum + one, 0);
  const found = f.positions.map((p) => {
    const own = p.margin_asset === f.unit ? 1 : null;
    const asset = assets.get(p.margin_asset) || { equity: 0, bid: own, ask: own };
    const margin = f.guarantee ? p.initial_margin : times(p.maintenance_margin, asset.ask);
    return { p, pnl: times(p.unrealized_pnl, rateOf(asset)), part: whole > 0 && margin !== null ? margin / whole : null };
  });
  found.sort((a, b) => (a.pnl ?? -Infinity) - (b.pnl ?? -Infinity) || 0); // what is unknown may be the dearest
  const lines = found.slice(0, WHY_MAX).map(({ p, pnl, part }) => {
    const takes = part === null ? "" : f.guarantee ? `, ${percent(part, 0)} of the margin` : `, ${percent(part, 0)} of the maintenance`;
    const tier = p.bracket === null ? "" : ` (bracket ${p.bracket}, ${plain(share(p.maintenance_rate))})`;
    const gain = pnl === null ? "PnL unknown" : (pnl > 0 ? "+" : "") + plain(amount(pnl, f.unit));
    return [`${p.symbol} ${side(p)}: ${gain}${takes}${tier}`, pnl < 0 ? "loss" : pnl > 0 ? "gain" : ""];
  });
  if (found.length > WHY_MAX) lines.push([`and ${found.length - WHY_MAX} more positions, see below`, ""]);
  const size = ({ value }) => (value === null ? Infinity : Math.abs(value));
  const counted = f.assets.filter((a) => a.equity !== 0).map((a) => ({ a, value: worth(a) }));
  counted.sort((x, y) => size(y) - size(x) || 0);
  for (const { a, value } of counted.slice(0, WHY_MAX)) {
    const part = value !== null && f.equity > 0 ? `, ${percent(value / f.equity, 0)} of the equity` : "";
    const rate = a.asset === f.unit ? "" : ` (${plain(number(a.equity))} at ${price(rateOf(a))})`;
    lines.push([`${a.asset} counts for ${plain(amount(value, f.unit))}${part}${rate}`, value < 0 ? "loss" : ""]);
  }
  return lines;
}

/* What one unit counts for. Whether it is owned or owed must be known. */
const rateOf = (a) => (a.equity === null ? null : a.equity < 0 ? a.ask : a.bid);
const worth = (a) => times(a.equity, rateOf(a));

function facts(f, remarks) {
  const told = f.venue_age_ms === null ? "" : ", " + duration(f.venue_age_ms) + " ago";
  const all = [
    ["Equity", amount(f.equity, f.unit)],
    ["Maintenance margin", amount(f.requirement, f.unit)],
    ["Initial margin", amount(f.initial_margin, f.unit)],
    ["Available", amount(f.available, f.unit)],
    ["Withdrawable", amount(f.withdrawable, f.unit)],
    ["Equity, by the venue" + told, amount(f.venue_equity, f.unit)],
    ["Maintenance, by the venue" + told, amount(f.venue_requirement, f.unit)],
    ["Difference then, at the venue's prices", f.reconcile_difference === null ? UNKNOWN : percent(f.reconcile_difference, 3)],
  ];
  const coin = f.guarantee;
  if (coin) {
    all.push(
      ["Guarantee-asset ratio at mark prices", share(coin.guarantee_asset_ratio_at_mark)],
      ["Used margin after locking", amount(coin.used_margin, f.unit)],
      ["Frozen by orders", amount(coin.margin_frozen, f.unit)],
      ["Locked in one contract", amount(coin.locked_same, f.unit)],
      ["Locked across contracts", amount(coin.locked_cross, f.unit)],
      ["Net position", number(coin.net_position)],
      ["Adjustment factor", share(coin.adjustment_factor)],
      ["All prices × this liquidate", number(coin.price_factor_to_liquidation)],
    );
  }
  for (const remark of remarks) {
    const [about, ...why] = remark.split(": ");
    all.push([about.replaceAll("_", " "), { text: why.join(": "), className: "unknown" }]);
  }
  return all;
}

function positionRow(p, pool) {
  const none = !pool.unknown.length || pool.unknown.some((why) => /^liquidation_price.*: none/.test(why)) ? NONE : UNKNOWN;
  const sense = p.unrealized_pnl < 0 ? "loss" : "gain";
  const distance = p.liquidation_distance;
  const cells = [
    { text: p.symbol, unit: p.leverage === null ? "" : plain(number(p.leverage)) + "×" },
    side(p),
    number(p.quantity),
    number(p.price),
    p.liquidation_price === null ? none : number(p.liquidation_price),
    distance === null ? none : signed(distance),
    p.unrealized_pnl === null ? UNKNOWN : { ...amount(p.unrealized_pnl, p.margin_asset), className: sense },
    amount(p.notional, p.margin_asset),
    ...(pool.guarantee ? [amount(p.initial_margin, p.margin_asset)] : bracketCells(p)),
    number(p.entry_price),
    p.price_age_ms === null ? UNKNOWN : duration(p.price_age_ms),
  ];
  return { key: p.symbol + p.side, cells };
}

function bracketCells(p) {
  return [amount(p.maintenance_margin, p.margin_asset), share(p.maintenance_rate), number(p.bracket)];
}

function assetCells(a, pool) {
  const value = worth(a);
  return [
    a.asset,
    number(a.wallet),
    number(a.equity),
    number(a.index),
    number(a.bid),
    number(a.ask),
    value === null ? UNKNOWN : amount(value, pool.unit),
    number(a.maintenance_margin),
  ];
}
