// Numbers as people read them. Rates and frame bytes are decimal, memory is binary.

const PREFIXES = ["", "k", "M", "G", "T", "P"];

function digits(value) {
  if (value === 0) return "0";
  if (value < 0.995) return value.toFixed(2);
  if (value < 9.95) return value.toFixed(1);
  return String(Math.round(value));
}

function scaled(value, step) {
  let power = 0;
  while (value >= step * 0.9995 && power < PREFIXES.length - 1) {
    value /= step;
    power += 1;
  }
  return [value, power];
}

/// 1234567, "bit/s" -> "1.2 Mbit/s".
export function si(value, unit) {
  if (value == null) return "–";
  const [part, power] = scaled(value, 1000);
  return `${digits(part)} ${PREFIXES[power]}${unit}`;
}

/// Bytes of memory: "37.5 MiB".
export function binary(bytes) {
  const [part, power] = scaled(bytes, 1024);
  const number = power === 0 ? part : part.toFixed(part < 99.95 ? 1 : 0);
  return `${number} ${power ? PREFIXES[power].toUpperCase() + "iB" : "B"}`;
}

const grouping = new Intl.NumberFormat("en", { useGrouping: true });

/// 1234567 -> "1 234 567", with narrow spaces.
export const count = (value) => grouping.format(value).replaceAll(",", "\u202f");

/// 1, "route" -> "1 route"; 2 -> "2 routes".
export const many = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

/// Milliseconds as "4 d 3 h", "12 min 5 s".
export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return `${Math.max(0, Math.round(ms))} ms`;
  const [size, unit] = parts[first];
  const rest = parts[first + 1];
  const tail = rest ? ` ${Math.floor((seconds % size) / rest[0])} ${rest[1]}` : "";
  return `${Math.floor(seconds / size)} ${unit}${tail}`;
}

/// Milliseconds as "1:05": what is left of a countdown.
export function clock(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/// Microseconds since the router was entered, as its log counts them: "12.345678".
export const stamp = (us) => (us / 1e6).toFixed(6);

/// A capture's microseconds: "12.345678 s after boot", or the time of day, as which the router counts them once it knows it.
/// No router has been up for 31 years.
export function moment(us) {
  if (us < 1e15) return `${stamp(us)} s after boot`;
  const date = new Date(us / 1000).toISOString();
  const part = String(Math.floor(us) % 1e6).padStart(6, "0");
  return `${date.slice(0, 10)} ${date.slice(11, 19)}.${part} UTC`;
}

/// Parts of a whole, 0 to 1, as "12.5 %".
export const percent = (part) => `${(part * 100).toFixed(part < 0.0995 ? 1 : 0)} %`;
