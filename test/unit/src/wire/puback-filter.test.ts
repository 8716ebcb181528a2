import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PubackFilter } from '../../../../src/wire/puback-filter.ts';

/** A packet as the server sends it, and what of it the filter is to tell. */
interface Sent {
  readonly bytes: Buffer;
  readonly answer?: readonly [id: number, reasonCode: number];
}

function packet(type: number, body: Buffer): Buffer {
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

const id = fc.integer({ min: 1, max: 0xffff });
const code = fc.integer({ min: 0, max: 0xff });
const sent: fc.Arbitrary<Sent> = fc.oneof(
  id.map((of) => ({ bytes: Buffer.from([0x40, 2, of >> 8, of & 0xff]), answer: [of, 0] as const })),
  fc.tuple(id, code).map(([of, reason]) => ({
    bytes: Buffer.from([0x40, 3, of >> 8, of & 0xff, reason]),
    answer: [of, reason] as const,
  })),
  // With properties, and what is no PUBACK but holds the bytes of one.
  fc.tuple(id, code).map(([of, reason]) => ({ bytes: Buffer.from([0x40, 4, of >> 8, of & 0xff, reason, 0]) })),
  fc
    .tuple(fc.constantFrom(0x30, 0x32, 0x90, 0xd0), fc.integer({ min: 0, max: 300 }))
    .map(([type, bytes]) => ({ bytes: packet(type, Buffer.alloc(bytes, Buffer.from([0x40, 2, 0, 7]))) })),
);

describe('PubackFilter', () => {
  it('loses, doubles and makes up nothing, however the packets are cut', () => {
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 30 }), fc.array(fc.integer({ min: 1, max: 40 })), (packets, cuts) => {
        const told: (readonly [number, number])[] = [];
        const filter = new PubackFilter((of, reason) => told.push([of, reason]));
        const stream = Buffer.concat(packets.map(({ bytes }) => bytes));
        const rest: Buffer[] = [];
        for (let at = 0, cut = 0; at < stream.length; cut += 1) {
          const bytes = cuts.length === 0 ? stream.length : (cuts[cut % cuts.length] as number);
          rest.push(...filter.take(stream.subarray(at, at + bytes)));
          at += bytes;
        }
        // A PUBACK that was cut is left to the library: read what is left as it would.
        const left = new PubackFilter((of, reason) => told.push([of, reason])).take(Buffer.concat(rest));
        expect(Buffer.concat(left)).toEqual(
          Buffer.concat(packets.filter(({ answer }) => answer === undefined).map(({ bytes }) => bytes)),
        );
        const wanted = packets.flatMap(({ answer }) => (answer === undefined ? [] : [answer]));
        expect(told.map(String).sort()).toEqual(wanted.map(String).sort());
      }),
      { numRuns: 2000 },
    );
  });

  it('makes no pieces of what holds PUBACKs alone, nor of what holds none', () => {
    const told: number[] = [];
    const filter = new PubackFilter((of) => told.push(of));
    expect(filter.take(Buffer.from([0x40, 2, 0, 1, 0x40, 2, 1, 0]))).toEqual([]);
    expect(told).toEqual([1, 256]);
    const pingResponse = Buffer.from([0xd0, 0]);
    expect(filter.take(pingResponse)[0]).toBe(pingResponse);
  });
});
