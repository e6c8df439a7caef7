// Packets lost: why, where, how fast.

import { get } from "./api.js";
import { h, head, keyed, segments, setText } from "./dom.js";
import { link } from "./explain.js";
import { count, duration, si, stamp } from "./format.js";
import { live, rate, refresh } from "./live.js";
import { decode, unhex } from "./packet.js";
import { explain } from "./reasons.js";
import { dissect } from "./view.js";

let losses = null;
let at = 0;
let before = new Map();
const rates = new Map();
const list = h("tbody");
const table = h("div", { class: "card flush", id: "drops-reasons" }, h("table", { class: "wide stack" },
  head(["Reason", "Interface", "Meaning", ">Packets", ">Now"]), list));
const none = h("p", { class: "hint" }, "No packet was lost since boot.");

/// The flight recorder's newest entries; how many are asked for.
let recorded = [];
let most = 20;
const hold = h("input", { type: "checkbox", onchange: () => hold.checked || refresh() });
const nothing = h("p", { class: "hint" }, "Nothing is recorded yet.");
const COLUMNS = ["Time", "What", "Interface", "Source", "Destination", "Protocol", "Packet"];
const latest = h("table", { class: "wide stack" }, head(COLUMNS));

const key = (loss) => `${loss.reason} ${loss.interface ?? ""}`;

async function ask() {
  losses = await get("/drops");
  if (!hold.checked) {
    const newest = await get(`/drops?last=${most}`);
    // A packet may have been opened meanwhile.
    if (!hold.checked) recorded = newest;
  }
  const ms = live.status.uptime_ms - at;
  rates.clear();
  // A reason that is new has lost all its packets since the last look.
  for (const loss of losses) rates.set(key(loss), at && ms > 0 ? rate(loss.packets, before.get(key(loss)) ?? 0, ms) : null);
  at = live.status.uptime_ms;
  before = new Map(losses.map((loss) => [key(loss), loss.packets]));
}

function makeRow(loss) {
  const packets = h("td", { class: "number", "data-label": "Packets" });
  const now = h("td", { class: "number", "data-label": "Now" });
  const row = h("tr", {}, h("th", { scope: "row", class: "mono" }, loss.reason),
    h("td", { "data-label": "Interface" }, loss.interface ?? "none"),
    h("td", { class: "meaning" }, explain(loss.reason)), packets, now);
  row.update = (current) => {
    const speed = rates.get(key(current));
    setText(packets, count(current.packets));
    setText(now, speed == null ? "–" : si(speed, "/s"));
    row.classList.toggle("busy", speed > 0);
  };
  return row;
}

function makeEntry({ at_us, cpu, interface: face, what, bytes, head: digits }) {
  const frame = unhex(digits);
  const { from, to, protocol, info } = frame.length ? decode(frame) : {};
  const cell = (label, text) => h("td", { "data-label": label }, text);
  const time = h("time", {}, `${stamp(at_us)} s`);
  const reason = h("td", { "data-label": "What", class: "mono" }, what);
  const rest = [cell("Interface", face ?? "all"), cell("Source", from), cell("Destination", to), cell("Protocol", protocol), cell("Packet", info)];
  if (!frame.length) return h("tbody", {}, h("tr", { class: "off" }, h("th", { scope: "row" }, time), reason, rest));
  const more = h("tr", { class: "more", hidden: true }, h("td", { colspan: COLUMNS.length }));
  const button = h("button", { type: "button", class: "row", "aria-expanded": "false", onclick: () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
    // Who reads it does not want it gone with the next losses.
    hold.checked ||= !more.hidden;
    if (more.firstChild.firstChild) return;
    const kept = frame.length < bytes ? `, of which ${frame.length} are kept` : "";
    more.firstChild.append(dissect(frame, [["When", `${duration(live.now() - at_us / 1000)} ago`], ["CPU", cpu], ["Length", `${count(bytes)} bytes${kept}`]], what, link(frame, face, bytes, what)));
  } }, time);
  return h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, button), reason, rest), more);
}

function showRecorded() {
  nothing.hidden = recorded.length > 0;
  latest.hidden = !recorded.length;
  // Packets of a batch have one time: they are told apart by their bytes, and those that look the same by their place.
  const seen = new Map();
  const entries = recorded.map((entry) => {
    const name = `${entry.at_us} ${entry.cpu} ${entry.what} ${entry.head}`;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...entry, name: `${name} ${seen.get(name)}` };
  });
  keyed(latest, [null, ...entries], (entry) => entry?.name ?? "", (entry) => entry ? makeEntry(entry) : latest.tHead);
}

live.addEventListener("restarted", () => {
  at = 0;
  before.clear();
});

export default {
  id: "drops",
  title: "Drops",
  ask,
  make() {
    return [h("h1", {}, "Drops"),
      h("p", { class: "hint" }, "Every packet that does not go on has one of these reasons. Many are everyday noise of a link; one that grows while traffic is missing is worth a look."),
      table, none,
      h("div", { class: "bar-of-tools" }, h("h2", {}, "Last packets lost"),
        segments("How many", ["20", "100"], "20", (name) => {
          most = Number(name);
          refresh();
        }), h("label", { class: "check" }, hold, " Hold")),
      h("p", { class: "hint" }, "What each CPU lost and changed last, the newest first, in seconds since boot. A time opens its packet."),
      h("div", { class: "card flush", id: "drops-last" }, latest), nothing];
  },
  update() {
    if (!losses) return;
    none.hidden = losses.length > 0;
    table.hidden = !losses.length;
    const order = [...losses].sort((a, b) => b.packets - a.packets || key(a).localeCompare(key(b)));
    keyed(list, order, key, makeRow);
    showRecorded();
  },
};
