// Promise 6, time is data: through the real ingress, outbox, clock watch and correction, under a clock that tests move.

import { decode } from 'cborg';
import { afterEach, describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { StoredMessage } from '../../../../src/core/message.ts';
import type { Outbox } from '../../../../src/core/outbox.ts';
import { GOOD } from '../../../../src/core/reading.ts';
import type { MessageShape } from '../../../../src/core/shape.ts';
import { watchClock } from '../../../../src/gateway/clock-watch.ts';
import { Ingress } from '../../../../src/pipeline/ingress.ts';
import { createRouter } from '../../../../src/pipeline/route.ts';
import { createTransform } from '../../../../src/pipeline/transform.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { restamp } from '../../../../src/pipeline/restamp.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';

const YEAR_MS = 365 * 24 * 3600 * 1000;
const deviceId = parseDeviceId('meter-1');
const telemetry = { emit: () => {} };

describe('a clock that is set late', () => {
  let outbox: Outbox | undefined;
  afterEach(() => outbox?.close());

  function setup(messages: MessageShape, maxAgeSecs = 3600) {
    const clock = new ManualClock();
    clock.step(0, 'restored');
    const router = createRouter({ endpoints: [{ name: '$upstream', order: 'strict' }], routes: [] });
    const stored = createMemoryOutbox({
      gatewayId: parseDeviceId('gateway'),
      clock,
      random: systemRandom,
      settings: {
        maxBytes: 1e8,
        maxAgeSecs,
        minFreeBytes: 0,
        whenFull: 'drop_oldest',
        commitIntervalMs: 0,
        pollCommitIntervalMs: 0,
      },
      queues: router.queues,
    });
    outbox = stored;
    const ingress = new Ingress({ outbox: stored, router, transform: createTransform(), messages, clock, telemetry });
    const watch = watchClock({ clock, outbox: stored, telemetry });
    const poll = (value: number): void =>
      ingress.readings({ deviceId, time: clock.now(), readings: [{ point: 'v', value, quality: GOOD }] });
    return {
      clock,
      poll,
      sent: async (): Promise<readonly StoredMessage[]> => {
        await ingress.stop(new AbortController().signal);
        watch.stop();
        const taken = await stored.queue('$upstream').take('live', { maxMessages: 1000, maxBytes: 1e8 });
        return taken.map((message) => restamp(message, (bootId) => stored.clockOffset(bootId)));
      },
      stored,
    };
  }

  /** Every poll of a message with the time that a consumer reads from it. */
  function read({ message: { body, systemProperties } }: StoredMessage): [number, number][] {
    if (systemProperties.contentType === 'application/senml+json') {
      const records = JSON.parse(Buffer.from(body).toString()) as { n: string; v: number; t?: number; bt?: number }[];
      const base = records[0]?.bt ?? Number.NaN;
      return records.flatMap(({ n, v, t = 0 }) => (n === 'v' ? [[v, Math.round((base + t) * 1000)]] : []));
    }
    const isCbor = systemProperties.contentType === 'application/cbor';
    const parsed = (isCbor ? decode(body) : JSON.parse(Buffer.from(body).toString())) as {
      time: string;
      epoch: string;
      seq: number;
      values?: { v: number };
      samples?: { offset_ms: number; values: { v: number } }[];
    };
    expect(parsed.epoch).toMatch(/^\w+$/);
    expect(parsed.seq).toBeGreaterThan(0);
    const samples = parsed.samples ?? [{ offset_ms: 0, values: parsed.values ?? { v: Number.NaN } }];
    return samples.map(({ offset_ms, values }) => [values.v, Date.parse(parsed.time) + offset_ms]);
  }

  const pack = { maxBytes: 4096, maxMs: 600_000 };
  const shapes: MessageShape[] = (['json', 'senml', 'cbor'] as const).flatMap((format) => [
    { format },
    { format, pack },
  ]);

  it.each(shapes)('corrects what was measured before, each poll to its own time: $format $pack', async (messages) => {
    for (const wrongMs of [-YEAR_MS, YEAR_MS, -56 * YEAR_MS]) {
      const { clock, poll, sent } = setup(messages);
      // The wall clock is wrong from the start; truth is what it will say once it is set.
      const trueMs: number[] = [];
      clock.step(wrongMs);
      for (let value = 0; value < 5; value += 1) {
        clock.advance(1500);
        trueMs.push(clock.wallMs() - wrongMs);
        poll(value);
      }
      clock.step(-wrongMs, 'synced');
      clock.advance(4000);
      trueMs.push(clock.wallMs());
      poll(5);
      const polls = (await sent()).flatMap(read);
      expect(polls).toEqual(trueMs.map((ms, value) => [value, ms]));
      await outbox?.close();
    }
  });

  it.each([YEAR_MS, -YEAR_MS])('expires nothing early and reorders nothing when it steps by %i ms', async (stepMs) => {
    const { clock, poll, sent, stored } = setup({}, 3600);
    clock.step(0, 'synced');
    for (let value = 0; value < 6; value += 1) {
      poll(value);
      await waitFor(() => stored.stats().messages === value + 1);
      if (value % 2 === 0) clock.step(stepMs);
      clock.advance(60_000);
    }
    const messages = await sent();
    expect(messages.flatMap(read).map(([value]) => value)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(messages.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(stored.stats().droppedTotal).toBe(0);
  });

  it('still expires by the time that has really passed', async () => {
    const { clock, poll, stored, sent } = setup({}, 3600);
    poll(0);
    await waitFor(() => stored.stats().messages === 1);
    clock.step(-YEAR_MS);
    clock.advance(3_700_000);
    poll(1);
    // The outbox looks for what is too old now and then, by the same clock.
    await waitFor(() => {
      clock.advance(1000);
      return stored.stats().droppedTotal > 0;
    });
    await sent();
  });
});
