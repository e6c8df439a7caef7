// A plot of rates over time: two lines, axes with units, a reading under the pointer.

import { h, s } from "./dom.js";
import { si } from "./format.js";

const HEIGHT = 150;
const LEFT = 44;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;

/// The least 1, 2 or 5 times a power of ten with at most four steps to `most`.
export function step(most) {
  const raw = most / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.9999);
}

/// The scale for values up to `most`: top value, step, and the prefix in which its axis counts.
export function scale(most) {
  const top = Math.max(most, 10);
  const by = step(top);
  const power = Math.min(5, Math.max(0, Math.floor(Math.log10(by * 4 * 1.0001) / 3)));
  return { top: Math.ceil((top * 0.9999) / by) * by, by, unit: 1000 ** power, prefix: ["", "k", "M", "G", "T", "P"][power] };
}

function path(points, x, y) {
  let text = "";
  let pen = "M";
  for (const [t, value] of points) {
    if (value == null) {
      pen = "M";
      continue;
    }
    text += `${pen}${x(t).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/// Areas under the runs of `points` without gaps.
function area(points, x, y) {
  const runs = [[]];
  for (const point of points) {
    if (point[1] == null) runs.push([]);
    else runs.at(-1).push(point);
  }
  const base = y(0).toFixed(1);
  return runs.filter((run) => run.length > 1)
    .map((run) => `${path(run, x, y)}V${base}H${x(run[0][0]).toFixed(1)}Z`)
    .join("");
}

/// How much of `windowMs` is shown: less while there are no older rates.
const span = (rates, windowMs) =>
  [30_000, 60_000, 120_000].find((ms) => ms >= rates.at(-1)?.t - rates[0]?.t && ms < windowMs) ?? windowMs;

/// A plot of `lines`: `[{ name, field, class }]`. `draw(rates, unit, windowMs)` draws; `rates` as in live.js.
export function plot(title, lines) {
  const picture = s("svg", { class: "plot", role: "img", height: HEIGHT });
  const readings = lines.map((line) => h("b", {}, "–"));
  const legend = h("div", { class: "legend" }, lines.map((line, index) =>
    h("span", { class: line.class }, h("i", { "aria-hidden": "true" }), line.name, " ", readings[index])));
  const when = h("span", { class: "when" });
  legend.append(when);
  const element = h("div", { class: "plot-box" }, picture, legend);
  let width = 320;
  let drawn = null;
  let pointed = null;

  function draw() {
    if (!drawn) return;
    const { rates, unit } = drawn;
    const windowMs = span(rates, drawn.windowMs);
    const now = rates.at(-1)?.t ?? 0;
    const shown = rates.filter((rate) => rate.t >= now - windowMs);
    const values = shown.flatMap((rate) => lines.map((line) => rate[line.field] ?? 0));
    const axis = scale(Math.max(0, ...values));
    const x = (t) => LEFT + (1 - (now - t) / windowMs) * (width - LEFT - RIGHT);
    const y = (value) => TOP + (1 - value / axis.top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (let value = 0; value <= axis.top * 1.0001; value += axis.by) {
      const at = y(value);
      parts.push(s("line", { class: value ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      const label = Number((value / axis.unit).toPrecision(4));
      parts.push(s("text", { class: "tick", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, label));
    }
    const minutes = windowMs / 60_000;
    const marks = windowMs === 30_000 ? 3 : width < 300 ? 2 : 4;
    for (let mark = 0; mark <= marks; mark += 1) {
      const back = minutes - (mark * minutes) / marks;
      const at = x(now - back * 60_000);
      const label = back === 0 ? "now" : minutes > 4 ? `−${back} min` : `−${Math.round(back * 60)} s`;
      const anchor = mark === 0 ? "start" : mark === marks ? "end" : "middle";
      parts.push(s("text", { class: "tick", x: at, y: HEIGHT - 5, "text-anchor": anchor }, label));
    }
    for (const line of lines) {
      const points = shown.map((rate) => [rate.t, rate[line.field]]);
      parts.push(s("path", { class: `area ${line.class}`, d: area(points, x, y) }));
      parts.push(s("path", { class: `line ${line.class}`, d: path(points, x, y) }));
    }
    parts.push(s("text", { class: "unit", x: LEFT + 6, y: TOP + 4 }, axis.prefix + unit));
    const measured = shown.filter((rate) => rate[lines[0].field] != null);
    let reading = measured.at(-1);
    when.textContent = "";
    if (pointed != null && measured.length) {
      reading = measured.reduce((best, rate) => (Math.abs(x(rate.t) - pointed) < Math.abs(x(best.t) - pointed) ? rate : best));
      const at = x(reading.t);
      parts.push(s("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
      when.textContent = `${Math.round((now - reading.t) / 1000)} s ago`;
    }
    lines.forEach((line, index) => {
      readings[index].textContent = si(reading?.[line.field], unit);
    });
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const latest = lines.map((line) => `${line.name} ${si(measured.at(-1)?.[line.field], unit)}`);
    picture.setAttribute("aria-label", `${title}, last ${windowMs / 1000} seconds. Now: ${latest.join(", ")}`);
    picture.replaceChildren(...parts);
  }

  new ResizeObserver(([entry]) => {
    width = Math.max(220, Math.round(entry.contentRect.width));
    draw();
  }).observe(picture);
  picture.addEventListener("pointermove", (event) => {
    pointed = event.clientX - picture.getBoundingClientRect().left;
    draw();
  });
  picture.addEventListener("pointerleave", () => {
    pointed = null;
    draw();
  });
  return Object.assign(element, {
    draw(rates, unit, windowMs) {
      drawn = { rates, unit, windowMs };
      draw();
    },
  });
}
