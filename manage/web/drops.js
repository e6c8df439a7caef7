// Packets lost: why, where, how fast.

import { get } from "./api.js";
import { h, head, keyed, setText } from "./dom.js";
import { count, si } from "./format.js";
import { live, rate } from "./live.js";
import { explain } from "./reasons.js";

let losses = null;
let at = 0;
let before = new Map();
const rates = new Map();
const list = h("tbody");
const table = h("div", { class: "card flush", id: "drops-reasons" }, h("table", { class: "wide stack" },
  head(["Reason", "Interface", "Meaning", ">Packets", ">Now"]), list));
const none = h("p", { class: "hint" }, "No packet was lost since boot.");
const key = (loss) => `${loss.reason} ${loss.interface ?? ""}`;

async function ask() {
  losses = await get("/drops");
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
      table, none];
  },
  update() {
    if (!losses) return;
    none.hidden = losses.length > 0;
    table.hidden = !losses.length;
    const order = [...losses].sort((a, b) => b.packets - a.packets || key(a).localeCompare(key(b)));
    keyed(list, order, key, makeRow);
  },
};
