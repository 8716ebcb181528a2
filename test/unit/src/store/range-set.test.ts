import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RangeSet } from '../../../../src/store/range-set.ts';

const SPAN = 40;
const change = fc.record({
  add: fc.boolean(),
  from: fc.integer({ min: 0, max: SPAN }),
  length: fc.integer({ min: 0, max: 12 }),
});

describe('RangeSet', () => {
  it('is a set of integers', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        const set = new RangeSet();
        const model = new Set<number>();
        for (const { add, from, length } of changes) {
          if (add) set.add(from, from + length);
          else set.remove(from, from + length);
          for (let value = from; value < from + length; value += 1) {
            if (add) model.add(value);
            else model.delete(value);
          }
        }
        const sorted = [...model].sort((a, b) => a - b);
        expect([...set].flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i))).toEqual(sorted);
        expect(set.size).toBe(model.size);
        const ranges = [...set];
        expect(ranges.length).toBe(set.ranges);
        // Disjoint, sorted, and never touching.
        for (let index = 1; index < ranges.length; index += 1) {
          expect(ranges[index]?.[0]).toBeGreaterThan(ranges[index - 1]?.[1] ?? 0);
        }
        for (let value = 0; value <= SPAN + 13; value += 1) {
          expect(set.has(value)).toBe(model.has(value));
          expect(set.next(value)).toBe(sorted.find((member) => member >= value));
          let gap = value;
          while (model.has(gap)) gap += 1;
          expect(set.nextGap(value)).toBe(gap);
          expect(set.countIn(value, value + 7)).toBe(sorted.filter((m) => m >= value && m < value + 7).length);
        }
      }),
    );
  });
});
