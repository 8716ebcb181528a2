// Shaping against plain restatements of what it promises: windows lose and invent nothing, deadbands report what they
// must, packing keeps every poll with its own time. Times are random, clocks step.

import fc from 'fast-check';
import { decode } from 'cborg';
import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../src/core/device.ts';
import { LIMITS } from '../../src/core/limits.ts';
import type { Message } from '../../src/core/message.ts';
import { GOOD, qualityText, type Quality, type Reading, type ReadingBatch } from '../../src/core/reading.ts';
import type { BodyFormat, PointShape } from '../../src/core/shape.ts';
import { Packer } from '../../src/pipeline/packer.ts';
import { createTransform } from '../../src/pipeline/transform.ts';
import { timestamp } from '../support/builders.ts';

const deviceId = parseDeviceId('meter-1');
const BAD: Quality = { level: 'bad', reason: 'timeout' };

interface Step {
  readonly afterMs: number;
  readonly value: number | undefined;
  /** The wall clock jumps by so much. */
  readonly stepMs: number;
}

const steps = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 1, max: 3000 }),
    value: fc.option(fc.integer({ min: -20, max: 20 }), { nil: undefined, freq: 6 }),
    stepMs: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.integer({ min: -4e10, max: 4e10 })),
  }),
  { maxLength: 60 },
);

function batchesOf(taken: readonly Step[]): ReadingBatch[] {
  let monotonicMs = 1000;
  let wallMs = Date.UTC(2026, 0, 1);
  return taken.map(({ afterMs, value, stepMs }) => {
    monotonicMs += afterMs;
    wallMs += afterMs + stepMs;
    const reading: Reading = value === undefined ? { point: 'v', quality: BAD } : { point: 'v', value, quality: GOOD };
    return { deviceId, time: timestamp({ monotonicMs, wallMs }), readings: [reading] };
  });
}

function shaped(shape: PointShape) {
  const suppressed = { deadband: 0, rate: 0, window: 0 };
  const transform = createTransform({
    onSuppressed: (counts) => {
      suppressed.deadband += counts.deadband;
      suppressed.rate += counts.rate;
      suppressed.window += counts.window;
    },
  });
  transform.setDevice({ deviceId, points: [{ name: 'v', address: 'x', writable: false, shape }] });
  const out: { atMs: number; reading: Reading }[] = [];
  const keep = ({ time, readings }: ReadingBatch): void => {
    for (const reading of readings) out.push({ atMs: time.monotonicMs, reading });
  };
  return {
    out,
    suppressed,
    run: (batches: readonly ReadingBatch[]): void => {
      for (const batch of batches) {
        for (const { batch: late } of transform.due(batch.time.monotonicMs)) keep(late);
        const now = transform.report(batch);
        if (now !== undefined) keep(now);
      }
      for (const { batch } of transform.due(Number.POSITIVE_INFINITY)) keep(batch);
    },
  };
}

describe('a tumbling window', () => {
  it('counts every good sample once, keeps sums, and spans no more than its length', () => {
    const shape = fc.record({
      durationMs: fc.option(fc.integer({ min: 10, max: 8000 }), { nil: undefined }),
      samples: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(steps, shape, (taken, { durationMs, samples }) => {
        const functions = ['count', 'mean', 'min', 'max', 'last'] as const;
        const batches = batchesOf(taken);
        const { out, suppressed, run } = shaped({ window: { mode: 'tumbling', durationMs, samples, functions } });
        run(batches);
        const good = taken.flatMap(({ value }) => (value === undefined ? [] : [value]));
        const of = (name: string) =>
          out.filter(({ reading }) => reading.point === `v_${name}`).map(({ reading }) => reading);
        const counts = of('count').map(({ value }) => Number(value));
        expect(counts.reduce((sum, count) => sum + count, 0)).toBe(good.length);
        expect(counts.every((count) => count <= samples)).toBe(true);
        expect(suppressed.window).toBe(taken.length);
        // Each window is the next stretch of the good samples: the four other values follow from it alone.
        let at = 0;
        counts.forEach((count, index) => {
          const part = good.slice(at, at + count);
          at += count;
          if (count === 0) {
            expect(of('mean')[index]).toMatchObject({ quality: BAD });
            return;
          }
          expect(of('mean')[index]?.value).toBeCloseTo(part.reduce((sum, one) => sum + one, 0) / count, 9);
          expect(of('min')[index]?.value).toBe(Math.min(...part));
          expect(of('max')[index]?.value).toBe(Math.max(...part));
          expect(of('last')[index]?.value).toBe(part.at(-1));
        });
      }),
    );
  });
});

describe('report on change', () => {
  it('reports what leaves the deadband, each change of quality, and the heartbeat, under any step of the clock', () => {
    const shape = fc.record({
      deadband: fc.integer({ min: 0, max: 6 }),
      heartbeatMs: fc.integer({ min: 500, max: 20_000 }),
    });
    fc.assert(
      fc.property(steps, shape, (taken, { deadband, heartbeatMs }) => {
        const batches = batchesOf(taken);
        const { out, suppressed, run } = shaped({ deadband, heartbeatMs });
        run(batches);
        const expected: { atMs: number; reading: Reading }[] = [];
        for (const { time, readings } of batches) {
          const [reading] = readings as [Reading];
          const last = expected.at(-1);
          const due =
            last === undefined ||
            qualityText(last.reading.quality) !== qualityText(reading.quality) ||
            time.monotonicMs - last.atMs >= heartbeatMs ||
            (reading.value !== undefined && Math.abs(Number(reading.value) - Number(last.reading.value)) > deadband);
          if (due) expected.push({ atMs: time.monotonicMs, reading });
        }
        expect(out).toEqual(expected);
        expect(suppressed.deadband + out.length).toBe(taken.length);
      }),
    );
  });
});

describe('the rate limit', () => {
  it('keeps the interval between reports, ends with the newest value, and counts what it leaves out', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 100, max: 6000 }), (taken, minIntervalMs) => {
        const batches = batchesOf(taken);
        const { out, suppressed, run } = shaped({ minIntervalMs });
        run(batches);
        const values = batches.map(({ readings: [reading] }) => reading);
        // In order, nothing invented, nothing twice.
        let from = 0;
        for (const { reading } of out) {
          const at = values.indexOf(reading, from);
          expect(at).toBeGreaterThanOrEqual(0);
          from = at + 1;
        }
        expect(out.at(-1)?.reading).toBe(values.at(-1));
        expect(out.length + suppressed.rate).toBe(taken.length);
        const spanMs = (batches.at(-1)?.time.monotonicMs ?? 0) - (batches[0]?.time.monotonicMs ?? 0);
        // The last may leave early because everything ends.
        expect(out.length).toBeLessThanOrEqual(Math.floor(spanMs / minIntervalMs) + 2);
      }),
    );
  });
});

