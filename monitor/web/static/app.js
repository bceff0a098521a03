"use strict";
/* The page shows what /api/v1/events tells it. All text goes through textContent: an alias or a symbol is never markup. */

const SILENT_MS = 5000; // after so long without an event the figures are called old
const RECONNECT_MS = 15000; // after so long a connection is given up, whatever the browser thinks of it
const ROWS_MAX = 300; // the worst; the filter finds the others
const DETAIL_EVERY_MS = 1500;
const RANK = { liquidation: 7, emergency: 6, critical: 5, unknown: 4, high: 3, warning: 2, info: 1, ok: 0 };
const UNKNOWN = { text: "unknown", className: "unknown" };

const byId = (id) => document.getElementById(id);
const pools = new Map(); // "venue/account/pool" → { figures, row, cells, button }
const poolRows = document.querySelector("#pools > tbody");
let selected = null; // key of the open pool
let detail = null; // its row and what is in it
let source = null;
let lastEventAt = Date.now();
let clockOffset = 0; // the monitor's clock minus ours
let connected = false;
let missing = [];
let streamsTotal = 0;
let streamsUp = 0;

// ------------------------------------------------------------------ small things

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Writes only what differs, so that a selection, a focus and a screen reader are left in peace. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function dress(node, className) {
  if (node.className !== className) node.className = className;
}

/* cell: a text, or { text, className, unit, level }. */
function writeCell(td, cell, numeric) {
  const given = typeof cell === "object" ? cell : { text: cell };
  dress(td, [numeric ? "n" : "", given.className || ""].join(" ").trim());
  const signature = [given.text, given.unit || "", given.level || ""].join("\u0000");
  if (td.signature === signature) return;
  td.signature = signature;
  if (given.level) {
    td.replaceChildren(element("span", "level " + given.level, given.level));
  } else {
    td.replaceChildren(given.text);
    if (given.unit) td.append(element("span", "unit", given.unit));
  }
}

/* A whole small table: columns are [title, numeric?], rows are lists of cells. Nodes are kept from one time to the next. */
function fillTable(table, columns, rows, empty) {
  if (!table.tHead) {
    const line = table.createTHead().insertRow();
    for (const [title, numeric] of columns) {
      const th = element("th", numeric ? "n" : "", title);
      th.scope = "col";
      line.append(th);
    }
    table.createTBody();
  }
  const body = table.tBodies[0];
  const shown = rows.length ? rows : [[{ text: empty, className: "empty" }]];
  while (body.rows.length > shown.length) body.deleteRow(-1);
  shown.forEach((cells, i) => {
    const line = body.rows[i] || body.insertRow();
    while (line.cells.length > cells.length) line.deleteCell(-1);
    cells.forEach((cell, j) => {
      const td = line.cells[j] || line.insertCell();
      td.colSpan = rows.length ? 1 : columns.length;
      writeCell(td, cell, rows.length > 0 && columns[j][1]);
    });
  });
}

// ------------------------------------------------------------------ numbers as words

const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const digits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 9 });
const minus = (text) => text.replace("-", "\u2212");

function amount(value, unit) {
  if (value === null || value === undefined) return UNKNOWN;
  const text = /USD/.test(unit) ? cents.format(value) : digits.format(value);
  return { text: minus(text), unit };
}

function number(value) {
  return value === null || value === undefined ? UNKNOWN : minus(digits.format(value));
}

function percent(fraction, places = 2) {
  return minus((fraction * 100).toFixed(places)) + " %";
}

/* Three places, for 1.004 must not read as 1.00. */
function health(figures) {
  if (figures.health === null) return figures.margin_ratio === 0 ? { text: "nothing at risk", className: "unknown" } : UNKNOWN;
  return { text: figures.health >= 100 ? "> 100" : minus(figures.health.toFixed(3)), className: "strong" };
}

/* An infinite ratio (no equity left) is null in JSON; health tells it from an unknown one. */
function ratio(figures) {
  if (figures.margin_ratio !== null) return percent(figures.margin_ratio);
  return figures.health !== null && figures.health <= 0 ? "∞" : UNKNOWN;
}

function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 120) return Math.round(s) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

