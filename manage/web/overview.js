// The router at a glance: means, rates, CPUs, what happened.

import { h, keyed, segments, setText } from "./dom.js";
import { binary, count, duration, many, percent, si } from "./format.js";
import { live, newest, rate } from "./live.js";
import { plot } from "./plot.js";

const UNITS = [["bit/s", "rxBits", "txBits"], ["packets/s", "rxPackets", "txPackets"]];
const WINDOWS = [["2 min", 120_000], ["10 min", 600_000]];
let unit = UNITS[0];
let windowMs = WINDOWS[0][1];

/// A card with a figure, a word on it, and if `part` is given a meter of what is used.
function fact(title) {
  const value = h("dd", { class: "value" });
  const note = h("dd", { class: "note" });
  const meter = h("meter", { min: 0, max: 1, high: 0.9, low: 0.75, optimum: 0, "aria-label": `${title} used`, hidden: true });
  const element = h("div", { class: "fact" }, h("dt", {}, title), value, note, h("dd", {}, meter));
  return Object.assign(element, {
    show(text, about, part) {
      setText(value, text);
      setText(note, about);
      meter.hidden = part == null;
      if (part != null) meter.value = part;
    },
  });
}

const facts = {
  state: fact("Interfaces"),
  uptime: fact("Uptime"),
  traffic: fact("Received now"),
  memory: fact("Memory"),
  buffers: fact("Packet buffers"),
  grants: fact("Xen grants"),
};
const list = h("dl", { class: "facts" }, Object.values(facts).filter((one) => one !== facts.grants));
const plots = h("div", { class: "grid-cards" });
const cpus = h("ul", { class: "bars" });
const connections = h("p", { class: "note" });
const happened = h("ol", { class: "events" });
const nothing = h("p", { class: "hint" }, "Nothing since this page was opened. Changes of interfaces and of the configuration are listed here as they happen.");

function showFacts() {
  const { status, interfaces } = live;
  const wanted = interfaces.filter((face) => face.state !== "disabled");
  const up = wanted.filter((face) => face.state === "up").length;
  const off = wanted.filter((face) => face.state !== "up").map((face) => `${face.name} ${face.state}`);
  facts.state.show(`${up} of ${wanted.length} up`,
    off.join(", ") || (wanted.length ? "all of them" : "none is configured"));
  facts.state.classList.toggle("bad", interfaces.some((face) => face.state === "broken"));
  facts.uptime.show(duration(status.uptime_ms), status.configuration ? `from ${status.configuration}` : "not configured");
  const latest = interfaces.map((face) => newest(face.name));
  const sum = (field) => latest.reduce((total, one) => total + (one?.[field] ?? 0), 0);
  const known = latest.some((one) => one?.rxBits != null);
  facts.traffic.show(known ? si(sum("rxBits"), "bit/s") : "–",
    known ? `${si(sum("rxPackets"), "packets/s")}, ${si(sum("drops"), "dropped/s")}` : "measuring");
  const used = status.memory_bytes - status.memory_free_bytes;
  facts.memory.show(binary(used), `of ${binary(status.memory_bytes)}`, used / status.memory_bytes);
  const lent = status.buffers - status.buffers_free;
  const lost = status.buffers_lost ? `, ${count(status.buffers_lost)} lost` : "";
  facts.buffers.show(count(lent), `of ${count(status.buffers)} in use${lost}`, status.buffers ? lent / status.buffers : 0);
  if (status.xen) {
    if (!facts.grants.isConnected) list.append(facts.grants);
    const limbo = status.xen.grants_in_limbo ? `, ${count(status.xen.grants_in_limbo)} in limbo` : "";
    facts.grants.show(count(status.xen.grants), `of ${count(status.xen.grants_most)}${limbo}`,
      status.xen.grants / status.xen.grants_most);
  }
}

function makePlot(face) {
  const state = h("span", { class: "state" });
  const about = h("p", { class: "note" });
  let drawing = null;
  let of = null;
  const element = h("section", { class: "card", "aria-label": `Rates of ${face.name}` },
    h("h3", {}, face.name, state), about);
  element.update = (now) => {
    state.dataset.state = now.state;
    setText(state, now.state);
    setText(about, now.addresses.join("  ") || "no addresses");
    if (of !== unit) {
      drawing?.remove();
      of = unit;
      drawing = plot(`${now.name}, ${unit[0]}`, [
        { name: "received", field: unit[1], class: "rx" },
        { name: "sent", field: unit[2], class: "tx" },
      ]);
      element.append(drawing);
    }
    drawing.draw(live.rates.get(now.name) ?? [], unit[0], windowMs);
  };
  return element;
}

function makeCpu(cpu) {
  const bar = h("span", { class: "bar" }, h("span", { class: "filled" }));
  const load = h("b", {});
  const note = h("span", { class: "note" });
  const element = h("li", {}, h("span", { class: "name" }, cpu.name), bar, load, note);
  let before = null;
  element.update = (now) => {
    const at = live.status.uptime_ms;
    const current = live.loads.get(now.name);
    const mean = now.busy_permille / 1000;
    bar.firstChild.style.width = `${(current ?? mean) * 100}%`;
    setText(load, percent(current ?? mean));
    const packets = before ? rate(now.received, before.received, at - before.at) : null;
    if (!before || at !== before.at) before = { received: now.received, at };
    const since = current == null ? "mean since boot" : `${percent(mean)} since boot`;
    setText(note, packets == null ? since : `${since}, receives ${si(packets, "packets/s")}`);
  };
  return element;
}

/// The router's own connections, of all CPUs: those there are, and what became of others since boot.
function showConnections() {
  const sum = (field) => live.cpus.sockets.reduce((total, one) => total + one[field], 0);
  const [begun, late, evicted] = ["half_open", "no_room", "evicted"].map(sum);
  const now = [many(sum("connections"), "connection"), begun && many(begun, "handshake")].filter(Boolean).join(", ");
  const since = [late && `${count(late)} found no room`, evicted && `${count(evicted)} made room for others`].filter(Boolean);
  setText(connections, `The router itself: ${now}.${since.length ? ` Since boot ${since.join(", ")}.` : ""}`);
}

function showEvents() {
  nothing.hidden = live.events.length > 0;
  keyed(happened, live.events, (event) => event.number, (event) =>
    h("li", {}, h("time", {}, duration(event.at_ms)), " ", h("b", {}, event.subject), " ", event.text));
}

export default {
  id: "overview",
  title: "Overview",
  make() {
    const choose = (list, apply) => (name) => {
      apply(list.find((entry) => entry[0] === name));
      this.update();
    };
    return [
      h("h1", {}, "Overview"),
      list,
      h("div", { class: "bar-of-tools" }, h("h2", {}, "Rates"),
        segments("Unit", UNITS.map(([name]) => name), unit[0], choose(UNITS, (entry) => (unit = entry))),
        segments("Span", WINDOWS.map(([name]) => name), "2 min", choose(WINDOWS, (entry) => (windowMs = entry[1])))),
      plots,
      h("div", { class: "two" },
        h("section", {}, h("h2", {}, "CPUs"), h("div", { class: "card" }, cpus, connections)),
        h("section", {}, h("h2", {}, "Events"), h("div", { class: "card" }, nothing, happened))),
    ];
  },
  update() {
    if (!live.status) return;
    showFacts();
    keyed(plots, live.interfaces, (face) => face.name, makePlot);
    keyed(cpus, live.cpus.cpus, (cpu) => cpu.name, makeCpu);
    showConnections();
    showEvents();
  },
};
