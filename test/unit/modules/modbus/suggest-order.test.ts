import { describe, expect, it } from 'vitest';
import { suggestByteOrder } from '../../../../modules/modbus/suggest-order.ts';

function floats(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeFloatBE(value, index * 4);
  return bytes;
}

/** Small integers, as settings are. */
const SETTINGS = Buffer.from(Uint16Array.from({ length: 120 }, (_, index) => index + 1).buffer).swap16();
const MEASURED = floats(230.1, 12.5, 50, -3.25);

describe('the byte order', () => {
  it('is told of one table whatever another one holds', () => {
    expect(suggestByteOrder([[SETTINGS], [MEASURED]])).toMatchObject({ order: 'ABCD', floats: 4, pairs: 4 });
    expect(suggestByteOrder([[SETTINGS], [Buffer.from(MEASURED).swap16()]])).toMatchObject({ order: 'BADC' });
  });

  it('is told of tables together that say too little each', () => {
    expect(suggestByteOrder([[floats(230.1, 12.5)], [floats(50, -3.25)]])).toMatchObject({ order: 'ABCD', floats: 4 });
  });

  it('is not told where no order stands out', () => {
    expect(suggestByteOrder([[SETTINGS], [Buffer.alloc(240)]])).toBeUndefined();
    expect(suggestByteOrder([])).toBeUndefined();
  });
});
