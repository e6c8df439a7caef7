// The router's HTTP API. Every answer is JSON of docs/model.md, except the configuration, which is TOML.

const KEY = "weir-token";

/// An answer that is none: `status` is the HTTP status, 0 if the router could not be reached.
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    Object.assign(this, { status: 0, title: "", detail: "", cure: "", column: null, errors: [] }, problem);
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
  /// Takes a token out of the address (`#token=...`), which shows it no longer then.
  take() {
    const match = /^#token=([^&]+)/.exec(location.hash);
    if (!match) return;
    token.set(decodeURIComponent(match[1]));
    history.replaceState(null, "", location.pathname);
  },
};

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Not this router's answer, or cut short: its status says what there is to say.
  }
  return new Refused({ title: answer.statusText || `HTTP status ${answer.status}`, ...problem, status: answer.status });
}

async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const all = { ...headers };
  if (token.get()) all.Authorization = `Bearer ${token.get()}`;
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers: all, body, cache: "no-store", signal });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name === "AbortError") throw error;
    throw new Refused({ title: "The router does not answer", detail: "The router does not answer." });
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

const PATIENCE_MS = 10_000;
const brief = (options) => ({ signal: AbortSignal.timeout(PATIENCE_MS), ...options });

/// A value of the model.
export async function get(path) {
  return (await send(path, brief())).json();
}

/// Has the router do something; the value it answers with, if any.
export async function post(path, headers) {
  const text = await (await send(path, brief({ method: "POST", headers }))).text();
  return text ? JSON.parse(text) : null;
}

/// A text with its fingerprint.
export async function getText(path) {
  const answer = await send(path, brief());
  return { text: await answer.text(), etag: answer.headers.get("ETag") };
}

/// Hands in a candidate configuration in the place of the text with `etag`; what it would change.
export async function putConfig(text, etag) {
  const headers = { "Content-Type": "application/toml", "If-Match": etag };
  return (await send("/config", brief({ method: "PUT", headers, body: text }))).json();
}

/// Calls `take(bytes)` with each piece of an answer as it comes, until the answer ends or `signal` says so.
export async function pieces(path, take, signal, headers) {
  const reader = (await send(path, { signal, headers })).body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    take(value);
  }
}

/// Calls `take(event)` for everything that happened at the router from event `from` on, and that happens, until the connection ends or `signal` says so.
/// EventSource cannot carry a token, so the stream is read by hand (HTML standard, 9.2.6: lines, "data:" fields).
export async function events(from, take, signal) {
  const decoder = new TextDecoder();
  let pending = "";
  let data = [];
  await pieces(`/events?from=${from}`, (piece) => {
    const lines = (pending + decoder.decode(piece, { stream: true })).split(/\r?\n/);
    pending = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      if (line !== "" || !data.length) continue;
      take(JSON.parse(data.join("\n")));
      data = [];
    }
  }, signal, { Accept: "text/event-stream" });
}
