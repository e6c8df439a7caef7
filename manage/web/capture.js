// Captures: packets as they pass the router, in a list, with what their bytes say.

import { Refused, pieces } from "./api.js";
import { h, head, keyed, say, setText } from "./dom.js";
import { link } from "./explain.js";
import { binary, count, many, moment, stamp } from "./format.js";
import { live } from "./live.js";
import { decode } from "./packet.js";
import { reader } from "./pcapng.js";
import { dissect } from "./view.js";

/// What the browser keeps: a capture ends there.
const MOST_PACKETS = 5000;
const MOST_BYTES = 16 << 20;
const LONGEST = 131_072;
const PAGE = 15;

/// The capture in the list: its blocks, `bytes` of them together, its packets, the packets lost for want of room.
let blocks = [];
let bytes = 0;
let packets = [];
let lost = 0;
let running = null;
let chosen = -1;

const face = h("select", { id: "capture-interface" }, h("option", { value: "" }, "all"));
const ways = ["in", "out", "drop"].map((way) => h("input", { type: "checkbox", value: way, checked: true }));
const WORDS = { in: "received", out: "sent", drop: "lost" };
const filter = h("input", { id: "capture-filter", class: "mono", value: "not port 80", placeholder: "host 192.0.2.1 and tcp port 443", maxlength: 2048,
  "aria-describedby": "capture-wrong", autocomplete: "off", autocapitalize: "off", spellcheck: "false", oninput: () => wrong() });
const snaplen = h("input", { id: "capture-snaplen", type: "number", min: 1, max: LONGEST, value: 2048, required: true });
const limit = h("input", { id: "capture-limit", type: "number", min: 1, max: MOST_PACKETS, value: 1000, required: true });
const begin = h("button", { type: "submit", class: "primary" }, "Start");
const save = h("button", { type: "button", onclick: download }, "Download pcapng");
const why = h("div", { id: "capture-wrong", class: "bad", "aria-live": "polite" });
const about = h("p", { class: "hint", "aria-live": "polite" });
const rows = h("tbody", { onkeydown: pressed, onclick: (event) => choose([...rows.children].indexOf(event.target.closest("tr"))) });
const list = h("div", { class: "card flush packets" }, h("table", { class: "wide", role: "grid", "aria-label": "Packets" },
  head([">No.", ">Time", "Where", "Source", "Destination", "Protocol", ">Length", "What"]), rows));
const packet = h("section", { class: "card", "aria-label": "Packet", hidden: true });

/// Shows what is wrong with the filter, at its place; or that nothing is.
function wrong(problem) {
  const column = problem?.column ?? 0;
  filter.setAttribute("aria-invalid", String(column > 0));
  why.replaceChildren();
  if (!problem) return;
  if (column) {
    const before = [...filter.value].slice(0, column - 1).join("");
    const after = filter.value.slice(before.length);
    const word = /^\S*/.exec(after)[0] || " ";
    why.append(h("code", {}, before, h("mark", {}, word), after.slice(word.length)));
    filter.focus();
    filter.setSelectionRange(before.length, before.length + word.trim().length);
  }
  why.append(h("p", {}, `${problem.title}: ${problem.detail}`), h("p", { class: "cure" }, problem.cure));
}

function showState(said) {
  setText(begin, running ? "Stop" : "Start");
  begin.classList.toggle("primary", !running);
  save.disabled = !packets.length;
  list.hidden = !packets.length;
  const got = packets.length ? ` ${many(packets.length, "packet")}, ${binary(bytes)}.` : "";
  const room = lost ? ` ${many(lost, "packet")} found no room in the router's buffers.` : "";
  setText(about, said + got + room);
}

function row(one, number) {
  const { from, to, protocol, info } = decode(one.bytes);
  const cell = (text, kind) => h("td", { class: kind }, text);
  return h("tr", { tabindex: number ? -1 : 0, "aria-selected": "false", class: one.reason ? "lost" : null },
    cell(number + 1, "number"), cell(stamp(one.us), "number"), cell(`${one.interface} ${one.reason ? "lost" : one.way}`),
    cell(from), cell(to), cell(protocol), cell(one.length, "number"), cell(one.reason ? `${one.reason}: ${info}` : info));
}

