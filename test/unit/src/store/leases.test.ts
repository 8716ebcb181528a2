import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Leases } from '../../../../src/store/leases.ts';

describe('Leases', () => {
  it('keeps what a map keeps, also where offsets share a place', () => {
    // Two bands that meet in the same places, whatever their number up to 8192.
    const offset = fc.oneof(
      fc.nat(40),
      fc.nat(40).map((low) => low + 8192),
      fc.constant(2 ** 53 - 1),
    );
    const step = fc.record({ add: fc.boolean(), offset, bytes: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const leases = new Leases();
        const map = new Map<number, number>();
        for (const { add, offset: at, bytes } of steps) {
          if (!add) expect(leases.delete(at)).toBe(map.delete(at));
          else if (!map.has(at)) {
            leases.add(at, bytes);
            map.set(at, bytes);
          }
          expect(leases.size).toBe(map.size);
          for (const known of [at, at % 8192, at + 8192]) {
            expect(leases.has(known)).toBe(map.has(known));
            expect(leases.get(known)).toBe(map.get(known));
          }
        }
      }),
    );
  });
});
