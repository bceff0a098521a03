/* Numbers as people read them. null is unknown, and said to be. */

export const UNKNOWN = { text: "unknown", className: "unknown" };
export const NONE = { text: "none", className: "unknown" };

const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const digits = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7 });
const minus = (text) => text.replace("-", "\u2212");
const absent = (value) => value === null || value === undefined;

export function amount(value, unit) {
  if (absent(value)) return UNKNOWN;
  return { text: minus(/USD/.test(unit) ? cents.format(value) : digits.format(value)), unit };
}

export function number(value) {
  return absent(value) ? UNKNOWN : minus(digits.format(value));
}

/* A product is unknown if a factor is: in JavaScript null × n is 0. */
export const times = (...factors) => (factors.some(absent) ? null : factors.reduce((product, factor) => product * factor));

export function percent(fraction, places = 2) {
  if (absent(fraction)) return UNKNOWN.text;
  return minus((fraction * 100).toFixed(places)) + "\u00a0%";
}

export function signed(fraction) {
  return (fraction > 0 ? "+" : "") + percent(fraction, Math.abs(fraction) < 0.1 ? 2 : 1);
}

/* Three places, for 1.004 must not read as 1.00. */
export function health(figures) {
  if (figures.health === null) return figures.margin_ratio === 0 ? { text: "nothing at risk", className: "unknown" } : UNKNOWN;
  return { text: figures.health >= 100 ? "> 100" : minus(figures.health.toFixed(3)), className: "strong" };
}

/* An infinite ratio (no equity left) is null in JSON; health tells it from an unknown one. */
export function ratio(figures) {
  if (figures.margin_ratio !== null) return { text: percent(figures.margin_ratio), bar: figures.margin_ratio };
  return figures.health !== null && figures.health <= 0 ? { text: "∞", bar: 1 } : UNKNOWN;
}

/* The nearest way to liquidation: how far, of what, and at which price. */
export function toLiquidation(figures) {
  if (figures.level === "unknown") return UNKNOWN;
  const nearest = figures.nearest;
  if (!nearest) return NONE;
  return { text: signed(nearest.distance), className: "strong", below: nearest.symbol + " at " + price(nearest.liquidation_price) };
}

export const price = (value) => (absent(value) ? UNKNOWN.text : digits.format(value));

export function side(position) {
  return position.side === "BOTH" ? (position.quantity < 0 ? "short" : "long") : position.side.toLowerCase();
}

export function duration(ms) {
  if (absent(ms)) return UNKNOWN.text;
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 120) return Math.round(s) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

/* A cell as one text. */
export function plain(cell) {
  return typeof cell === "object" ? cell.text + (cell.unit ? " " + cell.unit : "") : cell;
}

/* The monitor's clock, as its ticks told it: an age must not depend on the clock of this machine. */
let clockOffset = 0;
export const setClock = (nowMs) => (clockOffset = nowMs - Date.now());
export const nowMs = () => Date.now() + clockOffset;
export const ageOf = (ms) => (absent(ms) ? UNKNOWN : duration(nowMs() - ms));