function take(part) {
  if (!part.blocks.length) return;
  blocks.push(part.blocks);
  bytes += part.blocks.length;
  lost = part.lost;
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
  rows.append(...part.packets.map((one, index) => row(one, packets.length + index)));
  packets.push(...part.packets);
  showState("Running.");
  if (atEnd && chosen < 0) list.scrollTop = list.scrollHeight;
  if (bytes >= MOST_BYTES) running.abort("full");
}

async function start() {
  const query = new URLSearchParams({ snaplen: snaplen.value, limit: limit.value });
  const directions = ways.filter((way) => way.checked).map((way) => way.value);
  if (!directions.length) return wrong({ title: "Nothing is asked for", detail: "no frames are chosen", cure: "Choose received, sent or lost." });
  query.set("direction", directions.join());
  if (face.value) query.set("interface", face.value);
  if (filter.value.trim()) query.set("filter", filter.value);
  wrong();
  [blocks, bytes, packets, lost] = [[], 0, [], 0];
  rows.replaceChildren();
  choose(-1);
  const own = new AbortController();
  running = own;
  showState("Waiting for packets.");
  const read = reader();
  let end = "It is at its end.";
  try {
    await pieces(`/capture?${query}`, (piece) => take(read(piece)), own.signal);
  } catch (error) {
    if (own.signal.aborted) end = own.signal.reason === "full" ? "Ended: this page keeps 16 MiB at most." : "Stopped.";
    else if (error instanceof Refused) {
      wrong(error);
      end = "Refused.";
    } else end = `Broken off: ${error.message}.`;
  }
  // What is still to come is not wanted, whyever it ended.
  own.abort();
  running = null;
  showState(end);
  say(end, "quiet");
}

function download() {
  const address = URL.createObjectURL(new Blob(blocks, { type: "application/x-pcapng" }));
  h("a", { href: address, download: `${live.status?.hostname ?? "weir"}.pcapng` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/// Shows a packet; -1: none.
function choose(number) {
  rows.children[chosen]?.setAttribute("aria-selected", "false");
  const one = packets[number];
  packet.hidden = !one;
  packet.replaceChildren();
  chosen = one ? number : -1;
  if (!one) return;
  const line = rows.children[number];
  for (const other of rows.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  line.tabIndex = 0;
  line.setAttribute("aria-selected", "true");
  line.focus({ preventScroll: true });
  line.scrollIntoView({ block: "nearest" });
  const kept = one.bytes.length < one.length ? `, of which ${count(one.bytes.length)} are kept` : "";
  packet.append(h("h2", {}, `Packet ${number + 1}`), dissect(one.bytes, [
    ["Time", moment(one.us)],
    ["Where", `${one.interface}, ${one.reason ? "lost" : one.way === "in" ? "received" : "sent"}`],
    ["CPU", `cpu${one.cpu}`],
    ["Length", `${count(one.length)} bytes${kept}`],
  ], one.reason, one.way === "out" ? null : link(one.bytes, one.interface, one.length, one.reason)));
}

function pressed(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE, Home: -packets.length, End: packets.length };
  const step = steps[event.key];
  if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  choose(Math.max(0, Math.min(packets.length - 1, [...rows.children].indexOf(event.target) + step)));
}

const field = (label, input) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);

export default {
  id: "capture",
  title: "Capture",
  search: filter,
  make() {
    const form = h("form", { class: "card fields", onsubmit: (event) => {
      event.preventDefault();
      if (running) running.abort();
      else start();
    } },
    field("Interface", face),
    h("fieldset", {}, h("legend", {}, "Frames"), ways.map((way) => h("label", { class: "check" }, way, WORDS[way.value]))),
    field("Bytes of a packet", snaplen), field("Packets", limit),
    h("div", { class: "field whole" }, h("label", { for: "capture-filter" }, "Filter, as tcpdump has it"), filter, why),
    h("div", { class: "buttons" }, begin, save));
    showState("Nothing is captured.");
    return [h("h1", {}, "Capture"), form,
      h("p", { class: "hint" }, `Port 80 is this page's own. It keeps ${count(MOST_PACKETS)} packets or 16 MiB at most; curl and Wireshark take more. Arrow keys go from packet to packet.`),
      about, list, packet];
  },
  update() {
    keyed(face, [{ name: "" }, ...live.interfaces], (one) => one.name, (one) => one.name ? h("option", { value: one.name }, one.name) : face.options[0]);
  },
};
