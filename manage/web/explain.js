// What becomes of a packet: asked by its addresses or its bytes, answered step by step, with the lines of the configuration
// behind each. Packets of other pages come as links.

import { Refused, get } from "./api.js";
import { h, keyed, say } from "./dom.js";
import { live } from "./live.js";
import { decode, hex, unhex } from "./packet.js";
import { explain as meaning } from "./reasons.js";

/// Bytes of a frame that an address has room for.
const LONGEST = 1000;
/// Bytes of a packet that the router makes up at most.
const MADE = 9216;
const PORTS = ["tcp", "udp", "6", "17"];

let due = false;
let busy = false;

const number = { inputmode: "numeric" };
/// The words of the API's language, and the field of each.
const FIELDS = new Map([
  ["", ["Interface", { required: true, list: "explain-faces" }]],
  ["from", ["Source", { required: true, class: "mono", placeholder: "10.0.1.2" }]],
  ["to", ["Destination", { required: true, class: "mono", placeholder: "192.0.2.2" }]],
  ["protocol", ["Protocol", { list: "explain-protocols", placeholder: "echo request" }]],
  ["port", ["Port", { ...number, placeholder: "80" }]],
  ["source-port", ["Source port", { ...number, placeholder: "50000" }]],
  ["vlan", ["VLAN", { ...number, placeholder: "the interface's" }]],
  ["length", ["Bytes", { ...number, placeholder: "the least" }]],
  ["ttl", ["Time to live", { ...number, placeholder: "64" }]],
  ["frame", ["Ethernet frame, in hexadecimal", { required: true, class: "mono" }]],
].map(([word, [label, attributes]]) => {
  const id = `explain-${word || "interface"}`;
  const input = h(word === "frame" ? "textarea" : "input", { id, rows: word === "frame" && 4, autocomplete: "off", autocapitalize: "off",
    spellcheck: "false", oninput: () => wrong(), ...attributes });
  return [word, { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input) }];
}));
const input = (word) => FIELDS.get(word).input;

const faces = h("datalist", { id: "explain-faces" });
const protocols = h("datalist", { id: "explain-protocols" }, ["tcp", "udp", "icmp", "icmpv6"].map((name) => h("option", { value: name })));
const text = h("select", { id: "explain-text" }, h("option", { value: "" }, "in force"), h("option", { value: "true" }, "the candidate"));
const [byAddress, byBytes] = ["its addresses", "its bytes"].map((what, index) => [what, h("input", { type: "radio", name: "explain-by", checked: !index, onchange: () => show() })]);
const why = h("div", { id: "explain-wrong", class: "bad" });
const begin = h("button", { type: "submit", class: "primary" }, "Explain");
const result = h("section", { class: "card answer", "aria-label": "What becomes of it", tabindex: "-1", hidden: true });
const form = h("form", { class: "card fields", onsubmit: (event) => {
  event.preventDefault();
  ask();
} });

/// Has the fields in view that count.
function show() {
  const bytes = byBytes[1].checked;
  const ports = PORTS.includes(input("protocol").value.trim().toLowerCase());
  for (const [word, { input, element }] of FIELDS) {
    element.hidden = word !== "" && (word === "frame") !== bytes || word.endsWith("port") && !ports;
    // What is not in view is not asked for.
    input.disabled = element.hidden;
  }
}

/// Shows what is wrong at a field, or below all; or that nothing is.
function wrong(problem, at) {
  const before = form.querySelector("[aria-invalid]");
  before?.removeAttribute("aria-invalid");
  before?.removeAttribute("aria-describedby");
  why.remove();
  show();
  if (!problem) return;
  why.replaceChildren(h("p", {}, `${problem.title}: ${problem.detail}`), h("p", { class: "cure" }, problem.cure));
  (at?.parentElement ?? form).append(why);
  if (!at) return say(problem.detail);
  at.setAttribute("aria-invalid", "true");
  at.setAttribute("aria-describedby", why.id);
  at.focus();
}

/// The packet in the API's language, and at which column each field begins there.
function question() {
  let packet = "";
  const columns = [];
  for (const [word, { input }] of FIELDS) {
    const value = word === "frame" ? input.value.replace(/[\s:]/g, "") : input.value.trim();
    if (!value || input.disabled) continue;
    packet += `${packet && " "}${word}${word && " "}`;
    columns.push([[...packet].length + 1, input]);
    packet += value;
  }
  return [packet, columns];
}

async function ask(focus) {
  if (busy) return;
  const [packet, columns] = question();
  const query = new URLSearchParams({ packet });
  if (text.value) query.set("candidate", text.value);
  wrong();
  busy = begin.disabled = true;
  try {
    const told = await get(`/explain?${query}`);
    if (location.hash.startsWith("#explain")) history.replaceState(null, "", `#explain?${query}`);
    answer(told);
    if (focus) result.focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    result.hidden = true;
    const at = columns.findLast(([column]) => column <= error.column)?.[1];
    wrong(error, at ?? (text.value && [404, 422].includes(error.status) ? text : null));
  } finally {
    busy = begin.disabled = false;
    askIfDue();
  }
}

