// The configuration: edit, validate, see what would change, put in force on trial, confirm; and what was in force before.

import { Refused, get, getText, post, putConfig } from "./api.js";
import { $, h, keyed, say, setText } from "./dom.js";
import { diffView } from "./diff.js";
import { editor } from "./editor.js";
import { clock, duration, many } from "./format.js";
import { live, refresh } from "./live.js";

const TRIALS = [["30 seconds", 30], ["a minute", 60], ["5 minutes", 300], ["10 minutes", 600]];
/// The text in force as this page loaded it; null until then.
let base = null;
/// What the router said to the text that is in the editor, if it was asked.
let plan = null;
let busy = false;
/// Where to put the cursor: what came behind the page's name in the address.
let aim = null;
/// Whether a commit on trial was not answered: it may have cut this page off.
let unanswered = false;

const validate = h("button", { type: "button", class: "primary", onclick: () => act(check) }, "Validate");
const reload = h("button", { type: "button", onclick: () => act(load) }, "Load from router");
const note = h("span", { class: "note", "aria-live": "polite" });
const result = h("section", { class: "result", "aria-label": "Result" });
const trial = h("select", { id: "trial-for" }, TRIALS.map(([name, seconds]) =>
  h("option", { value: seconds, selected: seconds === 60 }, name)), h("option", { value: "" }, "no trial: it stays at once"));
const versions = h("ol", { class: "versions" });
const text = editor({ label: "Configuration", changed, submit: () => act(check) });

const edited = () => base != null && text.area.value !== base.text;

function changed() {
  plan = null;
  result.replaceChildren();
  showState();
}

function showState() {
  validate.disabled = busy || base == null;
  reload.disabled = busy;
  setText(note, base == null ? "not loaded" : edited() ? "edited, not in force" : "as in force");
  note.classList.toggle("edited", edited());
}

/// Does one thing at a time and shows what came of it.
async function act(work) {
  if (busy) return;
  busy = true;
  showState();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused(error);
  } finally {
    busy = false;
    showState();
  }
}

/// Shows the answer, in view.
function answer(...parts) {
  result.replaceChildren(...parts);
  result.scrollIntoView({ block: "nearest" });
}

async function load() {
  if (edited() && !confirm("What you edited is lost when the router's text is loaded. Load it?")) return;
  base = await getText("/config");
  text.set(base.text);
  plan = null;
  answer();
  goThere();
  await history();
}

/// Whether a line begins as an explanation said, which leaves its remark out and may be cut.
function begins(line, said) {
  const now = line.split(" #")[0].trim();
  return said.endsWith("…") ? now.startsWith(said.slice(0, -1)) : now === said;
}

/// Goes to the line that was asked for, if the text in the editor is the one that has it.
function goThere() {
  if (!aim) return;
  const [line, said] = [Number(aim.get("line")), aim.get("text")];
  const known = aim.has("candidate") ? plan : !edited();
  aim = null;
  const now = text.area.value.split("\n")[line - 1];
  if (known && now != null && (said == null || begins(now, said))) text.go(line, 0);
  else say(`Line ${line} is not shown: the editor has another text by now`);
}

function place(error) {
  const where = error.line ? `line ${error.line}${error.column ? `, column ${error.column}` : ""}` : "";
  return error.line
    ? h("button", { type: "button", class: "place", onclick: () => text.go(error.line, error.column) }, where)
    : null;
}

function refused(problem) {
  if (problem.errors.length) {
    text.mark(problem.errors);
    answer(h("h2", { class: "bad" }, problem.title || "The configuration has errors"),
      h("ul", { class: "errors" }, problem.errors.map((error) => h("li", {}, place(error), " ",
        error.key ? h("code", {}, error.key) : null, error.key ? ": " : "", error.message,
        error.help ? h("span", { class: "cure" }, error.help) : null))),
      h("p", { class: "hint" }, "Nothing was changed."));
    say(`${many(problem.errors.length, "error")}: ${problem.errors[0].message}`, "quiet");
    return;
  }
  const parts = [h("h2", { class: "bad" }, problem.title), h("p", {}, problem.detail)];
  if (problem.cure) parts.push(h("p", { class: "cure" }, problem.cure));
  if (problem.status === 412) {
    parts.push(h("p", {}, "Somebody else changed the configuration after this page loaded it."),
      h("p", { class: "buttons" },
        h("button", { type: "button", onclick: () => act(load) }, "Load the router's text"),
        h("button", { type: "button", onclick: () => act(async () => {
          base = await getText("/config");
          await check();
        }) }, "Compare mine with it")));
  }
  answer(...parts);
}

async function check() {
  text.mark([]);
  plan = await putConfig(text.area.value, base.etag);
  showPlan();
}

const VERBS = { attach: "comes", detach: "goes", modify: "changes" };

function changes(of) {
  const list = of.interfaces.map((one) => h("li", {}, h("b", {}, one.interface), ` ${VERBS[one.change] ?? one.change}`));
  if (of.routes_added) list.push(h("li", {}, h("b", {}, many(of.routes_added, "route")), of.routes_added === 1 ? " comes" : " come"));
  if (of.routes_removed) list.push(h("li", {}, h("b", {}, many(of.routes_removed, "route")), of.routes_removed === 1 ? " goes" : " go"));
  return list.length ? h("ul", { class: "changes" }, list) : h("p", {}, "No interface and no route changes.");
}

function showPlan() {
  const good = h("h2", { class: "good" }, "Valid");
  if (plan.etag === plan.replaces) {
    answer(good, h("p", {}, "It is what is in force already."));
    return;
  }
  say("Valid. What would change is shown below the editor.", "quiet");
  answer(good, h("h3", {}, "What would change"), changes(plan), diffView(plan.diff),
    h("div", { class: "bar-of-tools commit" },
      h("label", { for: "trial-for" }, "Taken back unless confirmed within"), trial,
      h("button", { type: "button", class: "primary", onclick: () => act(commit) }, "Commit")),
    h("p", {}, h("a", { class: "ask", href: "#explain?candidate=true" }, "What would become of a packet then")));
}

