/* The list of pools: a window of the worst, as the server orders them. */

import { byId, element, inOrder, write, writeCell } from "./dom.js";
import { UNKNOWN, ageOf, amount, health, ratio, toLiquidation } from "./words.js";

export const ROWS = 50; // of one window
const LABELS = ["", "", "Health ↓ worse", "Ratio ↑ worse", "To liquidation", "Equity", "Maintenance", "Available", "Age"];

const body = document.querySelector("#pools > tbody");
const levelButtons = byId("summary").children; // worst first
const shown = new Map(); // "venue/account/pool" → { figures, row, cells, link }
let order = []; // as told
let total = 0;
let found = 0;
let levels = {};
let start = 0;
let opened = "";
let ask = () => {};

export const keyOf = (f) => f.venue + "/" + f.account + "/" + f.pool;
export const addressOf = (f) => "#" + [f.venue, f.account, f.pool].map(encodeURIComponent).join("/");
export const figuresOf = (key) => shown.get(key)?.figures;
export const linkOf = (key) => shown.get(key)?.link;

/* The query of the window; asking(query) is called when it changes. */
export function begin(asking) {
  ask = asking;
  let typing = 0;
  byId("filter").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => move(0), 150);
  });
  for (const button of levelButtons) button.addEventListener("click", () => filterBy(button.dataset.level));
  byId("pager-back").addEventListener("click", () => move(Math.max(0, start - ROWS)));
  byId("pager-on").addEventListener("click", () => move(start + ROWS));
}

export function query() {
  return new URLSearchParams({ rows: ROWS, from: start, q: byId("filter").value.trim() }).toString();
}

function move(to) {
  start = to;
  ask();
}

export function take(tick) {
  for (const figures of tick.pools) {
    const key = keyOf(figures);
    (shown.get(key) || add(key, figures)).figures = figures;
  }
  if ("order" in tick) order = tick.order;
  if ("total" in tick) total = tick.total;
  if ("found" in tick) found = tick.found;
  if ("levels" in tick) {
    levels = tick.levels;
    summarise();
  }
}

export function setOpened(key) {
  shown.get(opened)?.row.classList.remove("open");
  opened = key;
  shown.get(opened)?.row.classList.add("open");
}

function add(key, figures) {
  const row = element("tr", key === opened ? "pool open" : "pool");
  row.setAttribute("role", "row");
  const cells = LABELS.map((label) => {
    const td = row.insertCell();
    td.setAttribute("role", "cell");
    if (label) td.dataset.label = label;
    return td;
  });
  const link = element("a", "name", figures.account + " · " + figures.pool);
  link.href = addressOf(figures);
  cells[1].append(link, element("small", "", figures.venue));
  row.addEventListener("click", (event) => {
    if (event.target !== link && !getSelection().toString()) link.click();
  });
  const pool = { key, figures, row, cells, link };
  shown.set(key, pool);
  return pool;
}

/* Rows stay where they are while someone points at them, unless one comes, goes or changes its level. */
let lastSet = "";
export function show() {
  const wanted = order.filter((key) => shown.has(key));
  const set = wanted.map((key) => shown.get(key).figures.level + key).sort().join("\n");
  if (set !== lastSet || !(body.matches(":hover") || body.contains(document.activeElement))) {
    lastSet = set;
    inOrder(body, wanted.length ? wanted.map((key) => shown.get(key).row) : [emptyRow()]);
    if (shown.size > 4 * ROWS) for (const key of [...shown.keys()]) if (!wanted.includes(key)) shown.delete(key);
  }
  for (const key of wanted) showPool(shown.get(key));
  byId("pager").hidden = found <= ROWS && start === 0;
  const last = Math.min(start + ROWS, found);
  write(byId("pager-text"), found ? `${start + 1} to ${last} of ${found}` + (found < total ? ` that match, ${total} in all` : "") : "");
  byId("pager-back").disabled = start === 0;
  byId("pager-on").disabled = last >= found;
}

function showPool({ figures: f, cells: c, row }) {
  row.classList.toggle("blind", f.level === "unknown");
  writeCell(c[0], { level: f.level });
  writeCell(c[2], health(f), true);
  writeCell(c[3], ratio(f), true);
  writeCell(c[4], toLiquidation(f), true);
  writeCell(c[5], amount(f.equity, f.unit), true);
  writeCell(c[6], amount(f.requirement, f.unit), true);
  writeCell(c[7], amount(f.available, f.unit), true);
  writeCell(c[8], f.as_of_ms === null ? UNKNOWN : ageOf(f.as_of_ms), true);
}

function emptyRow() {
  const td = element("td", "empty", total ? "No pool matches the filter." : "No pools yet.");
  td.setAttribute("role", "cell");
  td.colSpan = LABELS.length;
  const row = element("tr", "", td);
  row.setAttribute("role", "row");
  return row;
}

/* How many are at each level; pressing one filters by it, pressing it again shows all. */
function summarise() {
  for (const button of levelButtons) {
    const level = button.dataset.level;
    button.hidden = !levels[level] && button !== document.activeElement && byId("filter").value.trim() !== level;
    write(button, (levels[level] || 0) + " " + level);
  }
  const worst = Object.keys(levels)[0]; // as told, worst first
  document.title = worst && worst !== "ok" ? `(${levels[worst]} ${worst}) margin-monitor` : "margin-monitor";
}

function filterBy(level) {
  const input = byId("filter");
  input.value = input.value.trim() === level ? "" : level;
  move(0);
}
