// A unified diff, shown in one column or side by side.

import { h, segments } from "./dom.js";

/// Lines of a unified diff: `{ kind: "same" | "gone" | "new" | "hunk", old, now, text }` with line numbers.
export function parse(diff) {
  const lines = [];
  let old = 0;
  let now = 0;
  let inside = false;
  for (const line of diff.split("\n")) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/.exec(line);
    if (hunk) {
      [old, now] = [Number(hunk[1]), Number(hunk[2])];
      inside = true;
      lines.push({ kind: "hunk", text: line });
    } else if (inside && line.startsWith("-")) {
      lines.push({ kind: "gone", old: old++, text: line.slice(1) });
    } else if (inside && line.startsWith("+")) {
      lines.push({ kind: "new", now: now++, text: line.slice(1) });
    } else if (inside && line.startsWith(" ")) {
      lines.push({ kind: "same", old: old++, now: now++, text: line.slice(1) });
    }
  }
  return lines;
}

const SIGNS = { gone: "−", new: "+", same: " " };
const WORDS = { gone: "removed", new: "added" };

function unified(lines) {
  return h("table", { class: "diff mono" }, h("tbody", {}, lines.map((line) => line.kind === "hunk"
    ? h("tr", { class: "hunk" }, h("td", { colspan: 4 }, line.text))
    : h("tr", { class: line.kind }, h("td", { class: "line" }, line.old ?? ""), h("td", { class: "line" }, line.now ?? ""),
      h("td", { class: "sign", "aria-label": WORDS[line.kind] }, SIGNS[line.kind]), h("td", { class: "text" }, line.text)))));
}

/// Rows of two columns: what is gone stands beside what came in its place.
export function pairs(lines) {
  const rows = [];
  let gone = [];
  let fresh = [];
  const flush = () => {
    for (let at = 0; at < Math.max(gone.length, fresh.length); at += 1) rows.push([gone[at], fresh[at]]);
    gone = [];
    fresh = [];
  };
  for (const line of lines) {
    if (line.kind === "gone") gone.push(line);
    else if (line.kind === "new") fresh.push(line);
    else {
      flush();
      rows.push([line, line]);
    }
  }
  flush();
  return rows;
}

function sideBySide(lines) {
  const side = (line, number) => [h("td", { class: "line" }, line?.[number] ?? ""),
    h("td", { class: `text ${line ? line.kind : "void"}` }, line?.text ?? "")];
  const columns = ["narrow", null, "narrow", null].map((width) => h("col", { class: width }));
  return h("table", { class: "diff mono sides" }, h("colgroup", {}, columns), h("tbody", {}, pairs(lines).map(([left, right]) => left?.kind === "hunk"
    ? h("tr", { class: "hunk" }, h("td", { colspan: 4 }, left.text))
    : h("tr", {}, side(left, "old"), side(right, "now")))));
}

/// The diff with a switch between its two forms.
export function diffView(text) {
  const lines = parse(text);
  if (!lines.length) return h("p", { class: "hint" }, "The text is the same.");
  const place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Difference" }, unified(lines));
  const choose = (name) => place.replaceChildren(name === "Unified" ? unified(lines) : sideBySide(lines));
  return h("div", { class: "diff-box" }, segments("Form of the difference", ["Unified", "Side by side"], "Unified", choose), place);
}
