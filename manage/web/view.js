// A packet on the page: its headers' fields and its bytes.

import { h } from "./dom.js";
import { decode, hexdump } from "./packet.js";
import { explain } from "./reasons.js";

/// Fields as a list of terms.
const fields = (list) => h("dl", { class: "details" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/// All that is known of a packet: `about`, `[[field, value]]`, why it was lost if it was, what else there is to do with it, its
/// headers, and on demand its bytes.
export function dissect(bytes, about, reason, link) {
  return h("div", { class: "packet" },
    reason ? h("p", {}, h("b", { class: "bad" }, reason), " ", explain(reason)) : null,
    link,
    fields(about),
    decode(bytes).layers.map(([title, list]) => h("section", {}, h("h3", {}, title), fields(list))),
    h("details", {}, h("summary", {}, bytes.length === 1 ? "1 byte" : `${bytes.length} bytes`),
      h("pre", { class: "mono hex", tabindex: "0" }, hexdump(bytes))));
}
