// Whether the newest log of a LevelDB database was cut off. What a crash leaves of a record that was being written has zeros
// behind it (level-log-ahead.ts), or is larger than what zeros are written for; LevelDB passes over either without a word,
// and over a record that ends with the file because the file was cut. Framing: log_format.h.

import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

/** To be asked before LevelDB opens the database, which deletes the log. False where there is none, or nothing to tell. */
export async function endsWithinRecord(directory: string): Promise<boolean> {
  const logs = (await readdir(directory).catch(() => [])).filter((name) => /^\d+\.log$/.test(name));
  const newest = logs.toSorted((left, right) => Number.parseInt(left, 10) - Number.parseInt(right, 10)).at(-1);
  if (newest === undefined) return false;
  const file = await open(join(directory, newest));
  try {
    const block = Buffer.alloc(BLOCK_BYTES);
    let isWithin = false;
    for (;;) {
      const { bytesRead } = await file.read(block, 0, BLOCK_BYTES);
      const piece = walk(block.subarray(0, bytesRead), isWithin);
      if (piece.isEnd) return piece.isWithin;
      isWithin = piece.isWithin;
    }
  } finally {
    await file.close();
  }
}

/** One block. `isEnd`: nothing comes behind it. */
function walk(block: Buffer, isWithin: boolean): { readonly isEnd: boolean; readonly isWithin: boolean } {
  let within = isWithin;
  let position = 0;
  while (position + HEADER_BYTES <= block.length) {
    const type = block[position + 6] ?? 0;
    // Zeros, or damage that its checksum tells: neither is a cut.
    if (type < FULL || type > LAST) return { isEnd: true, isWithin: false };
    position += HEADER_BYTES + block.readUInt16LE(position + 4);
    if (position > BLOCK_BYTES) return { isEnd: true, isWithin: false };
    if (position > block.length) return { isEnd: true, isWithin: true };
    if (type === FIRST) within = true;
    else if (type !== FIRST + 1) within = false;
  }
  if (block.length === BLOCK_BYTES) return { isEnd: false, isWithin: within };
  return { isEnd: true, isWithin: within || block.subarray(position).some((byte) => byte !== 0) };
}
