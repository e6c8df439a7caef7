// Reads the router's captures: pcapng (draft-ietf-opsawg-pcapng), little-endian, as it comes.

const SECTION = 0x0a0d0d0a;
const [INTERFACE, STATISTICS, PACKET] = [1, 5, 6];
const [COMMENT, IF_NAME, EPB_FLAGS, EPB_QUEUE, ISB_DROPPED] = [1, 2, 2, 6, 7];
/// Bytes of a block at most: the longest packet fits.
const LONGEST = 1 << 20;
const WAYS = ["", "in", "out"];

/// A function that takes the next bytes, and gives `{ blocks, packets, lost }`: the bytes of all blocks that are whole by
/// now, what they have of packets, and how many found no room so far.
export function reader() {
  const names = [];
  const losses = new Map();
  let rest = new Uint8Array(0);

  return (piece) => {
    const bytes = new Uint8Array(rest.length + piece.length);
    bytes.set(rest);
    bytes.set(piece, rest.length);
    const view = new DataView(bytes.buffer);
    const u32 = (at) => view.getUint32(at, true);
    const packets = [];
    let at = 0;

    /// Options from `place` to the block's end, by code: where their value is.
    const options = (place, end) => {
      const found = new Map();
      while (place + 4 <= end && view.getUint16(place, true)) {
        const length = view.getUint16(place + 2, true);
        found.set(view.getUint16(place, true), [place + 4, length]);
        place += 4 + Math.ceil(length / 4) * 4;
      }
      return found;
    };
    const text = ([place, length]) => new TextDecoder().decode(bytes.subarray(place, place + length));

    while (bytes.length - at >= 12) {
      const [kind, length] = [u32(at), u32(at + 4)];
      if (length < 12 || length % 4 || length > LONGEST) throw new Error(`This is no capture: a block of ${length} bytes.`);
      if (bytes.length - at < length) break;
      const [body, end] = [at + 8, at + length - 4];
      if (kind === SECTION) {
        if (u32(body) !== 0x1a2b3c4d) throw new Error("This is no capture of a router.");
      } else if (kind === INTERFACE) {
        names.push(text(options(body + 8, end).get(IF_NAME) ?? [0, 0]));
      } else if (kind === PACKET) {
        const kept = u32(body + 12);
        const more = options(body + 20 + Math.ceil(kept / 4) * 4, end);
        const [flags] = more.get(EPB_FLAGS) ?? [];
        const [queue] = more.get(EPB_QUEUE) ?? [];
        packets.push({
          interface: names[u32(body)] ?? "",
          us: (u32(body + 4) * 2 ** 32 + u32(body + 8)) / 1000,
          length: u32(body + 16),
          bytes: bytes.subarray(body + 20, body + 20 + kept),
          way: flags ? WAYS[u32(flags) & 3] : "",
          cpu: queue ? u32(queue) : null,
          reason: more.has(COMMENT) ? (text(more.get(COMMENT)).match(/^dropped: ([^,]*)/)?.[1] ?? null) : null,
        });
      } else if (kind === STATISTICS) {
        const dropped = options(body + 12, end).get(ISB_DROPPED);
        if (dropped) losses.set(u32(body), u32(dropped[0]) + u32(dropped[0] + 4) * 2 ** 32);
      }
      at += length;
    }
    rest = bytes.slice(at);
    return { blocks: bytes.subarray(0, at), packets, lost: [...losses.values()].reduce((sum, one) => sum + one, 0) };
  };
}