const nowMs = () => Date.now() + clockOffset;
const ageOf = (ms) => (ms === null || ms === undefined ? UNKNOWN : duration(nowMs() - ms));

// ------------------------------------------------------------------ pools

const COLUMNS = ["", "", "Health ↓", "Margin ratio ↑", "Equity", "Maintenance", "Available", "Age"];

function addPool(key, figures) {
  const row = element("tr", "pool");
  row.setAttribute("role", "row");
  const cells = COLUMNS.map((label) => {
    const td = row.insertCell();
    td.setAttribute("role", "cell");
    if (label) td.dataset.label = label;
    return td;
  });
  const button = element("button", "name", figures.account + " · " + figures.pool);
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  cells[1].append(button, element("span", "venue", figures.venue));
  row.addEventListener("click", (event) => {
    const copying = event.target !== button && getSelection().toString() !== "";
    if (!copying) select(selected === key ? null : key);
  });
  const pool = { key, figures, row, cells, button };
  pools.set(key, pool);
  return pool;
}

function showPool(pool) {
  const f = pool.figures;
  const c = pool.cells;
  writeCell(c[0], { text: f.level, level: f.level });
  writeCell(c[2], health(f), true);
  writeCell(c[3], ratio(f), true);
  writeCell(c[4], amount(f.equity, f.unit), true);
  writeCell(c[5], amount(f.requirement, f.unit), true);
  writeCell(c[6], amount(f.available, f.unit), true);
  writeCell(c[7], ageOf(f.as_of_ms), true);
}

function worse(a, b) {
  const x = a.figures;
  const y = b.figures;
  if (x.level !== y.level) return RANK[y.level] - RANK[x.level];
  const nearer = (x.health === null ? Infinity : x.health) - (y.health === null ? Infinity : y.health);
  if (nearer) return nearer; // NaN (both null) is no difference
  return a.key < b.key ? -1 : 1;
}

function matches(pool, words) {
  const f = pool.figures;
  const text = (pool.key + " " + f.level).toLowerCase();
  return words.every((word) => text.includes(word));
}

/* Rows stay where they are while someone points at them, unless a level changes. */
let lastOrder = "";
function arrange() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...pools.values()].filter((pool) => matches(pool, words)).sort(worse);
  const shown = found.filter((pool, i) => i < ROWS_MAX || pool.key === selected); // an alert's link may name a calm one
  const order = shown.map((pool) => pool.figures.level + pool.key).sort().join("\n");
  const pointedAt = poolRows.matches(":hover") || poolRows.contains(document.activeElement);
  if (order !== lastOrder || !pointedAt) {
    lastOrder = order;
    const wanted = [];
    for (const pool of shown) {
      wanted.push(pool.row);
      if (detail && pool.key === selected) wanted.push(detail.row);
    }
    if (!wanted.length) wanted.push(emptyRow(pools.size ? "No pool matches the filter." : "No pools yet."));
    const focused = document.activeElement;
    wanted.forEach((row, i) => {
      if (poolRows.children[i] !== row) poolRows.insertBefore(row, poolRows.children[i] || null);
    });
    while (poolRows.children.length > wanted.length) poolRows.lastElementChild.remove();
    if (focused !== document.activeElement && poolRows.contains(focused)) focused.focus({ preventScroll: true });
  }
  for (const pool of shown) showPool(pool);
  const hidden = found.length - shown.length;
  byId("more").hidden = hidden === 0;
  write(byId("more"), hidden + " more, none of them worse. The filter finds them.");
}

function emptyRow(text) {
  const row = element("tr");
  row.setAttribute("role", "row");
  const td = row.insertCell();
  td.setAttribute("role", "cell");
  td.colSpan = COLUMNS.length;
  td.className = "empty";
  td.textContent = text;
  return row;
}

function summarise() {
  const counts = new Map();
  for (const { figures } of pools.values()) counts.set(figures.level, (counts.get(figures.level) || 0) + 1);
  const levels = [...counts.keys()].sort((a, b) => RANK[b] - RANK[a]);
  const text = levels.map((level) => counts.get(level) + " " + level);
  const box = byId("summary");
  if (box.signature !== text.join()) {
    box.signature = text.join();
    box.replaceChildren(...levels.map((level, i) => element("span", "level " + level, text[i])));
  }
  document.title = levels.length && levels[0] !== "ok" ? "(" + text[0] + ") margin-monitor" : "margin-monitor";
}

