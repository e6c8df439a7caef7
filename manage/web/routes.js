// The routing table, a page at a time or searched, and the neighbours on the links.

import { get } from "./api.js";
import { $, h, head, keyed, setText } from "./dom.js";
import { count, many } from "./format.js";
import { live } from "./live.js";

const PAGE = 50;
const BATCH = 500;
const MOST_FOUND = 200;
let offset = 0;
let total = 0;
let wanted = "";
let turn = 0;
let neighbors = null;

const rows = h("tbody");
const about = h("p", { class: "hint", "aria-live": "polite" });
const search = h("input", { id: "routes-search", type: "search", placeholder: "10.0., fe80::1, lan, unreachable …",
  autocomplete: "off", spellcheck: "false", oninput: () => {
    const now = search.value.trim().toLowerCase();
    if (now === wanted) return;
    wanted = now;
    offset = 0;
    show();
  } });
const back = h("button", { type: "button", onclick: () => page(-PAGE) }, "← Previous");
const forth = h("button", { type: "button", onclick: () => page(PAGE) }, "Next →");
const neighborRows = h("tbody");
const noNeighbors = h("p", { class: "hint" }, "No neighbour is known yet.");
const neighborCount = h("span", { class: "note" });

function page(by) {
  offset = Math.max(0, offset + by);
  show();
}

const via = (hop) => [hop.via ?? "on the link", hop.interface ? `by ${hop.interface}` : null].filter(Boolean).join(" ");

const text = (route) => [route.to, route.action, route.origin,
  ...route.next_hops.flatMap((hop) => [hop.via, hop.interface])].join(" ").toLowerCase();

function row(route) {
  const shares = route.next_hops.length > 1;
  const hops = route.next_hops.map((hop) => h("span", { class: "hop" }, via(hop), shares ? ` (weight ${hop.weight})` : ""));
  return h("tr", {}, h("th", { scope: "row", class: "mono" }, route.to),
    h("td", { "data-label": "Packets go" }, hops.length ? hops : h("span", { class: "state", "data-state": route.action }, route.action)),
    h("td", { "data-label": "Origin" }, route.origin),
    h("td", { class: "number", "data-label": "Metric" }, route.metric));
}

/// Looks through all routes; what it found, or null if another search began meanwhile.
async function find(words, mine) {
  const found = [];
  let looked = 0;
  do {
    const part = await get(`/routes?offset=${looked}&limit=${BATCH}`);
    if (mine !== turn) return null;
    total = part.total;
    looked += part.routes.length;
    found.push(...part.routes.filter((route) => words.every((word) => text(route).includes(word))));
    if (!part.routes.length) break;
    setText(about, `${many(found.length, "route")} found in ${count(looked)} of ${count(total)} …`);
  } while (looked < total && found.length < MOST_FOUND);
  const rest = looked < total ? ` Looked at the first ${count(looked)}: search for more.` : "";
  setText(about, `${many(found.length, "route")} of ${count(total)} found.${rest}`);
  return found;
}

async function show() {
  turn += 1;
  const mine = turn;
  try {
    let routes;
    if (wanted) {
      routes = await find(wanted.split(/\s+/), mine);
    } else {
      const part = await get(`/routes?offset=${offset}&limit=${PAGE}`);
      if (mine !== turn) return;
      ({ total, routes } = part);
      const last = part.offset + routes.length;
      setText(about, total ? `Routes ${count(part.offset + 1)} to ${count(last)} of ${count(total)}` : "No route.");
    }
    if (!routes) return;
    rows.replaceChildren(...routes.map(row));
    back.hidden = forth.hidden = Boolean(wanted) || total <= PAGE;
    back.disabled = offset === 0;
    forth.disabled = offset + PAGE >= total;
  } catch (error) {
    setText(about, error.message);
  }
}

function showNeighbors() {
  noNeighbors.hidden = neighbors.length > 0;
  setText(neighborCount, count(neighbors.length));
  keyed(neighborRows, neighbors, (one) => `${one.interface} ${one.address}`, (one) => {
    const mac = h("td", { class: "mono", "data-label": "Ethernet address" });
    const state = h("span", { class: "state" });
    const line = h("tr", {}, h("th", { scope: "row", class: "mono" }, one.address),
      h("td", { "data-label": "Interface" }, one.interface), mac, h("td", { "data-label": "State" }, state));
    line.update = (now) => {
      setText(mac, now.mac ?? "–");
      setText(state, now.state);
      state.dataset.state = now.state;
    };
    return line;
  });
}

live.addEventListener("event", ({ detail }) => detail.kind === "configuration" && live.isNew(detail) && !$("page-routes").hidden && show());

export default {
  id: "routes",
  title: "Routes and neighbours",
  search,
  async ask() {
    neighbors = await get("/neighbors");
  },
  enter: show,
  make() {
    return [h("h1", {}, "Routes and neighbours"),
      h("div", { class: "bar-of-tools" }, h("label", { for: "routes-search" }, "Search routes"), search,
        h("span", { class: "buttons" }, back, forth)),
      about,
      h("div", { class: "card flush" }, h("table", { class: "wide stack" },
        head(["Destination", "Packets go", "Origin", ">Metric"]), rows)),
      h("h2", {}, "Neighbours ", neighborCount),
      h("div", { class: "card flush" }, h("table", { class: "wide stack" },
        head(["Address", "Interface", "Ethernet address", "State"]), neighborRows)),
      noNeighbors];
  },
  update() {
    if (neighbors) showNeighbors();
  },
};
