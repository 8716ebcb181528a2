// Small records: JSON behind a checksum. JSON is additive by itself: readers take the fields that they know.

import { crc32 } from 'node:zlib';

export function seal(value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value), 'utf8');
  const bytes = Buffer.allocUnsafeSlow(4 + text.length);
  bytes.writeUInt32LE(crc32(text), 0);
  bytes.set(text, 4);
  return bytes;
}

/** Undefined when the bytes are damaged. What it holds is what `seal` was given by this release or another. */
export function unseal(bytes: Buffer | undefined): unknown {
  if (bytes === undefined || bytes.length < 4) return undefined;
  const text = bytes.subarray(4);
  if (crc32(text) !== bytes.readUInt32LE(0)) return undefined;
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return undefined;
  }
}
