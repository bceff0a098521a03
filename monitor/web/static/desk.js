/* Incidents and what a person does about them; streams; delivery. */

import { byId, fillTable, write } from "./dom.js";
import { ageOf, duration, nowMs } from "./words.js";
import { addressOf } from "./list.js";

const SILENCES_EVERY_MS = 10000;
const latest = { incidents_total: 0, stream_times_ms: [], streams_total: 0, streams_up: 0, channels: [] };
const incidents = new Map(); // by id, in the order that was told
const streams = new Map();
const refusals = new Map(); // by what was asked: why it was not done
let silences = [];
let silencesAt = 0;
let acknowledging = null; // the incident in the dialog

export function begin() {
  const dialog = byId("ack");
  byId("ack-cancel").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    acknowledge();
  });
  dialog.addEventListener("close", () => (acknowledging = null));
}

export function take(tick) {
  for (const name of Object.keys(latest)) if (name in tick) latest[name] = tick[name];
  takeRows(incidents, tick.incidents, tick.incident_order, (one) => one.id);
  takeRows(streams, tick.streams, tick.stream_order, streamKey);
}

const streamKey = (s) => [s.venue, s.account, s.stream].join("/");

/* Only rows that are new or others are told, and the order when it is another. */
function takeRows(known, rows = [], order, keyOf) {
  for (const row of rows) known.set(keyOf(row), row);
  if (!order) return;
  const ordered = order.map((key) => [key, known.get(key)]);
  known.clear();
  for (const [key, row] of ordered) known.set(key, row);
}

export function show() {
  showIncidents();
  showStreams();
  showChannels();
  showSilences();
  if (Date.now() - silencesAt >= SILENCES_EVERY_MS) readSilences();
}

// ------------------------------------------------------------------ incidents

const INCIDENT_COLUMNS = [["Now"], ["Worst"], ["Pool"], ["Rule"], ["What"], ["Open for", true], ["Told", true], ["Acknowledged"], ["Incident"]];

function showIncidents() {
  const rows = [...incidents.values()].map((one) => ({
    key: one.id,
    cells: [
      { level: one.level },
      { level: one.worst },
      one.pool ? { text: `${one.account} · ${one.pool}`, href: addressOf(one) } : one.account || one.venue || "the monitor",
      { text: one.rule + (one.subject ? " " + one.subject : ""), href: "runbook#" + encodeURIComponent(one.rule) },
      one.summary,
      ageOf(one.opened_ms),
      one.messages + "×",
      acknowledgement(one),
      one.id,
    ],
  }));
  fillTable(byId("incidents"), INCIDENT_COLUMNS, rows, "None.");
  const hidden = latest.incidents_total - incidents.size;
  write(byId("incidents-note"), hidden > 0 ? `${latest.incidents_total}, the worst ${incidents.size} are shown` : "");
}

function acknowledgement(one) {
  const name = [one.account, one.pool, one.rule, one.subject].filter(Boolean).join(" ");
  const given = one.acknowledged;
  const path = alertPath(one);
  if (!given) {
    refusals.delete(path);
    return { text: one.silence_id ? "silenced " : "", press: ["Acknowledge: " + name, () => ask(one)] };
  }
  const left = duration(given.until_ms - nowMs());
  const below = (given.note ? given.note + ", " : "") + left + " more";
  const press = ["Take back: the acknowledgement of " + name, () => remove(path)];
  return { text: "by " + given.author + " ", below, press, problem: refusals.get(path) };
}

function ask(one) {
  acknowledging = one;
  write(byId("ack-what"), `${one.level}: ${[one.account, one.pool].filter(Boolean).join(" · ")}: ${one.summary}`);
  write(byId("ack-problem"), "");
  byId("ack-author").value ||= remembered();
  byId("ack-note").value = "";
  byId("ack").showModal();
  (byId("ack-author").value ? byId("ack-note") : byId("ack-author")).focus();
}

