// Reads the same range again and again: `node level-entries-child.ts DIRECTORY TIMES`. Reports by how much the process grew.

import { openLevel } from '../../../../src/platform/level.ts';
import { report } from '../../../support/child.ts';

const [directory = '', times = '0'] = process.argv.slice(2);
const level = await openLevel(directory, { writeBufferBytes: 1 << 20, cacheBytes: 1 << 19, tableBytes: 1 << 20 });
const key = (n: number): Buffer => Buffer.from(`k${String(n).padStart(4, '0')}`);
const writes = Array.from({ length: 400 }, (_, n) => ({ key: key(n), value: Buffer.alloc(400, n) }));
await level.write(writes, { sync: false });

async function read(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    // Whole, up to a limit, and left early.
    for await (const _ of level.entries({ gte: key(0), lt: key(150) }));
    for await (const _ of level.entries({ gte: key(0), limit: 150 }));
    for await (const entry of level.entries({ gte: key(0) })) if (entry.key.equals(key(149))) break;
  }
}

await read(50);
const before = process.memoryUsage.rss();
await read(Number(times));
report({ grownBytes: process.memoryUsage.rss() - before });
await level.close();