// ------------------------------------------------------------------ one pool with its workings

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

function select(key) {
  const before = pools.get(selected);
  if (before) {
    before.row.classList.remove("open");
    before.button.setAttribute("aria-expanded", "false");
  }
  if (detail) detail.row.remove();
  detail = null;
  selected = pools.has(key) ? key : null;
  const pool = pools.get(selected);
  if (pool) {
    pool.row.classList.add("open");
    pool.button.setAttribute("aria-expanded", "true");
    detail = newDetail(pool);
    pool.row.after(detail.row);
    refreshDetail();
  }
  history.replaceState(null, "", selected ? "#" + encodeURIComponent(selected) : location.pathname + location.search);
}

function newDetail(pool) {
  const row = element("tr", "detail");
  row.setAttribute("role", "row");
  const td = row.insertCell();
  td.setAttribute("role", "cell");
  td.colSpan = COLUMNS.length;
  const box = element("div", "workings");
  const sentence = element("p", "", "…");
  const why = element("ul", "why");
  const facts = element("dl", "facts");
  const table = (title) => {
    const made = element("table");
    const scroll = element("div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", title + " of " + pool.key);
    scroll.append(made);
    const part = element("div");
    part.append(element("h3", "", title), scroll);
    box.append(part);
    return made;
  };
  box.append(sentence, why, facts);
  td.append(box);
  row.addEventListener("click", (event) => event.stopPropagation());
  return { row, sentence, why, facts, positions: table("Positions"), assets: table("Assets"), askedAt: 0, asking: false };
}

async function refreshDetail() {
  const mine = detail;
  if (!mine || mine.asking || Date.now() - mine.askedAt < DETAIL_EVERY_MS) return;
  mine.asking = true;
  mine.askedAt = Date.now();
  try {
    const answer = await fetch("api/v1/status?pool=" + encodeURIComponent(selected));
    const figures = await answer.json();
    if (mine !== detail) return;
    if (answer.ok) showDetail(mine, figures);
    else write(mine.sentence, figures.error);
  } catch (error) {
    if (mine === detail) write(mine.sentence, "The workings could not be read: " + error.message);
  } finally {
    mine.asking = false;
  }
}

function plain(cell) {
  return typeof cell === "object" ? cell.text + (cell.unit ? " " + cell.unit : "") : cell;
}

function showDetail(box, f) {
  const [h, r] = [plain(health(f)), plain(ratio(f))];
  write(box.sentence, "Health " + h + " (lower is worse, 1.00 liquidates) = margin ratio " + r + " (higher is worse).");
  const reasons = [...f.unknown];
  if (!f.trusted) reasons.unshift("not trusted until the next reconciled snapshot of the account");
  fillList(box.why, reasons, () => element("li"), write);
  const facts = [
    ["Equity", amount(f.equity, f.unit)],
    ["Maintenance margin", amount(f.requirement, f.unit)],
    ["Initial margin", amount(f.initial_margin, f.unit)],
    ["Available", amount(f.available, f.unit)],
    ["Withdrawable", amount(f.withdrawable, f.unit)],
    ["Equity, by the venue" + toldAgo(f), amount(f.venue_equity, f.unit)],
    ["Maintenance, by the venue" + toldAgo(f), amount(f.venue_requirement, f.unit)],
    ["Difference then, at the venue's prices", f.reconcile_difference === null ? UNKNOWN : percent(f.reconcile_difference, 3)],
  ];
  if (f.guarantee) facts.push(...coinFacts(f));
  fillList(box.facts, facts, newFact, (fact, [name, value]) => {
    write(fact.firstChild, name);
    write(fact.lastChild, plain(value));
  });
  const columns = f.guarantee ? COIN_POSITION_COLUMNS : POSITION_COLUMNS;
  fillTable(box.positions, columns, f.positions.map((p) => positionCells(p, f)), "No positions.");
  fillTable(box.assets, ASSET_COLUMNS, f.assets.map((a) => assetCells(a, f)), "No assets.");
}

function toldAgo(f) {
  return f.venue_age_ms === null ? "" : ", " + duration(f.venue_age_ms) + " ago";
}