async function acknowledge() {
  const one = acknowledging;
  const body = { author: byId("ack-author").value.trim(), note: byId("ack-note").value.trim(), minutes: Number(byId("ack-minutes").value) };
  remember(body.author);
  const problem = await call("POST", alertPath(one), body);
  if (acknowledging !== one) return;
  if (problem) write(byId("ack-problem"), problem);
  else byId("ack").close();
}

/* Takes back what stands in a row; a refusal is shown there. */
async function remove(path) {
  refusals.delete(path);
  const problem = await call("DELETE", path);
  if (problem) refusals.set(path, problem);
  show();
}

const alertPath = (one) => "api/v1/alerts/" + encodeURIComponent(one.id) + "/ack";

/* Returns what is wrong, in words; "" if it was done. */
async function call(method, path, body) {
  const request = { method };
  if (body) Object.assign(request, { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  try {
    const answer = await fetch(path, request);
    if (answer.ok) return "";
    const refusal = await answer.json();
    return refusal.error + (refusal.hint ? ": " + refusal.hint : "");
  } catch (error) {
    return "The monitor could not be asked: " + error.message;
  }
}

/* A browser that keeps nothing must not keep anyone from acknowledging. */
function remembered() {
  try {
    return localStorage.getItem("author") || "";
  } catch {
    return "";
  }
}

function remember(author) {
  try {
    localStorage.setItem("author", author);
  } catch {
    // then it is typed again
  }
}

// ------------------------------------------------------------------ silences

async function readSilences() {
  silencesAt = Date.now();
  try {
    const answer = await fetch("api/v1/silences");
    if (answer.ok) silences = (await answer.json()).silences;
  } catch {
    return; // the banner says that nothing comes
  }
  showSilences();
}

function showSilences() {
  const rows = silences.map((one) => {
    const match = ["venue", "account", "pool", "rule", "subject"].filter((part) => one[part]).map((part) => `${part} ${one[part]}`).join(", ");
    const path = "api/v1/silences/" + encodeURIComponent(one.id);
    const press = ["End: the silence of " + match, () => remove(path).then(readSilences)];
    const left = duration(one.until_ms - nowMs());
    return { key: one.id, cells: [match, String(one.matches.length), one.author, one.note, left, { press, problem: refusals.get(path) }] };
  });
  byId("silences-part").hidden = !rows.length;
  fillTable(byId("silences"), [["Silences"], ["Open now", true], ["By"], ["Note"], ["Left", true], [""]], rows, "None.");
}

// ------------------------------------------------------------------ streams, delivery

function showStreams() {
  const rows = [...streams].map(([key, s], i) => ({
    key,
    cells: [
      s.stream,
      [s.venue, s.account].filter(Boolean).join(" · "),
      s.up ? "up" : { text: "down: " + s.down_reason, className: "bad" },
      latest.stream_times_ms[i] === null ? { text: "never", className: "unknown" } : ageOf(latest.stream_times_ms[i]),
      String(Object.values(s.reconnects).reduce((sum, times) => sum + times, 0)),
    ],
  }));
  fillTable(byId("streams"), [["Stream"], ["Of"], ["State"], ["Last data", true], ["Reconnects", true]], rows, "None yet.");
  const hidden = latest.streams_total - streams.size;
  const more = hidden > 0 ? `, ${hidden} not shown` : "";
  write(byId("streams-note"), `${latest.streams_up} of ${latest.streams_total} up${more}`);
}

function showChannels() {
  const rows = latest.channels.map((c) => ({
    key: c.name,
    cells: [
      c.name === c.kind ? c.name : { text: c.name, unit: c.kind },
      c.broken ? { text: "given up: " + c.broken, className: "bad" } : "works",
      String(c.results.sent || 0),
      String((c.results.retry || 0) + (c.results.failed || 0)),
      String(c.pending),
      c.oldest_ms === null ? "–" : ageOf(c.oldest_ms),
      c.last_sent_ms === null ? { text: "never", className: "unknown" } : ageOf(c.last_sent_ms),
    ],
  }));
  const columns = [["Channel"], ["State"], ["Sent", true], ["Refused", true], ["Waiting", true], ["Oldest", true], ["Last sent", true]];
  fillTable(byId("channels"), columns, rows, "No channel is configured: alerts are only shown here.");
}
