// Fills an outbox whose endpoint never comes: `node backlog-child.ts DIRECTORY MESSAGES`. Reports its own memory before and
// after, then closes it in an orderly way.

import { report } from '../support/child.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';
import { idleRssMb } from './process-meter.ts';

const BATCH = 500;
const BODY_BYTES = 256;
const WARM_UP_MESSAGES = 20_000;
const SETTLE_MS = 3000;

const [directory = '', countText = '1000000'] = process.argv.slice(2);
const count = Number(countText);
const bodies = payloads(4096, BODY_BYTES);

async function fill(outbox: Awaited<ReturnType<typeof openBenchOutbox>>, from: number, to: number): Promise<void> {
  for (let next = from; next < to; next += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, to - next) }, (_, index) =>
      polledEntry(`meter-${(next + index) % 500}`, bodies[(next + index) % bodies.length] ?? Buffer.alloc(0)),
    );
    await outbox.append(batch);
  }
}

/** As the daemon does once, some seconds after its start. */
function collect(): void {
  globalThis.gc?.();
}

const outbox = await openBenchOutbox(directory, { queues: ['$upstream'] });
// Code compiled, buffers of the store at their size, then the log empty again: what is measured is the backlog.
await fill(outbox, 0, WARM_UP_MESSAGES);
await outbox.purge('$upstream');
collect();
const beforeMb = await idleRssMb(process.pid, SETTLE_MS);
await fill(outbox, 0, count);
const afterMb = await idleRssMb(process.pid, SETTLE_MS);
const { messages, bytes } = outbox.stats();
report({ beforeMb, afterMb, messages, bytes });
await outbox.close();
