// Looks at the sizes of AMQP frames before they are gathered: a library that trusts them would hold gigabytes for a peer that
// only claims to send them (AMQP 1.0, 2.3.1).

/** `AMQP`, the begin of a protocol header, which stands where the size of a frame does (2.2). */
const PROTOCOL_HEADER = 0x41_4d_51_50;
const HEADER_BYTES = 8;

/** Returns a function that takes the bytes of a connection in order, and says whether every frame in them is within bounds. */
export function frameSizeCheck(maxFrameBytes: number): (chunk: Uint8Array) => boolean {
  /** Bytes of the frame or header under way that are still to come. */
  let left = 0;
  let size = 0;
  let sizeBytes = 0;
  return (chunk) => {
    for (let position = 0; position < chunk.byteLength;) {
      if (left > 0) {
        const skipped = Math.min(left, chunk.byteLength - position);
        left -= skipped;
        position += skipped;
        continue;
      }
      size = ((size << 8) | (chunk[position] ?? 0)) >>> 0;
      position += 1;
      sizeBytes += 1;
      if (sizeBytes < 4) continue;
      const isHeader = size === PROTOCOL_HEADER;
      if (!isHeader && (size < HEADER_BYTES || size > maxFrameBytes)) return false;
      left = (isHeader ? HEADER_BYTES : size) - 4;
      size = 0;
      sizeBytes = 0;
    }
    return true;
  };
}
