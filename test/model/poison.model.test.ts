// The search for poison: what kills its connection is found and nothing else is, however the link behaves.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ScriptedEndpoint } from '../support/scripted-endpoint.ts';
import { hastyClock, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

describe('poison', () => {
  it('is quarantined, and only that; everything else arrives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.integer({ min: 0, max: 39 }), { maxLength: 3 }),
        fc.constantFrom('live_first' as const, 'strict' as const),
        fc.integer({ min: 1, max: 12 }),
        async (poisonous, order, window) => {
          const endpoint = new ScriptedEndpoint();
          endpoint.capabilities = { negativeAcknowledgement: false, window, batchMessages: 4 };
          const bad = new Set(poisonous.map((index) => `m${index}`));
          endpoint.react = (_stored, text) => (bad.has(text) ? 'drop' : { status: 'accepted' });
          await using rig = startRig(endpoint, order, hastyClock);
          const texts = await rig.append(40);
          // Neighbours: without any, nothing could be proven.
          const feeding = setInterval(() => void rig.append(1, 'n').catch(() => {}), 20);
          await waitFor(async () => (await rig.outbox.quarantined({ limit: 100 })).length >= bad.size, {
            timeoutMs: 20_000,
          });
          await waitFor(() => texts.every((text) => bad.has(text) || endpoint.accepted.includes(text)));
          clearInterval(feeding);
          const found = await rig.outbox.quarantined({ limit: 100 });
          expect(found.map(({ stored }) => Buffer.from(stored.message.body).toString()).sort()).toEqual(
            [...bad].sort(),
          );
          for (const { reason } of found) expect(reason).toBe('suspected_poison');
        },
      ),
      { numRuns: 12 },
    );
  });

  it('is never seen in a link that merely flaps', async () => {
    await fc.assert(
      fc.asyncProperty(
        // Messages between two drops, whatever they are.
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 5, maxLength: 40 }),
        fc.constantFrom('live_first' as const, 'strict' as const),
        async (gaps, order) => {
          const endpoint = new ScriptedEndpoint();
          const left = [...gaps];
          let budget = left.shift() ?? 0;
          endpoint.react = () => {
            if (left.length === 0) return { status: 'accepted' };
            budget -= 1;
            if (budget > 0) return { status: 'accepted' };
            budget = left.shift() ?? 0;
            return 'drop';
          };
          await using rig = startRig(endpoint, order, hastyClock);
          const texts = await rig.append(200);
          await rig.drained();
          expect([...new Set(endpoint.accepted)].sort()).toEqual([...texts].sort());
          expect(await rig.outbox.quarantined({ limit: 1 })).toEqual([]);
        },
      ),
      { numRuns: 25 },
    );
  });

  it('blocks nobody while it is alone, and keeps the message', async () => {
    const endpoint = new ScriptedEndpoint();
    endpoint.react = () => 'drop';
    await using rig = startRig(endpoint, 'live_first', hastyClock);
    await rig.append(1);
    await waitFor(() => endpoint.opens > 12);
    expect(await rig.outbox.quarantined({ limit: 1 })).toEqual([]);
    expect(rig.outbox.queue('$upstream').stats().messages).toBe(1);
  });
});