/// Asks what came as a link, once there is an answer to what was asked before.
function askIfDue() {
  if (!due || busy) return;
  due = false;
  ask(true);
}

const ENDS = {
  forwarded: ["good", "Forwarded"],
  answered: ["good", "Answered by the router"],
  delivered: ["good", "For the router itself"],
  waits: ["warn", "Waits for a neighbour"],
  gathers: ["warn", "Waits for its other fragments"],
  dropped: ["bad", "Dropped"],
};

function answer({ verdict, reason, end, steps }) {
  const [kind, words] = ENDS[verdict] ?? ["", verdict];
  const place = ({ line, text: begin }) => new URLSearchParams({ line, text: begin, ...(text.value && { candidate: true }) });
  result.hidden = false;
  result.dataset.end = kind;
  result.replaceChildren(
    h("ol", { class: "way" }, steps.map((step) => h("li", {}, h("b", {}, step.step), h("span", {}, step.found),
      step.line ? h("a", { class: "mono", href: `#configuration?${place(step)}` }, h("span", { class: "note" }, `line ${step.line} `), step.text) : null))),
    h("h2", { class: kind }, words, reason ? h("span", { class: "mono" }, ` ${reason}`) : null),
    h("p", {}, end), h("p", { class: "hint", hidden: !reason }, reason && meaning(reason)));
  result.scrollIntoView({ block: "nearest" });
  say(`${words}${reason ? `: ${reason}` : ""}`, "quiet");
}

/// Fills the form with a packet in the API's language.
function fill(packet) {
  const [face, ...words] = packet.split(" ");
  const values = new Map([["", face]]);
  for (let at = 0; at + 1 < words.length; at += 2) values.set(words[at], words[at + 1]);
  const frame = values.get("frame");
  byBytes[1].checked = frame != null;
  byAddress[1].checked = frame == null;
  // The other half of the form says the same, as far as it can.
  if (frame) told(decode(unhex(frame)), face).forEach(([word, value]) => values.set(word, String(value)));
  for (const [word, { input }] of FIELDS) input.value = values.get(word) ?? "";
}

/// What a decoded frame says of an IP packet, `[[word, value]]`; nothing of anything else.
function told({ from, to, ip, ports, tag }, face) {
  if (!ip) return [];
  const own = live.interfaces.find((one) => one.name === face)?.vlan;
  return [["from", from], ["to", to], ["protocol", ip.protocol], ["port", ports?.[1]], ["source-port", ports?.[0]],
    ["vlan", tag === own ? null : tag], ["length", ip.length > MADE ? null : ip.length], ["ttl", ip.ttl]].filter(([, value]) => value != null);
}

/// A link that asks what becomes of a frame that came in by an interface, of which `bytes` of `length` are kept: by these if they
/// are all, and as they came, else by what they say. Nothing if it came from nowhere.
export function link(bytes, face, length, reason) {
  const own = live.interfaces.find((one) => one.name === face);
  if (!own || !bytes.subarray(0, 12).some(Boolean)) return null;
  const frame = decode(bytes);
  // Lost on its way out, with the next hop's station in front.
  const left = reason && reason !== "ethernet-not-for-us" && own.mac && !(bytes[0] & 1) && frame.station !== own.mac;
  let packet;
  if (frame.ip && (left || bytes.length < length || length > LONGEST)) {
    packet = told(frame, face).flat();
  } else {
    // The stack takes the tag of a VLAN's interface out before it loses a packet.
    const tag = own.vlan && frame.tag == null ? [0x81, 0, own.vlan >> 8, own.vlan & 255] : [];
    packet = ["frame", hex([...bytes.subarray(0, 12), ...tag, ...bytes.subarray(12, LONGEST)])];
  }
  return h("a", { class: "ask", href: `#explain?${new URLSearchParams({ packet: [face, ...packet].join(" ") })}` }, "What becomes of it, and why");
}

export default {
  id: "explain",
  title: "Explain",
  make() {
    const fieldset = h("fieldset", {}, h("legend", {}, "Packet by"), [byAddress, byBytes].map(([what, radio]) => h("label", { class: "check" }, radio, what)));
    const [face, ...rest] = [...FIELDS.values()].map(({ element }) => element);
    form.append(face, h("div", { class: "field" }, h("label", { for: text.id }, "Configuration"), text), fieldset, ...rest,
      h("div", { class: "buttons" }, begin), faces, protocols);
    show();
    return [h("h1", {}, "Explain"),
      h("p", { class: "hint" }, "What the router would do with a packet, and why: the same code, tables and neighbours. Nothing is sent or counted."),
      form, result];
  },
  open(query) {
    text.value = query.get("candidate") === "true" ? "true" : "";
    if (query.has("packet")) {
      fill(query.get("packet"));
      due = true;
    }
    show();
    if (live.link.state === "up") this.enter();
  },
  enter() {
    askIfDue();
  },
  update() {
    keyed(faces, live.interfaces, (one) => one.name, (one) => h("option", { value: one.name }, one.vlan == null ? "" : `VLAN ${one.vlan} of ${one.parent}`));
  },
};
