// What the bytes of a frame say: who to whom, and the fields of every header. There may be the first bytes only.

const PROTOCOLS = { 1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 89: "OSPF", 112: "VRRP", 132: "SCTP" };
const ICMP = { 0: "Echo reply", 3: "Destination unreachable", 5: "Redirect", 8: "Echo request", 11: "Time exceeded", 12: "Parameter problem" };
const ICMP6 = { 1: "Destination unreachable", 2: "Packet too big", 3: "Time exceeded", 4: "Parameter problem", 128: "Echo request", 129: "Echo reply",
  130: "Listener query", 131: "Listener report", 132: "Listener done", 133: "Router solicitation", 134: "Router advertisement",
  135: "Neighbour solicitation", 136: "Neighbour advertisement", 137: "Redirect", 143: "Listener report" };
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

const protocol = (number) => PROTOCOLS[number] ?? `protocol ${number}`;
const code = (value, digits) => `0x${value.toString(16).padStart(digits, "0")}`;

/// An IPv6 address of eight words (RFC 5952: the longest run of zeros is left out, the first of several).
export function v6(words) {
  const text = words.map((word) => word.toString(16)).join(":");
  const runs = text.match(/\b0(?::0)+\b/g) ?? [];
  const longest = runs.reduce((most, run) => (run.length > most.length ? run : most), "");
  return longest ? text.replace(new RegExp(`:?\\b${longest}\\b:?`), "::") : text;
}

/// A frame being read. Reading behind its end throws a RangeError.
class Reading {
  from = "";
  to = "";
  protocol = "Ethernet";
  info = "";
  layers = [];
  within = false;
  /// The station that it is for; its outermost tag's VLAN; `{ protocol, length, ttl }` of its IP header; its ports. None where it has none.
  station = null;
  tag = null;
  ip = null;
  ports = null;

