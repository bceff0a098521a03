/* The history of the open pool. What was unknown is a gap: no line is drawn over it. */

import { byId, element, write } from "./dom.js";
import { amount, plain } from "./words.js";

const SPANS = [["1 h", 3600], ["6 h", 21600], ["1 d", 86400], ["7 d", 604800], ["30 d", 2592000]];
const WORDS = { 3600: "the last hour", 21600: "the last 6 hours", 86400: "the last day", 604800: "the last 7 days", 2592000: "the last 30 days" };
/* Health is a ratio: its way from 2 to 1 is drawn as long as that from 4 to 2, so that the ladder stays in sight. */
const HEALTH_MIN = 0.5; // what is below, and a debt, is drawn here
const MARKS = [0.5, 0.8, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000, 10000];
const place = (health) => (health === null ? null : Math.log(Math.max(health, HEALTH_MIN)));
const BANDS = ["warning", "high", "critical", "emergency", "liquidation"];

let keyNow = () => "";
let span = 3600;
let askedAt = 0;
let asking = false;
let limits = {};
let unit = "";
let plots = []; // health, equity
const dark = matchMedia("(prefers-color-scheme: dark)");

export function begin(key) {
  keyNow = key;
  for (const [name, seconds] of SPANS) {
    const button = element("button", "", name);
    button.type = "button";
    button.setAttribute("aria-pressed", String(seconds === span));
    button.addEventListener("click", () => {
      span = seconds;
      for (const other of byId("pool-span").children) other.setAttribute("aria-pressed", String(other === button));
      again();
    });
    byId("pool-span").append(button);
  }
  dark.addEventListener("change", () => {
    clear();
    again();
  });
  new ResizeObserver(() => plots.forEach((plot, i) => plot.setSize(sizeOf(boxes()[i])))).observe(byId("pool-chart"));
}

export function open() {
  clear();
  write(byId("chart-note"), "");
  askedAt = 0;
}

/* figures: of the open pool; asks anew when it is time. */
export function refresh(figures) {
  limits = figures.limits;
  unit = figures.unit;
  byId("pool-span").hidden = !figures.history;
  if (!figures.history) write(byId("chart-note"), "No history is kept: history.enabled is false.");
  else if (!asking && Date.now() - askedAt >= (span <= 3600 ? 2000 : 30000)) ask();
}

function again() {
  askedAt = 0;
  if (!asking && keyNow()) ask();
}

async function ask() {
  const [key, wanted] = [keyNow(), span];
  asking = true;
  askedAt = Date.now();
  try {
    const answer = await fetch(`api/v1/history?pool=${encodeURIComponent(key)}&span=${wanted}`);
    const series = await answer.json();
    if (key !== keyNow() || wanted !== span) return;
    if (answer.ok) show(series);
    else write(byId("chart-note"), series.error[0].toUpperCase() + series.error.slice(1) + ".");
  } catch (error) {
    if (key === keyNow()) write(byId("chart-note"), "The history could not be read: " + error.message);
  } finally {
    asking = false;
    if (key !== keyNow() || wanted !== span) again();
  }
}

function show(series) {
  const from = firstShown(series);
  const times = series.health.map((_, i) => series.start_ms / 1000 + i * series.step_s).slice(from);
  const known = series.health.filter((value) => value !== null);
  write(byId("chart-note"), known.length ? "" : "Health is not known at any moment of " + WORDS[span] + ".");
  if (!plots.length) plots = [healthPlot(), equityPlot()];
  plots[0].setData([times, series.health.slice(from).map(place)]);
  plots[1].setData([times, series.equity.slice(from), series.requirement.slice(from)]);
  const step = series.step_s === 1 ? "" : `, the worst of each ${series.step_s < 120 ? series.step_s + " s" : Math.round(series.step_s / 60) + " min"}`;
  const now = known.length ? known[known.length - 1].toFixed(3) : "unknown";
  const worst = known.length ? Math.min(...known).toFixed(3) : "unknown";
  boxes()[0].setAttribute("aria-label", `Health over ${WORDS[span]}${step}: now ${now}, worst ${worst}`);
  boxes()[1].setAttribute("aria-label", `Equity and maintenance margin over ${WORDS[span]}${step}, in ${unit}`);
}