function coinFacts(f) {
  const coin = f.guarantee;
  const share = (value) => (value === null ? UNKNOWN : percent(value));
  return [
    ["Guarantee-asset ratio (lower is worse, 0 liquidates)", share(f.guarantee_asset_ratio)],
    ["The same at mark prices", share(coin.guarantee_asset_ratio_at_mark)],
    ["Used margin after locking", amount(coin.used_margin, f.unit)],
    ["Frozen by orders", amount(coin.margin_frozen, f.unit)],
    ["Locked in one contract", amount(coin.locked_same, f.unit)],
    ["Locked across contracts", amount(coin.locked_cross, f.unit)],
    ["Net position", number(coin.net_position)],
    ["Adjustment factor", share(coin.adjustment_factor)],
    ["All prices × this liquidate", number(coin.price_factor_to_liquidation)],
  ];
}

function fillList(list, items, make, show) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  items.forEach((item, i) => show(list.children[i] || list.appendChild(make()), item));
}

function newFact() {
  const fact = element("div");
  fact.append(element("dt"), element("dd"));
  return fact;
}

function positionCells(p, pool) {
  const side = p.side === "BOTH" ? (p.quantity < 0 ? "short" : "long") : p.side.toLowerCase();
  const none = !pool.unknown.length || pool.unknown.some((why) => /^liquidation_price.*: none/.test(why));
  const noLiquidation = none ? { text: "none", className: "unknown" } : UNKNOWN;
  const sense = p.unrealized_pnl < 0 ? "loss" : "gain";
  const pnl = p.unrealized_pnl === null ? UNKNOWN : { ...amount(p.unrealized_pnl, p.margin_asset), className: sense };
  return [
    { text: p.symbol, unit: p.leverage === null ? "" : digits.format(p.leverage) + "×" },
    side,
    number(p.quantity),
    number(p.price),
    p.liquidation_price === null ? noLiquidation : number(p.liquidation_price),
    p.liquidation_distance === null ? noLiquidation : percent(p.liquidation_distance, 1),
    pnl,
    amount(p.notional, p.margin_asset),
    ...(pool.guarantee ? [amount(p.initial_margin, p.margin_asset)] : bracketCells(p)),
    number(p.entry_price),
    p.price_age_ms === null ? UNKNOWN : duration(p.price_age_ms),
  ];
}

function bracketCells(p) {
  const rate = p.maintenance_rate === null ? UNKNOWN : percent(p.maintenance_rate);
  return [amount(p.maintenance_margin, p.margin_asset), rate, number(p.bracket)];
}

function assetCells(a, pool) {
  const rate = a.equity === null ? null : a.equity < 0 ? a.ask : a.bid;
  return [
    a.asset,
    number(a.wallet),
    number(a.equity),
    number(a.index),
    number(a.bid),
    number(a.ask),
    rate === null ? UNKNOWN : amount(a.equity * rate, pool.unit),
    number(a.maintenance_margin),
  ];
}

// ------------------------------------------------------------------ incidents, streams, channels

const latest = { incidents: [], incidents_total: 0, streams: [], channels: [] };

function showIncidents() {
  const rows = latest.incidents.map((i) => [
    { text: i.level, level: i.level },
    { text: i.worst, level: i.worst },
    [i.account, i.pool].filter(Boolean).join(" · "),
    i.rule + (i.subject ? " " + i.subject : ""),
    i.summary,
    ageOf(i.opened_ms),
    String(i.messages),
    i.acknowledged ? "by " + i.acknowledged.author : i.silence_id ? "silenced" : "–",
    i.id,
  ]);
  const columns = [["Now"], ["Worst"], ["Pool"], ["Rule"], ["What"], ["Open for", true], ["Messages", true]];
  columns.push(["Acknowledged"], ["Incident"]);
  fillTable(byId("incidents"), columns, rows, "None.");
  const hidden = latest.incidents_total - latest.incidents.length;
  write(byId("incidents-note"), hidden > 0 ? latest.incidents_total + ", the worst " + latest.incidents.length + " are shown" : "");
}