async function commit() {
  const seconds = trial.value;
  let done;
  try {
    done = await post(`/config/commit${seconds ? `?confirm=${seconds}` : ""}`, { "If-Match": `"${plan.etag}"` });
  } catch (error) {
    if (error.status !== 0 || !seconds) throw error;
    unanswered = true;
    answer(h("h2", { class: "bad" }, "No answer since the commit"),
      h("p", {}, `If it has cut this page off, the router takes it back by itself, ${seconds} seconds after the commit.`));
    return;
  }
  base = await getText("/config");
  text.set(base.text);
  plan = null;
  answer(h("h2", { class: "good" }, `Version ${done.version} is in force`), changes(done.plan),
    done.confirm_within_ms ? h("p", {}, "Try it, then confirm above. If the router cannot be reached any more, it takes it back by itself.") : null);
  await history();
  refresh();
}

const STATES = { running: "in force", unconfirmed: "on trial", replaced: "replaced", reverted: "taken back" };

async function history() {
  const list = await get("/config/history");
  showTrial(list);
  keyed(versions, list, (one) => one.version, (one) => {
    const state = h("span", { class: "state" });
    const diff = h("details", {}, h("summary", {}, "What it changed"));
    diff.addEventListener("toggle", () => diff.open && diff.children.length === 1 && diff.append(diffView(one.diff)));
    const take = h("button", { type: "button", onclick: () => act(async () => {
      // The router makes it the candidate, checked like any other text.
      const planned = await post(`/config/rollback?version=${one.version}`);
      text.set((await getText("/config/candidate")).text);
      base = await getText("/config");
      plan = planned;
      showPlan();
    }) }, "Put into the editor");
    const item = h("li", {}, h("div", { class: "version" }, h("b", {}, `Version ${one.version}`), state,
      h("span", { class: "note" }, `by ${one.by}, ${duration(one.at_ms)} after boot`), take), one.diff ? diff : null);
    item.update = (now) => {
      state.dataset.state = now.state;
      setText(state, STATES[now.state] ?? now.state);
      take.hidden = !now.kept;
    };
    return item;
  });
  return list;
}

// The countdown, on every page.

/// The version on trial: when it began and ends, in the router's time; null if none is.
let onTrial = null;
let ticking = 0;

function showTrial(list) {
  const version = list.find((one) => one.reverts_at_ms != null);
  onTrial = version ? { from: version.at_ms, to: version.reverts_at_ms } : null;
  clearInterval(ticking);
  ticking = onTrial ? setInterval(tick, 250) : 0;
  tick();
}

function tick() {
  $("trial").hidden = !onTrial;
  if (!onTrial) return;
  const left = onTrial.to - live.now();
  const shown = clock(left);
  if ($("trial-left").textContent !== shown && ["0:30", "0:10"].includes(shown)) say(`${shown.slice(2)} seconds left to confirm`);
  setText($("trial-left"), shown);
  $("trial-bar").value = Math.max(0, left / (onTrial.to - onTrial.from));
  if (left < -500) {
    // The router took it back, and tells so. If it cannot be asked, the next answer tells.
    onTrial = null;
    look();
  }
}

async function decide(what, said) {
  try {
    await post(`/config/${what}`);
    say(said);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message);
  }
  await look();
  refresh();
}

/// Looks at what is in force, and what on trial: after it changed, whoever did that.
async function look() {
  try {
    const [latest, tried] = await history();
    if (unanswered) {
      unanswered = false;
      const became = latest.reverts_at_ms != null ? "It is on trial"
        : tried?.state === "reverted" ? "The router took it back" : "The router did not take it";
      answer(h("h2", {}, became), h("p", {}, "Your text stays in the editor."));
    }
    if (base == null) return;
    const now = await getText("/config");
    if (now.etag === base.etag) return goThere();
    if (edited()) {
      base = now;
      answer(h("h2", {}, "The configuration in force is another one now"),
        h("p", {}, "Your text stays in the editor. Validating compares it with the new one."));
    } else {
      base = now;
      text.set(now.text);
      changed();
    }
    showState();
    goThere();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    aim = null;
  }
}

/// Watches for a configuration on trial, whoever put it in force, and has the banner's buttons work.
export function watchTrial() {
  $("trial-confirm").addEventListener("click", () => decide("confirm", "Confirmed: the configuration stays"));
  $("trial-revert").addEventListener("click", () => decide("revert", "Taken back: the configuration before is in force"));
  live.addEventListener("link", () => live.link.changed && live.link.state === "up" && look());
  live.addEventListener("event", ({ detail }) => detail.kind === "configuration" && live.isNew(detail) && look());
  window.addEventListener("beforeunload", (event) => edited() && event.preventDefault());
}

export default {
  id: "configuration",
  title: "Configuration",
  enter() {
    if (base == null) act(load);
    else look();
  },
  open(query) {
    aim = query;
    // Not before the router was asked: the text here may be an older one.
    if (base != null) look();
  },
  make() {
    return [h("h1", {}, "Configuration"),
      h("div", { class: "bar-of-tools" }, validate, reload, note),
      text,
      h("p", { class: "hint", id: "editor-hint" }, "Tab indents; Escape, then Tab, leaves the editor. Ctrl+Enter validates. Nothing is in force before Commit."),
      result, h("h2", {}, "History"), h("div", { class: "card" }, versions)];
  },
  update() {
    showState();
  },
};