/* A monitor that runs for five minutes has no hour to show: what is before its first sample is left out, but for a while. */
function firstShown(series) {
  const first = series.equity.findIndex((value) => value !== null);
  const least = series.equity.length - Math.ceil(series.equity.length / 30);
  return first < 0 ? 0 : Math.max(0, Math.min(first, least));
}

const boxes = () => [byId("chart-health"), byId("chart-equity")];
const sizeOf = (box) => ({ width: Math.max(200, box.clientWidth), height: 190 });

function clear() {
  for (const plot of plots) plot.destroy();
  plots = [];
}

const colour = (name) => getComputedStyle(document.body).getPropertyValue("--" + name).trim();

function axes(values) {
  const look = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
  return [{ ...look, values: (plot, at) => at.map((s) => clock(s, at)), space: 70 }, { ...look, size: 64, values }];
}

/* UTC, as the clock of the page. */
function clock(s, all) {
  const text = new Date(s * 1000).toISOString();
  const wide = all.length > 1 && all[1] - all[0] >= 43200;
  return wide ? text.slice(5, 10) : all.length > 1 && all[1] - all[0] < 60 ? text.slice(11, 19) : text.slice(11, 16);
}

const time = { label: "UTC", value: (plot, s) => (s === null ? "" : new Date(s * 1000).toISOString().slice(5, 19).replace("T", " ")) };
const sync = { sync: { key: "pool" }, y: false, drag: { x: false, y: false } };

function healthPlot() {
  const line = { label: "Health", stroke: colour("text"), width: 1.6, points: { show: false } };
  line.value = (plot, value, i, at) => (at === null ? "" : value === null ? "unknown" : Math.exp(value).toFixed(3));
  const range = (plot, low, high) => {
    const top = Math.max(place(limits.warning || 1.2), high ?? 0);
    return [Math.min(place(limits.liquidation || 1), low ?? 0) - 0.05, top + 0.05];
  };
  const splits = (plot, axis, low, high) => MARKS.map(place).filter((value) => value >= low && value <= high);
  const [across, up] = axes((plot, at) => at.map((value) => String(Number(Math.exp(value).toFixed(2)))));
  return new uPlot(
    {
      ...sizeOf(byId("chart-health")), cursor: sync, axes: [across, { ...up, splits }],
      series: [time, line], scales: { y: { range } }, hooks: { drawClear: [bands] },
    },
    [[], []], byId("chart-health"),
  );
}

function equityPlot() {
  const said = (plot, value, i, at) => (at === null ? "" : value === null ? "unknown" : plain(amount(value, unit)));
  const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 5 });
  const line = (label, stroke, dash) => ({ label, stroke, dash, width: 1.6, value: said, points: { show: false } });
  return new uPlot(
    {
      ...sizeOf(byId("chart-equity")), cursor: sync, axes: axes((plot, at) => at.map((value) => short.format(value))),
      series: [time, line("Equity", colour("info")), line("Maintenance: liquidates at", colour("loss"), [6, 4])],
    },
    [[], [], []], byId("chart-equity"),
  );
}

/* The ladder behind the line: from each limit down to the next. */
function bands(plot) {
  const { left, top, width, height } = plot.bbox;
  const used = BANDS.filter((level) => limits[level] !== undefined);
  plot.ctx.save();
  used.forEach((level, i) => {
    const below = i + 1 < used.length ? place(limits[used[i + 1]]) : plot.scales.y.min;
    const from = Math.max(top, plot.valToPos(place(limits[level]), "y", true));
    const to = Math.min(top + height, plot.valToPos(below, "y", true));
    if (to <= from) return;
    plot.ctx.globalAlpha = 0.28;
    plot.ctx.fillStyle = colour(level);
    plot.ctx.fillRect(left, from, width, to - from);
    plot.ctx.globalAlpha = 1;
    if (to - from < 14 * devicePixelRatio) return;
    plot.ctx.fillStyle = colour("soft");
    plot.ctx.font = 10 * devicePixelRatio + "px system-ui, sans-serif";
    plot.ctx.textAlign = "left";
    plot.ctx.textBaseline = "top";
    plot.ctx.fillText(level, left + 6, from + 3);
  });
  plot.ctx.restore();
}