interface Poll {
  readonly atMs: number;
  readonly values: Record<string, unknown>;
}

/** What a consumer reads: each poll with its monotonic time, from the one time of the message. */
function pollsOf({ body, time, systemProperties }: Message): Poll[] {
  if (systemProperties.contentType === 'application/senml+json') {
    const records = JSON.parse(Buffer.from(body).toString()) as { n: string; v?: number; t?: number; bt?: number }[];
    expect(records[0]?.bt).toBe(time.wallMs / 1000);
    return records.flatMap(({ n, v, t = 0 }) =>
      v === undefined ? [] : [{ atMs: time.monotonicMs + Math.round(t * 1000), values: { [n]: v } }],
    );
  }
  const isCbor = systemProperties.contentType === 'application/cbor';
  const parsed = (isCbor ? decode(body) : JSON.parse(Buffer.from(body).toString())) as {
    time: string;
    samples: { offset_ms: number; values: Record<string, unknown> }[];
  };
  expect(Date.parse(parsed.time)).toBe(time.wallMs);
  return parsed.samples.map(({ offset_ms, values }) => ({ atMs: time.monotonicMs + offset_ms, values }));
}

describe('packing', () => {
  it('keeps every poll with its own time, within the size, in order, in every format', () => {
    const settings = fc.record({
      format: fc.constantFrom<BodyFormat>('json', 'senml', 'cbor'),
      maxBytes: fc.integer({ min: 256, max: 1200 }),
      maxMs: fc.integer({ min: 100, max: 30_000 }),
    });
    fc.assert(
      fc.property(steps, settings, (taken, { format, maxBytes, maxMs }) => {
        const packer = new Packer();
        const messages: Message[] = [];
        const batches = batchesOf(taken.map((step) => ({ ...step, value: step.value ?? 0 })));
        for (const batch of batches) {
          messages.push(...packer.due(batch.time.monotonicMs));
          messages.push(...packer.add(batch, { format, pack: { maxBytes, maxMs } }));
        }
        messages.push(...packer.due(Number.POSITIVE_INFINITY));
        expect(packer.waitingBytes).toBe(0);
        expect(messages.flatMap(pollsOf)).toEqual(
          batches.map(({ time, readings: [reading] }) => ({ atMs: time.monotonicMs, values: { v: reading?.value } })),
        );
        // A poll before a step of the wall clock and one after it are never told by the same clock.
        const wallMs = messages.flatMap((message) =>
          pollsOf(message).map(({ atMs }) => message.time.wallMs + atMs - message.time.monotonicMs),
        );
        for (const [index, { time }] of batches.entries()) {
          expect(Math.abs((wallMs[index] ?? Number.NaN) - time.wallMs)).toBeLessThanOrEqual(1000);
        }
        for (const message of messages) {
          expect(message.body.byteLength).toBeLessThanOrEqual(maxBytes);
          const polls = pollsOf(message);
          expect((polls.at(-1)?.atMs ?? 0) - (polls[0]?.atMs ?? 0)).toBeLessThan(maxMs);
        }
      }),
    );
  });

  it('stays within its memory: past the bound messages leave before they are full', () => {
    const packer = new Packer();
    let sent = 0;
    let polls = 0;
    for (let index = 0; index < 3000; index += 1) {
      const text = 'x'.repeat(5000);
      const batch = {
        deviceId: parseDeviceId(`d-${index}`),
        time: timestamp(),
        readings: [{ point: 'v', value: text, quality: GOOD }],
      };
      polls += 1;
      sent += packer.add(batch, { pack: { maxBytes: 100_000, maxMs: 60_000 } }).length;
      expect(packer.waitingBytes).toBeLessThanOrEqual(LIMITS.packing_bytes);
    }
    expect(sent).toBeGreaterThan(0);
    expect(sent + packer.due(Number.POSITIVE_INFINITY).length).toBe(polls);
  });
});