  constructor(bytes) {
    this.data = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u8 = (at) => this.data.getUint8(at);
  u16 = (at) => this.data.getUint16(at);
  u32 = (at) => this.data.getUint32(at);
  mac = (at) => hex(Array.from({ length: 6 }, (_, byte) => this.u8(at + byte)), ":");
  v4 = (at) => [0, 1, 2, 3].map((byte) => this.u8(at + byte)).join(".");
  v6 = (at) => v6(Array.from({ length: 8 }, (_, word) => this.u16(at + 2 * word)));

  /// Adds a header's fields, `{ name: value }`; those read before the bytes ended stay.
  layer(title, fields) {
    this.layers.push([title, Object.entries(fields).filter(([, value]) => value != null)]);
  }

  ethernet() {
    [this.to, this.from] = [this.mac(0), this.mac(6)];
    this.station = this.to;
    this.layer("Ethernet", { Source: this.from, Destination: this.to });
    let at = 12;
    let type = this.u16(at);
    for (; type === 0x8100 || type === 0x88a8; type = this.u16(at)) {
      const tag = this.u16(at + 2);
      this.tag ??= tag & 0xfff;
      this.layer("VLAN tag", { VLAN: tag & 0xfff, Priority: tag >> 13 });
      at += 4;
    }
    at += 2;
    if (type === 0x0806) this.arp(at);
    else if (type === 0x0800) this.ipv4(at);
    else if (type === 0x86dd) this.ipv6(at);
    else this.info = type < 0x600 ? `802.3, ${type} bytes` : `Type ${code(type, 4)}`;
  }

  arp(at) {
    this.protocol = "ARP";
    const operation = this.u16(at + 6);
    const [sender, target] = [this.v4(at + 14), this.v4(at + 24)];
    this.info = operation === 1 ? `Who has ${target}? Tell ${sender}` : operation === 2 ? `${sender} is at ${this.mac(at + 8)}` : `Operation ${operation}`;
    this.layer("ARP", { Operation: operation, Sender: `${sender}, ${this.mac(at + 8)}`, Target: `${target}, ${this.mac(at + 18)}` });
  }

  ipv4(at) {
    this.protocol = "IPv4";
    [this.from, this.to] = [this.v4(at + 12), this.v4(at + 16)];
    const [length, fragment, next] = [this.u16(at + 2), this.u16(at + 6), this.u8(at + 9)];
    const offset = (fragment & 0x1fff) * 8;
    this.ip ??= { protocol: next, length, ttl: this.u8(at + 8) };
    this.layer("IPv4", {
      Source: this.from, Destination: this.to, Length: `${length} bytes, header ${(this.u8(at) & 15) * 4}`, "Time to live": this.u8(at + 8),
      Protocol: protocol(next), "DSCP, ECN": `${this.u8(at + 1) >> 2}, ${this.u8(at + 1) & 3}`, Identification: code(this.u16(at + 4), 4),
      Fragment: fragment & 0x3fff ? `offset ${offset}${fragment & 0x2000 ? ", more follow" : ", the last"}` : fragment & 0x4000 ? "not to be cut" : null,
      "Header checksum": code(this.u16(at + 10), 4),
    });
    this.upper(next, at + (this.u8(at) & 15) * 4, at + length, offset);
  }

  ipv6(at) {
    this.protocol = "IPv6";
    [this.from, this.to] = [this.v6(at + 8), this.v6(at + 24)];
    let next = this.u8(at + 6);
    const [first, length, ttl] = [this.u32(at), 40 + this.u16(at + 4), this.u8(at + 7)];
    const end = at + length;
    this.layer("IPv6", {
      Source: this.from, Destination: this.to, Length: `${length} bytes`, "Hop limit": ttl, "Next header": protocol(next),
      "DSCP, ECN": `${(first >> 22) & 63}, ${(first >> 20) & 3}`, "Flow label": code(first & 0xfffff, 5),
    });
    at += 40;
    let offset = 0;
    // Hop-by-hop and destination options, routing and fragment headers (RFC 8200 §4).
    while (!offset && [0, 43, 44, 60].includes(next)) {
      const cut = next === 44;
      const field = this.u16(at + 2);
      if (cut) offset = field & 0xfff8;
      this.layer(cut ? "Fragment header" : "Extension header", {
        Header: next, Offset: cut ? `${offset}${field & 1 ? ", more follow" : ", the last"}` : null,
        Identification: cut ? code(this.u32(at + 4), 8) : null, "Next header": protocol(this.u8(at)),
      });
      next = this.u8(at);
      at += cut ? 8 : 8 * (this.u8(at + 1) + 1);
    }
    this.ip ??= { protocol: next, length, ttl };
    this.upper(next, at, end, offset);
  }

  upper(next, at, end, offset) {
    this.info = protocol(next);
    if (offset) this.info = `Fragment of ${protocol(next)}, offset ${offset}`;
    else if (next === 6) this.tcp(at, end);
    else if (next === 17) this.udp(at);
    else if (next === 1) this.icmp("ICMP", ICMP, at, [3, 5, 11, 12]);
    else if (next === 58) this.icmp("ICMPv6", ICMP6, at, [1, 2, 3, 4]);
    else if (PROTOCOLS[next]) this.protocol = PROTOCOLS[next];
  }

  tcp(at, end) {
    this.protocol = "TCP";
    const ports = this.between(at);
    const flags = TCP_FLAGS.filter((_, bit) => this.u8(at + 13) & (1 << bit)).join(", ");
    const length = end - at - (this.u8(at + 12) >> 4) * 4;
    const [seq, ack, window] = [this.u32(at + 4), this.u32(at + 8), this.u16(at + 14)];
    this.info = `${ports} [${flags}] seq ${seq} ack ${ack} win ${window} len ${length}`;
    this.layer("TCP", { "Source port": this.u16(at), "Destination port": this.u16(at + 2), Flags: flags, Sequence: seq, Acknowledges: ack, Window: window,
      Payload: `${length} bytes`, Checksum: code(this.u16(at + 16), 4) });
  }

  between(at) {
    const ports = [this.u16(at), this.u16(at + 2)];
    if (!this.within) this.ports = ports;
    return (this.info = ports.join(" → "));
  }

  udp(at) {
    this.protocol = "UDP";
    this.between(at);
    const length = this.u16(at + 4) - 8;
    this.info += ` len ${length}`;
    this.layer("UDP", { "Source port": this.u16(at), "Destination port": this.u16(at + 2), Payload: `${length} bytes`, Checksum: code(this.u16(at + 6), 4) });
  }

  icmp(name, types, at, errors) {
    this.protocol = name;
    const [type, reason] = [this.u8(at), this.u8(at + 1)];
    const what = types[type] ?? `Type ${type}`;
    const echo = what.startsWith("Echo");
    this.info = what + (echo ? ` id ${code(this.u16(at + 4), 4)} seq ${this.u16(at + 6)}`
      : what.startsWith("Neighbour") ? ` ${this.v6(at + 8)}` : reason ? ` code ${reason}` : "");
    this.layer(name, { Type: `${type}, ${what}`, Code: reason, Checksum: code(this.u16(at + 2), 4),
      Identifier: echo ? code(this.u16(at + 4), 4) : null, Sequence: echo ? this.u16(at + 6) : null, Target: what.startsWith("Neighbour") ? this.v6(at + 8) : null });
    if (!errors.includes(type) || this.within) return;
    // The packet that the error is about, which has addresses of its own.
    this.within = true;
    const own = [this.from, this.to, this.info];
    const outer = this.layers.length;
    try {
      this[name === "ICMP" ? "ipv4" : "ipv6"](at + 8);
    } finally {
      for (const layer of this.layers.slice(outer)) layer[0] += " within";
      [this.from, this.to, this.info] = own;
      this.protocol = name;
    }
  }
}

/// `{ from, to, protocol, info, layers }` of a frame, from its Ethernet header on, and what a [`Reading`] has besides; a layer is
/// `[title, [[field, value]]]`.
export function decode(bytes) {
  const reading = new Reading(bytes);
  try {
    reading.ethernet();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    reading.info = `${reading.info} (cut short)`.trim();
  }
  return reading;
}

/// The bytes of hexadecimal digits.
export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));

/// Bytes as hexadecimal digits.
export const hex = (bytes, between = "") => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(between);

/// Bytes as rows of sixteen: place, hexadecimal, text.
export function hexdump(bytes) {
  const rows = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const digits = hex(row, " ").padEnd(47);
    rows.push(`${at.toString(16).padStart(4, "0")}  ${digits}  ${row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("")}`);
  }
  return rows.join("\n");
}
