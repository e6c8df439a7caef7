// What the router says of itself, asked for every two seconds while somebody looks, and the rates that follow from it.
// Rates are differences of counters over differences of the router's own clock (`uptime_ms`).

import { events, get } from "./api.js";

const EVERY_MS = 2000;
const KEPT_MS = 600_000;
const LONGEST_WAIT_MS = 30_000;
const EVENTS_KEPT = 50;

/// Says "sample" after every answer, "link" when the connection changes, "event" with what happened at the router.
export const live = Object.assign(new EventTarget(), {
  status: null,
  interfaces: [],
  cpus: null,
  /// Rates by interface name, oldest first: `{ t, rxBits, txBits, rxPackets, txPackets, drops }`, `t` in ms of uptime;
  /// all but `t` null where nothing was measured.
  rates: new Map(),
  /// Load of each CPU since the sample before, 0 to 1, by name; empty until it is known.
  loads: new Map(),
  /// `{ state: "waiting" | "up" | "lost" | "refused", problem, retryAt }`
  link: { state: "waiting" },
  events: [],
  /// What the page in view wants asked as well.
  also: null,
  /// The router's clock: milliseconds since it was entered.
  now: () => (live.status?.uptime_ms ?? 0) + performance.now() - answeredAt,
  /// Whether an event is no older than this page.
  isNew: (event) => event.at_ms >= openedAt,
});

let before = null;
let answeredAt = 0;
/// In the router's time.
let openedAt = 0;
let timer = 0;
let failures = 0;
let asking = false;
let again = false;

const tell = (type, detail) => live.dispatchEvent(new CustomEvent(type, { detail }));

function setLink(link) {
  const changed = link.state !== live.link.state;
  live.link = { ...link, changed };
  tell("link");
}

/// The newest rates of an interface.
export const newest = (name) => live.rates.get(name)?.at(-1);

/// Rates of counters of one thing between two samples, or null: first sample, or the counter began anew.
export function rate(now, then, ms) {
  return then == null || now < then || ms <= 0 ? null : ((now - then) * 1000) / ms;
}

function restart() {
  before = null;
  openedAt = 0;
  next = 1;
  live.events = [];
  live.rates.clear();
  live.loads.clear();
}

function takeRates(now) {
  const ms = before ? now.t - before.t : 0;
  const empty = { rxBits: null, txBits: null, rxPackets: null, txPackets: null, drops: null };
  for (const face of now.interfaces.values()) {
    const then = before?.interfaces.get(face.name);
    const of = (field, factor = 1) => {
      const value = rate(face[field], then?.[field], ms);
      return value == null ? null : value * factor;
    };
    const list = live.rates.get(face.name) ?? [];
    live.rates.set(face.name, list);
    // After a pause there is a gap in the plot, not a straight line.
    if (ms > 3 * EVERY_MS && list.length) list.push({ t: now.t - ms / 2, ...empty });
    list.push({
      t: now.t,
      rxBits: of("rx_bytes", 8),
      txBits: of("tx_bytes", 8),
      rxPackets: of("rx_packets"),
      txPackets: of("tx_packets"),
      drops: of("dropped"),
    });
    while (list.length && list[0].t < now.t - KEPT_MS) list.shift();
  }
  for (const name of live.rates.keys()) {
    if (!now.interfaces.has(name)) live.rates.delete(name);
  }
}

function takeLoads(now) {
  live.loads.clear();
  const ms = before ? now.t - before.t : 0;
  for (const cpu of live.cpus.cpus) {
    const awake = rate(cpu.busy_us, before?.busy.get(cpu.name), ms);
    if (awake != null) live.loads.set(cpu.name, Math.min(1, awake / 1e6));
  }
}

/// A value of the model, and when the router gave it: half-way between question and answer, by this browser's clock.
async function timed(path) {
  const asked = performance.now();
  const value = await get(path);
  return [value, (asked + performance.now()) / 2];
}

async function ask() {
  const [status, at] = await timed("/status");
  const [interfaces, later] = await timed("/interfaces");
  const cpus = await get("/cpus");
  if (live.status && status.uptime_ms < live.status.uptime_ms) {
    restart();
    tell("restarted");
  }
  if (!live.status) openedAt = status.uptime_ms;
  answeredAt = at;
  Object.assign(live, { status, interfaces, cpus });
  const now = {
    // Counters are as old as their own answer, some milliseconds younger than the router's clock.
    t: status.uptime_ms + later - at,
    interfaces: new Map(interfaces.map((face) => [face.name, face])),
    busy: new Map(cpus.cpus.map((cpu) => [cpu.name, cpu.busy_us])),
  };
  // Samples soon after another, asked for by hand, would give the jitter of two answers and not the rate.
  if (!before || now.t - before.t >= EVERY_MS / 2) {
    takeRates(now);
    takeLoads(now);
    before = now;
  }
  await live.also?.();
}

/// Asks now.
export async function refresh() {
  clearTimeout(timer);
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  let wait = EVERY_MS;
  try {
    await ask();
    failures = 0;
    setLink({ state: "up" });
    tell("sample");
  } catch (error) {
    failures += 1;
    wait = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1));
    if (error.status === 401 || error.status === 403) {
      setLink({ state: "refused", problem: error });
      wait = null;
    } else {
      setLink({ state: "lost", problem: error, retryAt: performance.now() + wait });
      if (!("status" in error)) throw error;
    }
  } finally {
    asking = false;
    if (again) wait = 0;
    again = false;
    clearTimeout(timer);
    if (wait != null && !document.hidden) timer = setTimeout(refresh, wait);
  }
}

let listening = null;
/// Number of the event that is wanted next.
let next = 1;

function happened(event) {
  if (event.number < next) return;
  next = event.number + 1;
  live.events.unshift(event);
  live.events.length = Math.min(live.events.length, EVENTS_KEPT);
  tell("event", event);
}

/// Follows the router's events while the connection is up; begins again some seconds after it ended.
async function listen() {
  if (listening || live.link.state !== "up" || document.hidden) return;
  listening = new AbortController();
  try {
    await events(next, happened, listening.signal);
  } catch {
    // The next sample says what is wrong with the connection, if that is it.
  }
  listening = null;
  setTimeout(listen, 5000);
}

/// Begins, and pauses while nobody looks.
export function start() {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      listening?.abort();
    } else {
      refresh();
      listen();
    }
  });
  live.addEventListener("link", () => live.link.changed && listen());
  refresh();
}
