import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameSizeCheck } from '../../../../src/wire/amqp-frames.ts';

const HEADER = Buffer.from('AMQP\x03\x01\0\0', 'latin1');

function frame(bytes: number): Buffer {
  const made = Buffer.alloc(bytes, 0x41);
  made.writeUInt32BE(bytes, 0);
  return made;
}

describe('frameSizeCheck', () => {
  it('takes headers and frames however they are cut', () => {
    const sizes = fc.array(fc.integer({ min: 8, max: 100 }), { maxLength: 6 });
    const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(sizes, cuts, fc.boolean(), (frames, pieces, isLastTooLarge) => {
        const bytes = Buffer.concat([HEADER, ...frames.map(frame), HEADER, ...(isLastTooLarge ? [frame(101)] : [])]);
        const check = frameSizeCheck(100);
        let isSound = true;
        for (let at = 0, piece = 0; at < bytes.byteLength; piece += 1) {
          const length = pieces[piece % pieces.length] ?? 1;
          isSound &&= check(bytes.subarray(at, at + length));
          at += length;
        }
        expect(isSound).toBe(!isLastTooLarge);
      }),
    );
  });

  it.each([
    ['one that claims a gigabyte', 0x4000_0000],
    ['one that claims the most', 0xffff_ffff],
    ['one that has no room for its own size', 7],
    ['none at all', 0],
  ])('refuses %s', (_what, size) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32BE(size, 0);
    expect(frameSizeCheck(65_536)(Buffer.concat([HEADER, bytes]))).toBe(false);
  });
});
