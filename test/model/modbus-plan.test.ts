// The plan of requests against every possible plan, and the search for holes against a device that has some.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bisect } from '../../modules/modbus/bisect.ts';
import { Holes } from '../../modules/modbus/holes.ts';
import {
  type PlanLimits,
  type PlannedPoint,
  type PlannedRequest,
  planRequests,
} from '../../modules/modbus/poll-plan.ts';

const point = fc.record({
  table: fc.constant('input' as const),
  address: fc.integer({ min: 0, max: 24 }),
  quantity: fc.constantFrom(1, 1, 2, 4),
});
const limits = fc
  .record({ most: fc.integer({ min: 1, max: 14 }), gap: fc.integer({ min: 0, max: 6 }), alone: fc.boolean() })
  .map(({ most, gap, alone }): PlanLimits => ({
    maxRegisters: most,
    maxCoils: 1,
    maxGapRegisters: gap,
    maxGapCoils: 0,
    oneRequestPerPoint: alone,
    coilsFromZero: false,
  }));
const range = fc.record({ address: fc.integer({ min: 0, max: 26 }), quantity: fc.integer({ min: 1, max: 3 }) });

function covers(outer: Range, inner: Range): boolean {
  return outer.address <= inner.address && inner.address + inner.quantity <= outer.address + outer.quantity;
}

interface Range {
  readonly address: number;
  readonly quantity: number;
}

/** Whether one request may read just these points. */
function isLegal(
  points: readonly PlannedPoint[],
  request: Range,
  { maxRegisters, maxGapRegisters }: PlanLimits,
  holes: readonly Range[],
): boolean {
  if (holes.some((hole) => covers(request, hole))) return false;
  if (points.some((one) => covers(one, request))) return true;
  if (request.quantity > maxRegisters) return false;
  let unneeded = 0;
  for (let register = request.address; register < request.address + request.quantity; register += 1) {
    const needed = points.some((one) => covers(one, { address: register, quantity: 1 }));
    unneeded = needed ? 0 : unneeded + 1;
    if (unneeded > maxGapRegisters) return false;
  }
  return true;
}

function span(points: readonly PlannedPoint[]): Range {
  const address = Math.min(...points.map((one) => one.address));
  return { address, quantity: Math.max(...points.map((one) => one.address + one.quantity)) - address };
}

/** The least requests, and the least registers of those, over all ways to part the points. */
function bestOf(points: readonly PlannedPoint[], rules: PlanLimits, holes: readonly Range[]): [number, number] {
  let best: [number, number] = [Number.POSITIVE_INFINITY, 0];
  const place = (index: number, groups: PlannedPoint[][]): void => {
    if (groups.length > best[0]) return;
    const next = points[index];
    if (next === undefined) {
      const spans = groups.map(span);
      if (!groups.every((group, at) => isLegal(group, spans[at]!, rules, holes))) return;
      const registers = spans.reduce((sum, { quantity }) => sum + quantity, 0);
      if (groups.length < best[0] || registers < best[1]) best = [groups.length, registers];
      return;
    }
    for (const group of groups) {
      group.push(next);
      place(index + 1, groups);
      group.pop();
    }
    place(index + 1, [...groups, [next]]);
  };
  place(0, []);
  return best;
}

it('plans as few requests, with as few registers, as any plan could', () => {
  let several = 0;
  fc.assert(
    fc.property(
      fc.array(point, { minLength: 1, maxLength: 6 }),
      limits,
      fc.array(range, { maxLength: 3 }),
      (points, rules, ranges) => {
        const holes = new Holes();
        for (const hole of ranges) holes.add('input', hole);
        const requests = planRequests(points, { ...rules, oneRequestPerPoint: false }, holes);
        const readable = points.filter((one) => !ranges.some((hole) => covers(one, hole)));
        expect(requests.flatMap((request) => request.points)).toHaveLength(readable.length);
        for (const request of requests) expect(isLegal(request.points, request, rules, ranges)).toBe(true);
        if (readable.length === 0) return;
        const registers = requests.reduce((sum, { quantity }) => sum + quantity, 0);
        if (requests.length > 1) several += 1;
        expect([requests.length, registers]).toEqual(bestOf(readable, rules, ranges));
      },
    ),
    { numRuns: 1500 },
  );
  expect(several).toBeGreaterThan(300);
});

it('has every readable point in just one request that covers it', () => {
  fc.assert(
    fc.property(
      fc.array(point, { maxLength: 40 }),
      limits,
      fc.array(range, { maxLength: 5 }),
      (points, rules, ranges) => {
        const holes = new Holes();
        for (const hole of ranges) holes.add('input', hole);
        const requests = planRequests(points, rules, holes);
        const planned = requests.flatMap((request) => request.points);
        expect(new Set(planned).size).toBe(planned.length);
        expect(new Set(planned)).toEqual(new Set(points.filter((one) => !ranges.some((hole) => covers(one, hole)))));
        for (const request of requests) {
          expect(request.points.every((one) => covers(request, one))).toBe(true);
          expect(ranges.some((hole) => covers(request, hole))).toBe(false);
        }
      },
    ),
  );
});

it('finds every readable point of a device with unreadable registers, and then asks for nothing in vain', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(point, { minLength: 1, maxLength: 20 }),
      fc.uniqueArray(fc.integer({ min: 0, max: 28 }), { maxLength: 6 }),
      limits,
      async (points, badRegisters, rules) => {
        const holes = new Holes();
        const isReadable = (request: Range): boolean =>
          !badRegisters.some((address) => covers(request, { address, quantity: 1 }));
        const cycle = async (): Promise<{ read: Set<PlannedPoint>; refused: number }> => {
          const read = new Set<PlannedPoint>();
          let refused = 0;
          const ask = async (request: PlannedRequest): Promise<'answered' | 'refused'> => {
            if (!isReadable(request)) {
              refused += 1;
              return 'refused';
            }
            for (const one of request.points) read.add(one);
            return 'answered';
          };
          for (const request of planRequests(points, rules, holes)) {
            if ((await ask(request)) === 'refused') await bisect(request, holes, ask);
          }
          return { read, refused };
        };
        const readable = new Set(points.filter(isReadable));
        // Already the cycle in which holes are found gives all values.
        expect((await cycle()).read).toEqual(readable);
        // One refused request may hide further holes; each cycle finds at least one more.
        let refused = 1;
        for (let cycles = 0; refused > 0 && cycles <= points.length; cycles += 1) {
          const next = await cycle();
          expect(next.read).toEqual(readable);
          refused = next.refused;
        }
        expect(refused).toBe(0);
      },
    ),
    { numRuns: 500 },
  );
});
