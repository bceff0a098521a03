/* The page lives on /api/v1/events and says so when nothing comes. */

import { byId, dress, write } from "./dom.js";
import { duration, nowMs, setClock } from "./words.js";
import * as list from "./list.js";
import * as pool from "./pool.js";
import * as desk from "./desk.js";

const SILENT_MS = 5000; // after so long without an event the figures are called old
const RECONNECT_MS = 15000; // after so long a connection is given up, whatever the browser thinks of it

let source = null;
let lastEventAt = Date.now();
let triedAt = Date.now();
let connected = false;
let missing = []; // the first of them
let missingTotal = 0;
let silence = 0; // the timer that ends when it has lasted too long

function receive(tick) {
  lastEventAt = Date.now();
  clearTimeout(silence);
  silence = setTimeout(tellState, SILENT_MS + 10);
  setClock(tick.now_ms);
  connected = true;
  if ("missing" in tick) missing = tick.missing;
  if ("missing_total" in tick) missingTotal = tick.missing_total;
  list.take(tick);
  desk.take(tick);
  if (tick.moved) say(tick.moved);
  show();
  pool.refresh();
}

function show() {
  list.show();
  desk.show();
  tellState();
}

/* For those who do not see the colours change. */
function say(moved) {
  const text = moved.map(([key, was, now]) => `${key.split("/").slice(1).join(" ")} is now ${now}, was ${was}`).join(". ");
  write(byId("said"), text);
}

function tellState() {
  const silentMs = Date.now() - lastEventAt;
  const lost = silentMs >= SILENT_MS;
  const banner = byId("banner");
  document.body.classList.toggle("lost", lost || !connected);
  const unready = missingTotal > 0;
  dress(banner, lost ? "" : "mild");
  banner.hidden = !lost && !unready;
  // A screen reader says what is in the alert each time that it changes: what runs on stands beside it.
  let [alert, more] = ["", ""];
  if (lost) {
    alert = "Nothing comes from the monitor. " + (connected ? "The figures below are old." : "There are no figures yet.");
    more = "For " + duration(Math.floor(silentMs / 1000) * 1000) + ".";
  } else if (unready) {
    alert = "Not ready:";
    more = missing.slice(0, 3).join("; ") + (missingTotal > 3 ? ` (and ${missingTotal - 3} more)` : "") + ".";
  }
  write(byId("banner-alert"), alert);
  write(byId("banner-more"), more);
  write(byId("live"), lost ? "no data" : connected ? "live" : "connecting …");
  write(byId("time"), new Date(nowMs()).toISOString().slice(11, 19) + " UTC");
}

function connect() {
  source?.close();
  triedAt = Date.now();
  const mine = new EventSource("api/v1/events?" + list.query());
  source = mine;
  mine.addEventListener("tick", (event) => mine === source && receive(JSON.parse(event.data)));
  mine.addEventListener("error", () => {
    // The browser tries again by itself unless the answer was a refusal.
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => mine === source && connect(), 3000);
  });
}

setInterval(() => {
  if (connected) show(); // ages go on, above all when nothing comes
  else tellState();
  if (Date.now() - Math.max(lastEventAt, triedAt) >= RECONNECT_MS) connect();
}, 1000);

list.begin(connect);
pool.begin();
desk.begin();
connect();
tellState();
