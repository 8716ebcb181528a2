// Whatever the framing: any cutting of a stream gives the same frames, garbage around frames costs no later frame, and
// never more is kept than the bound.

import fc from 'fast-check';
import { DelimiterParser, PacketLengthParser, SlipDecoder } from 'serialport';
import { describe, expect, it } from 'vitest';
import { escapeSlip } from '../../modules/serial/framing.ts';
import { framerFor } from '../unit/modules/serial/harness.ts';

const MAX_BYTES = 32;
const COMMON = { max_frame_bytes: MAX_BYTES };

const FRAMINGS = [
  { kind: 'readline', ...COMMON },
  { kind: 'delimiter', delimiter: 'ab', ...COMMON },
  { kind: 'fixed_length', length_bytes: 5 },
  { kind: 'fixed_length', length_bytes: 5, start: 'ab' },
  { kind: 'length_field', start: 'a', length_offset: 1, extra_bytes: 2, ...COMMON },
  { kind: 'start_stop', start: 'a', stop: 'b', trailer_bytes: 1, ...COMMON },
  { kind: 'start_stop', start: 'aa', stop: 'aa', ...COMMON },
  { kind: 'slip', ...COMMON },
];
const CHECKSUMS = [undefined, { kind: 'sum8' }, { kind: 'crc16_ccitt' }];

// Few different bytes, so that marks and halves of them are common.
const stream = fc.array(fc.constantFrom(0x61, 0x62, 0x0d, 0x0a, 0xc0, 0xdb, 0xdc, 0xdd, 3, 5, 200), { maxLength: 400 });
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60 });

function* cutUp(bytes: Buffer, lengths: readonly number[]): Generator<Buffer> {
  let at = 0;
  for (const length of lengths) {
    if (at >= bytes.length) return;
    yield bytes.subarray(at, at + length);
    at += length;
  }
  yield bytes.subarray(at);
}

describe.each(FRAMINGS)('framing %j', (framing) => {
  it.each(CHECKSUMS)('with checksum %j does not depend on how bytes are cut, and is bounded', (checksum) => {
    fc.assert(
      fc.property(stream, cuts, (numbers, lengths) => {
        const bytes = Buffer.from(numbers);
        const whole = framerFor(framing, checksum);
        whole.framer.push(bytes);
        const cut = framerFor(framing, checksum);
        for (const part of cutUp(bytes, lengths)) {
          cut.framer.push(part);
          // SLIP may escape every byte; marks and trailer come on top.
          expect(cut.framer.pendingBytes).toBeLessThanOrEqual(MAX_BYTES * 2 + 8);
        }
        expect(cut.frames).toEqual(whole.frames);
        expect(cut.faults).toEqual(whole.faults);
      }),
      { numRuns: 150 },
    );
  });

  it('after any garbage and a silence finds the next frame', () => {
    const sound: Record<string, Buffer> = {
      readline: Buffer.from('xyz\r\n'),
      delimiter: Buffer.from('xyzab'),
      fixed_length: Buffer.from('abxyz'),
      length_field: Buffer.from('a\x03xyz'),
      start_stop: framing.start === 'aa' ? Buffer.from('aaxyzaa') : Buffer.from('axyzbt'),
      slip: escapeSlip(Buffer.from('xyz')),
    };
    const frame = sound[framing.kind] ?? Buffer.alloc(0);
    fc.assert(
      fc.property(stream, (numbers) => {
        const { framer, frames } = framerFor(framing);
        framer.push(Buffer.from(numbers));
        framer.silence();
        const before = frames.length;
        framer.push(frame);
        expect(frames.slice(before)).toEqual([expect.stringContaining('xyz')]);
      }),
      { numRuns: 100 },
    );
  });
});

describe('the parsers of serialport find the same frames in a sound stream', () => {
  const payloads = fc.array(fc.uint8Array({ minLength: 1, maxLength: MAX_BYTES }), { maxLength: 8 });

  function parsed(parser: NodeJS.ReadWriteStream, bytes: Buffer): string[] {
    const found: string[] = [];
    parser.on('data', (frame: Buffer) => found.push(frame.toString('latin1')));
    parser.write(bytes);
    return found;
  }

  const agree = (framing: object, parser: () => NodeJS.ReadWriteStream, encode: (payload: Buffer) => Buffer) =>
    fc.assert(
      fc.asyncProperty(payloads, async (frames) => {
        const bytes = Buffer.concat(frames.map((payload) => encode(Buffer.from(payload))));
        const theirs = parsed(parser(), bytes);
        await new Promise((resolve) => setImmediate(resolve));
        const ours = framerFor(framing);
        ours.framer.push(bytes);
        expect(ours.frames).toEqual(theirs.filter((frame) => frame !== ''));
        expect(ours.frames).toHaveLength(frames.length);
      }),
      { numRuns: 50 },
    );

  it('delimiter', async () => {
    const encode = (payload: Buffer): Buffer =>
      Buffer.concat([Buffer.from(payload.toString('hex')), Buffer.from('\r\n')]);
    await agree({ kind: 'delimiter', delimiter: '\r\n' }, () => new DelimiterParser({ delimiter: '\r\n' }), encode);
  });
  it('length field', async () => {
    await agree(
      { kind: 'length_field', start: { hex: 'aa' }, length_offset: 1, extra_bytes: 2 },
      () => new PacketLengthParser({ delimiter: 0xaa, packetOverhead: 2, lengthBytes: 1, lengthOffset: 1 }),
      (payload) => Buffer.concat([Buffer.of(0xaa, payload.length), payload]),
    );
  });
  it('SLIP', async () => {
    await agree({ kind: 'slip' }, () => new SlipDecoder(), escapeSlip);
  });
});
