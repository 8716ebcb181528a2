// What leaves the quarantine keeps its number: over a salvage, and when a limit takes it.

import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DeviceId } from '../../../../src/core/device.ts';
import { DropLedger } from '../../../../src/store/drop-ledger.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { entry, openTestOutbox } from './harness.ts';

describe('a message that leaves the quarantine', () => {
  it('keeps epoch, seq and id when the epoch of the store is a new one', async () => {
    using directory = createTempDir('requeue');
    const path = directory.file('log');
    const { outbox: before } = await openTestOutbox(path);
    await before.append([entry('1'), entry('2'), entry('3')]);
    const queue = before.queue('$upstream');
    const taken = await queue.take('live', { maxMessages: 10, maxBytes: 1000 });
    await queue.settle(
      taken.map(({ offset, seq }) =>
        seq === 2 ? { offset, outcome: 'rejected', reason: 'refused' } : { offset, outcome: 'accepted' },
      ),
    );
    await before.close();
    const manifest = readdirSync(path).find((name) => name.startsWith('MANIFEST')) ?? '';
    writeFileSync(join(path, manifest), 'noise');

    const { outbox: salvaged, events } = await openTestOutbox(path);
    expect(events.map(({ kind }) => kind)).toContain('salvaged');
    expect(salvaged.epoch).not.toBe(before.epoch);
    const [quarantined] = await salvaged.quarantined({ limit: 10 });
    expect(await salvaged.requeue([quarantined?.id ?? ''])).toBe(1);
    const again = { epoch: before.epoch, seq: 2, messageId: `${before.epoch}.meter-1.2` };
    const [next] = await salvaged.append([entry('4')]);
    expect(next?.seq).toBe(4);
    await salvaged.close();

    // Nothing of it counts for the numbers of the new epoch, nor gets lost when the log is read.
    const { outbox } = await openTestOutbox(path);
    const found = await outbox.browse({ queue: '$upstream', limit: 10 });
    expect(found.find(({ message }) => Buffer.from(message.body).toString() === '2')).toMatchObject(again);
    expect(await outbox.append([entry('5')])).toMatchObject([{ seq: 5 }]);
    await outbox.close();
  });

  it('is told apart when a limit takes it: the others of a routed range were not lost with it', () => {
    const ledger = new DropLedger();
    const lost = { deviceId: 'a' as DeviceId, epoch: 'e', reason: 'max_bytes', queue: 'routed', routed: true } as const;
    for (const seq of [100, 103]) ledger.add({ ...lost, seq });
    for (const seq of [5, 9, 10]) ledger.add({ ...lost, seq, again: true });
    ledger.add({ ...lost, seq: 104 });
    expect(ledger.events(['routed', 'other']).map((event) => [event.from, event.to, event.count])).toEqual([
      [100, 104, 3],
      [5, 5, 1],
      [9, 10, 2],
    ]);
  });
});
