// A text editor with line numbers, TOML in colours and marked errors: a text area over a painted copy of its text.

import { h } from "./dom.js";

const PAINTED_MOST = 200_000;
const TOKENS = /(#.*)|("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*')|^(\s*\[\[?[^\]\n]*\]\]?)|\b(true|false|[+-]?\d[\d_.:TZ+-]*)\b|^(\s*[\w."-]+)(?=\s*=)/gm;
const CLASSES = ["comment", "string", "table", "value", "key"];

/// The text in colours, as nodes.
function paint(text) {
  if (text.length > PAINTED_MOST) return [text];
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = CLASSES[match.slice(1).findIndex((group) => group !== undefined)];
    nodes.push(text.slice(last, match.index), h("span", { class: `t-${kind}` }, match[0]));
    last = match.index + match[0].length;
  }
  nodes.push(text.slice(last));
  return nodes;
}

/// Where line and column (both from 1, in characters) are in `text`.
function offsetOf(text, line, column) {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  const characters = [...(lines[line - 1] ?? "")];
  return Math.min(text.length, before + characters.slice(0, Math.max(0, column - 1)).join("").length);
}

/// An editor. `changed()` is called after every change by its user, `submit()` for Ctrl+Enter.
export function editor({ label, changed, submit }) {
  const gutter = h("ol", { class: "gutter", "aria-hidden": "true" });
  const painting = h("pre", { class: "painting", "aria-hidden": "true" });
  const marks = h("pre", { class: "painting marks", "aria-hidden": "true" });
  const area = h("textarea", { "aria-label": label, "aria-describedby": "editor-hint", spellcheck: "false", wrap: "off",
    autocomplete: "off", autocapitalize: "off" });
  const element = h("div", { class: "editor mono" }, gutter, h("div", { class: "sheet" }, marks, painting, area));
  let lines = 0;
  let leaving = false;

  const scrolled = () => {
    const move = `translate(${-area.scrollLeft}px, ${-area.scrollTop}px)`;
    painting.style.transform = move;
    marks.style.transform = move;
    gutter.style.transform = `translateY(${-area.scrollTop}px)`;
  };

  function draw() {
    const text = area.value;
    // A last empty line has height only with something behind it.
    painting.replaceChildren(...paint(text), "\n");
    const now = text.split("\n").length;
    while (lines < now) gutter.append(h("li", {}, String(++lines)));
    while (lines > now) {
      gutter.lastChild.remove();
      lines -= 1;
    }
    scrolled();
  }

  /// As if typed, so that undo knows of it.
  const type = (text) => {
    if (!document.execCommand("insertText", false, text)) area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
  };

  function indent(back) {
    const { value, selectionStart: from, selectionEnd: to } = area;
    if (from === to && !back) return type("  ");
    const start = value.lastIndexOf("\n", from - 1) + 1;
    const block = value.slice(start, to);
    area.setSelectionRange(start, to);
    type(back ? block.replace(/^ {1,2}/gm, "") : block.replace(/^(?=.)/gm, "  "));
    const end = area.selectionEnd;
    area.setSelectionRange(from === to ? end : start, end);
  }

  area.addEventListener("keydown", (event) => {
    if (event.key === "Tab" && !leaving && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      indent(event.shiftKey);
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    }
    // Escape, then Tab, goes on to the next control.
    leaving = event.key === "Escape" || (leaving && event.key === "Shift");
  });
  area.addEventListener("scroll", scrolled);
  area.addEventListener("input", () => {
    draw();
    element.mark([]);
    changed();
  });
  draw();

  return Object.assign(element, {
    area,
    set(text) {
      area.value = text;
      draw();
      element.mark([]);
    },
    /// Underlines places, `[{ line, column }]`; without a column the whole line.
    mark(places) {
      for (const number of gutter.children) number.className = "";
      const text = area.value;
      const nodes = [];
      let last = 0;
      const real = places.filter((place) => place.line > 0).sort((a, b) => a.line - b.line || a.column - b.column);
      for (const { line, column } of real) {
        gutter.children[line - 1]?.classList.add("wrong");
        const from = Math.max(last, offsetOf(text, line, column || 1));
        const end = text.indexOf("\n", from);
        // To the end of the word or value; an error at the line's end marks one character there.
        const rest = /^(?:"[^"\n]*"|[^\s,\]}#]+|.)?/.exec(text.slice(from, end < 0 ? text.length : end))[0];
        const marked = column ? rest : text.slice(from, end < 0 ? text.length : end);
        nodes.push(text.slice(last, from), h("mark", {}, marked || " "));
        last = from + marked.length;
      }
      marks.replaceChildren(...nodes, text.slice(last), "\n");
      area.setAttribute("aria-invalid", String(real.length > 0));
    },
    /// Puts the cursor there.
    go(line, column) {
      const at = offsetOf(area.value, line, column || 1);
      area.focus();
      area.setSelectionRange(at, at);
      const height = parseFloat(getComputedStyle(area).lineHeight);
      area.scrollTop = Math.max(0, (line - 4) * height);
    },
  });
}