function showStreams() {
  const rows = latest.streams.map((s) => [
    s.stream,
    [s.venue, s.account].filter(Boolean).join(" · "),
    s.up ? "up" : { text: "down: " + s.down_reason, className: "bad" },
    s.last_event_ms === null ? { text: "never", className: "unknown" } : ageOf(s.last_event_ms),
    String(Object.values(s.reconnects).reduce((sum, times) => sum + times, 0)),
  ]);
  fillTable(byId("streams"), [["Stream"], ["Of"], ["State"], ["Last data", true], ["Reconnects", true]], rows, "None yet.");
  const hidden = streamsTotal - latest.streams.length;
  write(byId("streams-note"), streamsUp + " of " + streamsTotal + " up" + (hidden > 0 ? ", " + hidden + " not shown" : ""));
}

function showChannels() {
  const rows = latest.channels.map((c) => [
    c.name,
    c.kind,
    c.broken ? { text: "given up: " + c.broken, className: "bad" } : "works",
    String(c.pending),
    c.oldest_ms === null ? "–" : ageOf(c.oldest_ms),
    c.last_sent_ms === null ? { text: "never", className: "unknown" } : ageOf(c.last_sent_ms),
  ]);
  const columns = [["Channel"], ["Kind"], ["State"], ["Waiting", true], ["Oldest", true], ["Last sent", true]];
  fillTable(byId("channels"), columns, rows, "No channel is configured: alerts are only shown here.");
}

// ------------------------------------------------------------------ events in, time passing

function receive(tick) {
  lastEventAt = Date.now();
  clockOffset = tick.now_ms - lastEventAt;
  const first = !connected;
  connected = true;
  const seen = new Set();
  for (const figures of tick.pools) {
    const key = figures.venue + "/" + figures.account + "/" + figures.pool;
    seen.add(key);
    (pools.get(key) || addPool(key, figures)).figures = figures;
  }
  if (tick.all) {
    for (const key of [...pools.keys()]) {
      if (seen.has(key)) continue;
      if (key === selected) select(null);
      pools.delete(key);
    }
  }
  for (const name of Object.keys(latest)) if (name in tick) latest[name] = tick[name];
  if ("missing" in tick) missing = tick.missing;
  if ("streams_total" in tick) streamsTotal = tick.streams_total;
  if ("streams_up" in tick) streamsUp = tick.streams_up;
  if (first && location.hash) openFromAddress();
  show();
  refreshDetail();
}

function show() {
  arrange();
  summarise();
  showIncidents();
  showStreams();
  showChannels();
  tellState();
}

function tellState() {
  const silentMs = Date.now() - lastEventAt;
  const lost = silentMs >= SILENT_MS;
  const banner = byId("banner");
  document.body.classList.toggle("lost", lost || !connected);
  if (lost) {
    const since = "Nothing has come from the monitor for " + duration(Math.floor(silentMs / 1000) * 1000) + ". ";
    write(banner, since + (connected ? "The figures below are that old." : "There are no figures yet."));
  } else if (missing.length) {
    write(banner, "Not ready: " + missing.join("; ") + ".");
  }
  dress(banner, lost ? "" : "mild");
  banner.hidden = !lost && !missing.length;
  write(byId("live"), lost ? "no data" : connected ? "live" : "connecting …");
  write(byId("time"), new Date(nowMs()).toISOString().slice(11, 19) + " UTC");
}

function connect() {
  const mine = new EventSource("api/v1/events");
  source = mine;
  mine.addEventListener("tick", (event) => receive(JSON.parse(event.data)));
  mine.addEventListener("error", () => {
    // The browser tries again by itself unless the answer was a refusal.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => mine === source && connect(), 3000);
  });
}

let triedAt = Date.now();
setInterval(() => {
  if (connected) show(); // ages go on, above all when nothing comes
  else tellState();
  if (Date.now() - Math.max(lastEventAt, triedAt) >= RECONNECT_MS) {
    triedAt = Date.now();
    source.close();
    connect();
  }
}, 1000);

function openFromAddress() {
  try {
    select(decodeURIComponent(location.hash.slice(1)));
  } catch {
    select(null); // not a text that we wrote
  }
}

byId("filter").addEventListener("input", () => arrange());
addEventListener("hashchange", openFromAddress);
connect();
tellState();
