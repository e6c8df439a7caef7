// The router's log, as it grows.

import { get } from "./api.js";
import { h, segments, setText } from "./dom.js";
import { many, stamp } from "./format.js";
import { live } from "./live.js";

const LEVELS = ["error", "warn", "info", "debug"];
const KEPT = 2000;
let lines = [];
let level = "debug";
let words = "";
let shown = -1;

const list = h("ol", { class: "log mono", tabindex: "0", "aria-label": "Log lines" });
const about = h("p", { class: "hint" });
const follow = h("input", { type: "checkbox", id: "log-follow", checked: true, onchange: () => follow.checked && toEnd() });
const search = h("input", { type: "search", id: "log-search", placeholder: "text", autocomplete: "off", spellcheck: "false",
  oninput: () => {
    words = search.value.trim().toLowerCase();
    redraw();
  } });

async function ask() {
  const all = await get(lines.length ? `/log?from=${lines.at(-1).number + 1}` : "/log");
  lines.push(...all);
  lines.splice(0, lines.length - KEPT);
}

const passes = (line) => LEVELS.indexOf(line.level) <= LEVELS.indexOf(level) && line.text.toLowerCase().includes(words);

const row = (line) => h("li", { "data-level": line.level }, h("span", { class: "at" }, stamp(line.at_us)),
  h("span", { class: "cpu" }, line.cpu), h("span", { class: "level" }, line.level), h("span", { class: "text" }, line.text));

const toEnd = () => {
  list.scrollTop = list.scrollHeight;
};

function redraw() {
  list.replaceChildren();
  shown = -1;
  add();
}

function add() {
  const fresh = lines.filter((line) => line.number > shown && passes(line));
  list.append(...fresh.map(row));
  while (list.children.length > KEPT) list.firstChild.remove();
  shown = lines.at(-1)?.number ?? -1;
  setText(about, `${many(list.children.length, "line")} of ${lines.length}. Times are seconds since boot.`);
  if (fresh.length && follow.checked) toEnd();
}

// Who scrolls up wants to read; back at the end it follows again.
list.addEventListener("scroll", () => {
  follow.checked = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
});

live.addEventListener("restarted", () => {
  lines = [];
  redraw();
});

export default {
  id: "log",
  title: "Log",
  search,
  ask,
  enter: toEnd,
  make() {
    return [h("h1", {}, "Log"),
      h("div", { class: "bar-of-tools" },
        segments("Least important level", LEVELS, level, (name) => {
          level = name;
          redraw();
        }),
        h("label", { for: "log-search" }, "Search"), search,
        h("label", { class: "check" }, follow, " Follow")),
      h("div", { class: "card flush" }, list), about];
  },
  update() {
    add();
  },
};
