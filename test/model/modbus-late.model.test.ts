// A bus of RTU units whose answers are late, lost and come in pieces, each law of lateness in time that passes at once:
// nothing in a frame tells whose answer it is, and no value may ever be another register's.

import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Bus } from '../../modules/modbus/bus.ts';
import { crc16 } from '../../modules/modbus/crc.ts';
import { FrameLog } from '../../modules/modbus/frame-log.ts';
import { RtuFramer } from '../../modules/modbus/framer-rtu.ts';
import { isGatewayError } from '../../src/core/errors.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import type { Random } from '../../src/platform/random.ts';
import type { LinkEvents, LinkOpener } from '../../src/wire/link.ts';
import { ManualClock } from '../support/manual-clock.ts';

const REGISTERS = [100, 300, 600, 900];
const UNITS = [1, 2];
const SECONDS = 240;

/** Answers after so many ms; undefined: lost. */
type Law = (nowMs: number, random: () => number) => number | undefined;

interface Bench {
  readonly law: Law;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly inPieces: boolean;
  readonly seed: number;
  /** Default: `REGISTERS`, one request each. */
  readonly registers?: readonly number[];
}

interface Outcome {
  readonly polls: number;
  /** Polls of which every register was read. */
  readonly whole: number;
  /** `unit/register=value` of what was another register's. */
  readonly wrong: readonly string[];
}

function valueOf(unitId: number, address: number): number {
  return unitId * 1000 + address;
}

/** Mulberry32: the same numbers every time. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Units on one line, which answer in order. */
function serve(clock: ManualClock, { law, inPieces, seed }: Bench): LinkOpener {
  const random = numbers(seed);
  let freeMs = 0;
  let current: LinkEvents | undefined;
  const answer = (request: Buffer): void => {
    const nowMs = clock.monotonicMs();
    const latencyMs = law(nowMs, random);
    if (latencyMs === undefined) return;
    const [unitId = 0, functionCode = 0] = request;
    const bytes = Buffer.from([unitId, functionCode, 2, 0, 0, 0, 0]);
    bytes.writeUInt16BE(valueOf(unitId, request.readUInt16BE(2)), 3);
    bytes.writeUInt16LE(crc16(bytes, 0, 5), 5);
    const startMs = Math.max(nowMs + latencyMs, freeMs);
    freeMs = startMs + (inPieces ? bytes.length : 1);
    const pieces = inPieces ? Array.from(bytes, (byte) => Buffer.from([byte])) : [bytes];
    // A converter gives what comes late to whoever is connected by then.
    for (const [index, piece] of pieces.entries()) clock.after(startMs + index - nowMs, () => current?.onData(piece));
  };
  return {
    target: 'line',
    charMs: 0,
    isCurrent: () => Promise.resolve(true),
    open(events) {
      current = events;
      return Promise.resolve({
        write: answer,
        close: () => {
          queueMicrotask(() => events.onClosed(undefined));
          return Promise.resolve();
        },
      });
    },
  };
}

async function run(bench: Bench): Promise<Outcome> {
  const { registers = REGISTERS } = bench;
  const clock = new ManualClock();
  const draw = numbers(bench.seed + 1);
  const random: Random = { fraction: draw, id: () => 'id' };
  const bus = new Bus({
    opener: serve(clock, bench),
    createFramer: () => new RtuFramer(),
    hasTransactionIds: false,
    clock,
    random,
    log: silentLogger,
    frameLog: new FrameLog(),
    gapMs: 2,
    turnaroundMs: 0,
    connectDelayMs: 0,
    patienceMs: 1000,
    onConnected: () => {},
    onDisconnected: () => {},
  });
  const endMs = clock.monotonicMs() + SECONDS * 1000;
  const wrong: string[] = [];
  let [polls, whole] = [0, 0];

  async function read(unitId: number, address: number): Promise<boolean> {
    for (let attempt = 0; attempt <= bench.retries; attempt += 1) {
      try {
        const request = { functionCode: 3, address, quantity: 1 } as const;
        const dueMs = clock.monotonicMs();
        const job = { unitId, request, timeoutMs: bench.timeoutMs, gapMs: 0, priority: 'read', dueMs } as const;
        const value = Buffer.from(await bus.exchange(job)).readUInt16BE(0);
        if (value !== valueOf(unitId, address)) wrong.push(`${unitId}/${address}=${value}`);
        return true;
      } catch (error) {
        if (!isGatewayError(error)) throw error;
      }
    }
    return false;
  }

  async function poll(unitId: number): Promise<void> {
    let dueMs = clock.monotonicMs();
    while (clock.monotonicMs() < endMs) {
      let good = 0;
      for (const address of registers) good += (await read(unitId, address)) ? 1 : 0;
      polls += 1;
      whole += good === registers.length ? 1 : 0;
      while (dueMs <= clock.monotonicMs()) dueMs += 1000;
      await clock.sleep(dueMs - clock.monotonicMs());
    }
  }

  bus.start();
  let areDone = false;
  const loops = Promise.all(UNITS.map(poll)).finally(() => (areDone = true));
  for (;;) {
    await setImmediate();
    const { nextDueMs } = clock;
    if (areDone || nextDueMs === undefined) break;
    // A little more, as the difference is rounded.
    clock.advance(Math.max(0, nextDueMs - clock.monotonicMs()) + 1e-6);
  }
  await loops;
  await bus.stop();
  return { polls, whole, wrong };
}

