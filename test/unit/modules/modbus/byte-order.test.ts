import { describe, expect, it } from 'vitest';
import { BYTE_ORDER_PATTERN, swapsBytes, wireIndexes } from '../../../../modules/modbus/byte-order.ts';

/** The letters of the value's bytes in the order of the wire. */
function onWire(order: string, bytes: 2 | 4 | 8): string {
  const wire: string[] = [];
  for (const [byte, index] of wireIndexes(order, bytes).entries()) wire[index] = 'ABCDEFGH'[byte] ?? '?';
  return wire.join('');
}

describe('wireIndexes', () => {
  it.each([
    ['ABCD', 'AB', 'ABCD', 'ABCDEFGH'],
    ['CDAB', 'AB', 'CDAB', 'GHEFCDAB'],
    ['BADC', 'BA', 'BADC', 'BADCFEHG'],
    ['DCBA', 'BA', 'DCBA', 'HGFEDCBA'],
  ])('%s lies as %s, %s and %s', (order, bits16, bits32, bits64) => {
    expect([onWire(order, 2), onWire(order, 4), onWire(order, 8)]).toEqual([bits16, bits32, bits64]);
  });

  it.each(['ABCDEFGH', 'CDABGHEF', 'EFGHABCD', 'HGFEDCBA', 'BADCFEHG', 'GHEFCDAB', 'FHGEADCB'])(
    'takes %s literally on 64 bits',
    (order) => {
      expect(onWire(order, 8)).toBe(order);
    },
  );

  it('refuses eight letters on fewer bits', () => {
    expect(() => wireIndexes('ABCDEFGH', 4)).toThrow(RangeError);
  });
});

describe('the pattern of byte orders', () => {
  it.each(['ABCD', 'CDAB', 'BADC', 'DCBA', 'GHEFCDAB', 'HGFEDCBA'])('takes %s', (order) => {
    expect(order).toMatch(BYTE_ORDER_PATTERN);
  });

  it.each(['', 'AB', 'ACBD', 'abcd', 'ABCDABCD', 'ABCDEFGG', 'ABCDEFGI', 'ABCDEFGHA', 'ABCDE'])(
    'refuses %s',
    (order) => {
      expect(order).not.toMatch(BYTE_ORDER_PATTERN);
    },
  );
});

it('keeps only the swap of bytes on 16 bits', () => {
  expect(['ABCD', 'CDAB', 'BADC', 'DCBA'].map(swapsBytes)).toEqual([false, false, true, true]);
});
