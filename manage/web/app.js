// The page's frame: which page is in view, the state of the connection, token, shortcuts.

import { token } from "./api.js";
import { $, h, say, setText } from "./dom.js";
import { duration } from "./format.js";
import { live, refresh, start } from "./live.js";
import capture from "./capture.js";
import configuration, { watchTrial } from "./configuration.js";
import drops from "./drops.js";
import explain from "./explain.js";
import interfaces from "./interfaces.js";
import log from "./log.js";
import overview from "./overview.js";
import routes from "./routes.js";

const PAGES = [overview, interfaces, routes, drops, capture, explain, log, configuration];
let current = null;

/// Shows the page that the address names; what follows a question mark there is the page's own.
function show() {
  const [id, query] = location.hash.slice(1).split("?");
  const page = PAGES.find((one) => one.id === id) ?? current ?? overview;
  if (page !== current) turnTo(page);
  if (query && page.id === id) page.open?.(new URLSearchParams(query));
}

function turnTo(page) {
  current = page;
  for (const one of PAGES) $(`page-${one.id}`).hidden = one !== page;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${page.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  live.also = page.ask ?? null;
  name();
  window.scrollTo(0, 0);
  page.update();
  if (live.link.state === "up") {
    page.enter?.();
    if (page.ask) refresh();
  }
}

function name() {
  const host = live.status?.hostname;
  document.title = [current.title, host, "Weir"].filter(Boolean).join(" – ");
}

// Connection and token.

function askToken(why) {
  setText($("token-why"), why);
  if (!$("token").open) $("token").showModal();
  $("token-field").focus();
}

function showLink() {
  const { state, problem, changed } = live.link;
  $("link").dataset.state = state;
  document.body.classList.toggle("stale", state !== "up");
  $("lost").hidden = state !== "lost";
  if (state === "refused") {
    const had = token.get() != null;
    token.forget();
    const said = `${problem.title}: ${problem.detail}. To mend it: ${problem.cure}.`;
    askToken(had || problem.status === 403 ? said : "The router wants to know who asks.");
  }
  if (state === "up" && changed) {
    current.enter?.();
    if (live.wasLost) say("The router answers again");
    live.wasLost = false;
  }
  if (state === "lost") {
    if (changed) say("The router does not answer");
    live.wasLost = true;
  }
  showWait();
}

function showWait() {
  const { state, problem, retryAt } = live.link;
  const words = { waiting: "connecting", up: `up ${duration(live.status?.uptime_ms ?? 0)}`, lost: "no answer", refused: "no token" };
  setText($("link-text"), words[state]);
  if (state !== "lost") return;
  const seconds = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
  const next = seconds ? `Trying again in ${seconds} s.` : "Trying …";
  const old = live.status ? " What you see is from before." : "";
  setText($("lost-text"), `${problem.message} ${next}${old}`);
}

// Shortcuts.

const KEYS = [
  ...PAGES.map((page, index) => [String(index + 1), page.title, () => (location.hash = page.id)]),
  ["/", "Search on this page", () => current.search?.focus()],
  ["r", "Ask the router now", () => refresh()],
  ["?", "This list", () => $("help").showModal()],
];

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || !$("keys-on").checked) return;
  if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) return;
  const shortcut = KEYS.find(([key]) => key === event.key);
  if (!shortcut) return;
  event.preventDefault();
  shortcut[2]();
}

function begin() {
  token.take();
  $("main").append(...PAGES.map((page) => h("article", { id: `page-${page.id}`, hidden: true }, page.make())));
  $("keys").append(...KEYS.flatMap(([key, title]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, title)]),
    h("dt", {}, h("kbd", {}, "Ctrl"), "+", h("kbd", {}, "Enter")), h("dd", {}, "In the editor: validate"));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  $("lost-retry").addEventListener("click", refresh);
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set($("token-field").value.trim());
    $("token-field").value = "";
    $("token").close();
    refresh();
  });
  document.addEventListener("keydown", pressed);
  window.addEventListener("hashchange", () => {
    token.take();
    show();
  });
  live.addEventListener("link", showLink);
  live.addEventListener("sample", () => {
    setText($("hostname"), live.status.hostname);
    setText($("platform"), `Weir ${live.status.version} on ${live.status.platform}`);
    name();
    current.update();
  });
  live.addEventListener("event", ({ detail }) => {
    if (live.isNew(detail)) {
      say(`${detail.subject}: ${detail.text}`);
      refresh();
    } else {
      current.update();
    }
  });
  live.addEventListener("restarted", () => say("The router was restarted"));
  setInterval(showWait, 1000);
  watchTrial();
  show();
  start();
}

begin();