/** All within ten timeouts: what is later than that is not told apart (README). */
const LAWS: Readonly<Record<string, (timeoutMs: number, random: () => number) => Law>> = {
  'slow for a while, by a constant'(timeoutMs, random) {
    const [periodMs, slowMs] = [5000 + 30_000 * random(), timeoutMs * (1.05 + 5 * random())];
    return (nowMs) => (Math.floor(nowMs / periodMs) % 2 === 1 ? slowMs : 0.03 * timeoutMs);
  },
  'now and then late by anything'(timeoutMs, random) {
    const share = 0.01 + 0.2 * random();
    return (_, draw) => (draw() < share ? timeoutMs * (1.05 + 6 * draw()) : 0.03 * timeoutMs);
  },
  'held up, then all at once'(timeoutMs, random) {
    const everyMs = 5000 + 30_000 * random();
    let [nextMs, endMs] = [0, 0];
    return (nowMs, draw) => {
      if (nowMs >= nextMs) {
        nextMs = nowMs + everyMs * (0.3 + 1.7 * draw());
        endMs = nowMs + timeoutMs * (0.5 + 5 * draw());
      }
      return Math.max(0.03 * timeoutMs, endMs - nowMs);
    };
  },
  'a late one, and a later one behind it'(timeoutMs, random) {
    const every = 5 + Math.floor(40 * random());
    const [firstMs, secondMs] = [timeoutMs * (1.1 + 4 * random()), timeoutMs * 5 * random()];
    let count = 0;
    return () => {
      count += 1;
      if (count % every === 0) return firstMs;
      return count % every === 1 ? secondMs : 0.04 * timeoutMs;
    };
  },
  'lost and late'(timeoutMs, random) {
    const [lost, late] = [0.1 * random(), 0.1 * random()];
    return (_, draw) => {
      const chance = draw();
      if (chance < lost) return undefined;
      return chance < lost + late ? timeoutMs * (1.02 + 6 * draw()) : 0.03 * timeoutMs;
    };
  },
  'of any latency'(timeoutMs, random) {
    const meanMs = timeoutMs * (0.1 + 0.8 * random());
    return (_, draw) => Math.min(9 * timeoutMs, -meanMs * Math.log(1 - draw()));
  },
};

describe('a bus whose answers are', () => {
  it.each(Object.keys(LAWS))('%s: gives no value of another register', async (name) => {
    let [polls, whole] = [0, 0];
    for (let seed = 1; seed <= 12; seed += 1) {
      const random = numbers(seed * 7919);
      const timeoutMs = [100, 300, 1000, 3000][Math.floor(4 * random())] ?? 1000;
      const retries = Math.floor(4 * random());
      const inPieces = random() < 0.3;
      const law = LAWS[name]?.(timeoutMs, random) ?? (() => undefined);
      const outcome = await run({ law, timeoutMs, retries, inPieces, seed });
      expect(outcome.wrong, `seed ${seed}`).toEqual([]);
      polls += outcome.polls;
      whole += outcome.whole;
    }
    // Not by giving none.
    expect(whole).toBeGreaterThan(polls / 10);
  });

  const COSTS = [30, 350].flatMap((latencyMs) => [REGISTERS, [100]].map((registers) => ({ latencyMs, registers })));

  it.each(COSTS)(
    'lost at times, and take $latencyMs ms: costs about three timeouts each ($registers)',
    async (what) => {
      const { latencyMs, registers } = what;
      let lost = 0;
      const law: Law = (_, draw) => {
        if (draw() >= 0.01) return latencyMs;
        lost += 1;
        return undefined;
      };
      const bench = { timeoutMs: 1000, retries: 1, inPieces: false, seed: 1, registers };
      const { polls, whole, wrong } = await run({ ...bench, law });
      expect(wrong).toEqual([]);
      expect(lost).toBeGreaterThan(1);
      expect(whole).toBe(polls);
      const undisturbed = await run({ ...bench, law: () => latencyMs });
      expect(undisturbed.whole - whole).toBeLessThanOrEqual(5 * lost);
    },
  );
});
