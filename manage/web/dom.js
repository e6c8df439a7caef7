// Making and keeping elements. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/// An HTML element: `h("p", { class: "hint", onclick: f }, "text", child)`.
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/// An SVG element.
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/// The element with this id.
export const $ = (id) => document.getElementById(id);

/// Sets an element's text, if it is another: a screen reader and a selection are not disturbed for nothing.
export function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/// Keeps one child of `parent` for each item, in order. `make(item)` gives an element with a method `update(item)`.
export function keyed(parent, items, key, make) {
  const have = (parent.keyedChildren ??= new Map());
  const names = new Set(items.map(key));
  for (const [name, element] of have) {
    if (!names.has(name)) {
      element.remove();
      have.delete(name);
    }
  }
  items.forEach((item, index) => {
    const name = key(item);
    let element = have.get(name);
    if (!element) have.set(name, (element = make(item)));
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
    element.update?.(item);
  });
}

/// A table's head. Columns are texts; one that begins with ">" is of numbers.
export const head = (columns) =>
  h("thead", {}, h("tr", {}, columns.map((text) =>
    h("th", { scope: "col", class: text.startsWith(">") ? "number" : null }, text.replace(/^>/, "")))));

/// A row of buttons of which one is pressed.
export function segments(label, names, chosen, choose) {
  const buttons = names.map((name) => h("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => {
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
    choose(name);
  } }, name));
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

/// Has a screen reader say something, and shows it for a while; `"quiet"`: only says it.
export function say(text, how) {
  const line = h("p", { class: how }, text);
  $("said").append(line);
  setTimeout(() => line.remove(), 6000);
}
