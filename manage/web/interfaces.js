// Every interface: state and rates in a row, everything else below it.

import { h, head, keyed, setText } from "./dom.js";
import { count, si } from "./format.js";
import { live, newest } from "./live.js";
import { explain } from "./reasons.js";

const COLUMNS = ["Interface", "State", "Addresses", ">Received", ">Sent", ">Dropped"];
const list = h("table", { class: "wide stack" }, head(COLUMNS));
const none = h("p", { class: "hint" }, "No interface is configured.");

const DETAILS = [
  ["Fault", (face) => face.fault],
  ["Device", (face) => face.device],
  ["VLAN", (face) => (face.vlan == null ? null : `${face.vlan} of ${face.parent}`)],
  ["Ethernet address", (face) => face.mac],
  ["MTU", (face) => (face.mtu == null ? null : `${face.mtu} octets`)],
  ["Queue pairs", (face) => face.queues || null],
  ["Received", (face) => `${count(face.rx_packets)} frames, ${count(face.rx_bytes)} bytes`],
  ["Sent", (face) => `${count(face.tx_packets)} frames, ${count(face.tx_bytes)} bytes`],
  ["For the router", (face) => `${count(face.consumed)} packets`],
  ["Interrupts", (face) => count(face.interrupts)],
  ["Notifications", (face) => count(face.notifications)],
];

/// What each CPU's queue pair of a device with several has carried.
function pairs(face) {
  const own = live.cpus.queues.filter((pair) => pair.interface === face.name);
  return own.length < 2 ? [] : own.map((pair) =>
    [`Pair of ${pair.cpu}`, `${count(pair.rx_packets)} frames received, ${count(pair.tx_packets)} sent`]);
}

function makeRow(face) {
  const cell = (label, number) => h("td", { "data-label": label, class: number ? "number" : null }, number && [1, 2].map(() => h("span", { class: "hop" })));
  const both = (cell, texts) => texts.forEach((text, index) => setText(cell.children[index], text));
  const mark = h("span", { class: "state" });
  const cells = { addresses: cell("Addresses"), rx: cell("Received", true), tx: cell("Sent", true), drops: cell("Dropped", true) };
  const facts = h("dl", { class: "details" });
  const losses = h("dl", { class: "details losses" });
  const more = h("tr", { class: "more", hidden: true }, h("td", { colspan: COLUMNS.length }, facts, losses));
  const button = h("button", { type: "button", class: "row", "aria-expanded": "false", onclick: () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
  } }, face.name);
  const row = h("tr", {}, h("th", { scope: "row" }, button), h("td", { "data-label": "State" }, mark), Object.values(cells));
  // Both rows of an interface are one group of rows, so that they stay together.
  const group = h("tbody", {}, row, more);
  group.update = (now) => {
    mark.dataset.state = now.state;
    setText(mark, now.state);
    keyed(cells.addresses, now.addresses, (text) => text, (text) => h("span", { class: "mono address" }, text));
    const rates = newest(now.name);
    const shown = (bits, packets) => (bits == null ? ["–", ""] : [si(bits, "bit/s"), si(packets, "packets/s")]);
    both(cells.rx, shown(rates?.rxBits, rates?.rxPackets));
    both(cells.tx, shown(rates?.txBits, rates?.txPackets));
    both(cells.drops, [count(now.dropped), rates?.drops == null ? "–" : si(rates.drops, "/s")]);
    group.classList.toggle("off", now.state === "absent" || now.state === "disabled");
    const known = DETAILS.map(([name, value]) => [name, value(now)]).filter(([, value]) => value != null);
    keyed(facts, [...known, ...pairs(now)], ([name]) => name, ([name]) => {
      const value = h("dd", {});
      const entry = h("div", {}, h("dt", {}, name), value);
      entry.update = ([, text]) => setText(value, text);
      return entry;
    });
    keyed(losses, now.drops, (loss) => loss.reason, (loss) => {
      const value = h("dd", {});
      const entry = h("div", { title: explain(loss.reason) }, h("dt", {}, loss.reason), value);
      entry.update = (current) => setText(value, count(current.packets));
      return entry;
    });
    losses.hidden = !now.drops.length;
  };
  return group;
}

export default {
  id: "interfaces",
  title: "Interfaces",
  make() {
    return [h("h1", {}, "Interfaces"), h("p", { class: "hint" }, "A name opens what else is known of its interface."),
      h("div", { class: "card flush" }, list), none];
  },
  update() {
    if (!live.status) return;
    none.hidden = live.interfaces.length > 0;
    list.hidden = !live.interfaces.length;
    keyed(list, [null, ...live.interfaces], (face) => face?.name ?? "", (face) => face ? makeRow(face) : list.tHead);
  },
};
