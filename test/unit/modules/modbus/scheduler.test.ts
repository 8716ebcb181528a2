import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameGapMs } from '../../../../modules/modbus/bus-set.ts';
import { modbusConfig } from '../../../../modules/modbus/config.ts';
import { PollGrid, spread } from '../../../../src/sdk/poll-grid.ts';
import { ProbeTurn } from '../../../../modules/modbus/probe-turn.ts';

describe('poll grid', () => {
  it('polls at once, then on a grid that does not drift', () => {
    const grid = new PollGrid({ periodMs: 1000, firstMs: 5000, phase: 0.25 });
    expect(grid.next(5000)).toEqual({ dueMs: 5000, missed: 0 });
    // Each poll takes 30 ms; the grid stays.
    const dues: number[] = [];
    let nowMs = 5030;
    for (let count = 0; count < 100; count += 1) {
      const { dueMs, missed } = grid.next(nowMs);
      expect(missed).toBe(0);
      dues.push(dueMs);
      nowMs = dueMs + 30;
    }
    expect(dues).toEqual(Array.from({ length: 100 }, (_, index) => 6250 + index * 1000));
  });

  it('counts what it missed and starts the newest overdue poll at once', () => {
    const grid = new PollGrid({ periodMs: 100, firstMs: 0, phase: 0.5 });
    grid.next(0);
    expect(grid.next(10)).toEqual({ dueMs: 50, missed: 0 });
    // The poll of 50 ended at 305: those of 150 and 250 are overdue, the newest is made.
    expect(grid.next(305)).toEqual({ dueMs: 250, missed: 1 });
    expect(grid.next(310)).toEqual({ dueMs: 350, missed: 0 });
  });

  it('gives each period one poll or counts it, whatever polls take', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10, max: 5000 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.array(fc.integer({ min: 0, max: 20_000 }), { minLength: 2, maxLength: 50 }),
        (periodMs, phase, durations) => {
          const grid = new PollGrid({ periodMs, firstMs: 0, phase });
          let nowMs = grid.next(0).dueMs;
          let polls = 0;
          let missed = 0;
          let firstDueMs: number | undefined;
          let lastDueMs = Number.NEGATIVE_INFINITY;
          for (const durationMs of durations) {
            nowMs += durationMs;
            const due = grid.next(nowMs);
            firstDueMs ??= due.dueMs - due.missed * periodMs;
            expect(due.dueMs).toBeGreaterThan(lastDueMs);
            // Never more than a period behind: missed polls are not queued up.
            expect(nowMs - due.dueMs).toBeLessThan(periodMs + 1e-6);
            lastDueMs = due.dueMs;
            polls += 1;
            missed += due.missed;
            nowMs = Math.max(nowMs, due.dueMs);
          }
          expect(polls + missed).toBe(Math.round((lastDueMs - (firstDueMs ?? 0)) / periodMs) + 1);
          // The second poll comes half a period to one and a half after the first.
          if ((durations[0] ?? 0) < periodMs / 2) expect(firstDueMs).toBeLessThan(1.5 * periodMs);
          expect(firstDueMs).toBeGreaterThanOrEqual(periodMs / 2);
        },
      ),
    );
  });

  it('spreads 500 devices over the period', () => {
    const buckets = Array.from({ length: 10 }, () => 0);
    for (let device = 0; device < 500; device += 1) {
      const bucket = Math.floor(spread(`bus-1/meter-${device}/1000`) * 10);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
    }
    expect(Math.min(...buckets)).toBeGreaterThan(25);
    expect(Math.max(...buckets)).toBeLessThan(80);
  });
});

describe('silence between RTU frames', () => {
  const gap = (baudRate: number, kind = 'rtu'): number => {
    const transport = { kind, path: '/dev/ttyS0', baud_rate: baudRate };
    const config = modbusConfig.parse({ transport, devices: {} });
    return frameGapMs(config.transport, 11_000 / baudRate);
  };

  it('is 3.5 characters, and 1.75 ms above 19 200 baud (2.5.1.1)', () => {
    expect(gap(9600)).toBeCloseTo(4.01, 2);
    expect(gap(19_200)).toBeCloseTo(2.005, 3);
    expect(gap(38_400)).toBe(1.75);
    expect(gap(115_200)).toBe(1.75);
    expect(gap(9600, 'ascii')).toBe(0);
  });
});

describe('turn to be probed', () => {
  it('is given to one at a time', () => {
    const turn = new ProbeTurn(1000);
    const [one, two] = [{}, {}];
    expect(turn.take(one, 0)).toBe(true);
    expect(turn.take(two, 0)).toBe(false);
    turn.give(two, 10, true);
    expect(turn.take(two, 20)).toBe(false);
    turn.give(one, 30, true);
    expect(turn.take(two, 30)).toBe(true);
  });

  it('costs the bus a tenth of its time at most, and one timeout an interval', () => {
    const turn = new ProbeTurn(1000);
    const device = {};
    turn.take(device, 0);
    turn.give(device, 50, false);
    expect(turn.take(device, 999)).toBe(false);
    expect(turn.take(device, 1000)).toBe(true);
    turn.give(device, 1500, false);
    expect(turn.take(device, 5999)).toBe(false);
    expect(turn.take(device, 6000)).toBe(true);
  });
});
