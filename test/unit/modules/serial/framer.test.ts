import { describe, expect, it } from 'vitest';
import { framerFor } from './harness.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('framing', () => {
  it.each<[string, object, string, string[]]>([
    ['lines', { kind: 'readline' }, 'a\r\nb\rc\n\r\n\nd', ['a', 'b', 'c']],
    ['a delimiter', { kind: 'delimiter', delimiter: '\r\n' }, 'a\rb\r\n\r\nc\r\nd', ['a\rb', 'c']],
    ['a fixed length', { kind: 'fixed_length', length_bytes: 3 }, 'abcdefg', ['abc', 'def']],
    ['a fixed length with a start', { kind: 'fixed_length', length_bytes: 3, start: '#' }, 'x#12yy#34', ['#12', '#34']],
    [
      'a length field',
      { kind: 'length_field', start: { hex: 'aa' }, length_offset: 1, extra_bytes: 2 },
      'x\xaa\x02hi\xaa\x01!',
      ['\xaa\x02hi', '\xaa\x01!'],
    ],
    [
      'a length field, least significant byte first',
      { kind: 'length_field', length_bytes: 2, order: 'little', extra_bytes: 2 },
      '\x01\x00a\x02\x00bc',
      ['\x01\x00a', '\x02\x00bc'],
    ],
    ['start and stop', { kind: 'start_stop', start: '\x02', stop: '\x03' }, 'x\x02a\x03y\x02b\x03', ['a', 'b']],
    ['a start that comes again', { kind: 'start_stop', start: '<', stop: '>' }, '<lo<st><ok>', ['st', 'ok']],
    ['one mark for both ends', { kind: 'start_stop', start: '~', stop: '~' }, '~a~b~~c~', ['a', 'b', 'c']],
    ['SLIP', { kind: 'slip' }, '\xc0a\xdb\xdcb\xdb\xddc\xc0\xc0d\xc0', ['a\xc0b\xdbc', 'd']],
  ])('finds frames by %s, however the bytes are cut', (_, framing, stream, expected) => {
    const whole = framerFor(framing);
    whole.framer.push(bytes(stream));
    expect(whole.frames).toEqual(expected);
    const single = framerFor(framing);
    for (const byte of bytes(stream)) single.framer.push(Buffer.of(byte));
    expect(single.frames).toEqual(expected);
    expect(single.faults).toEqual(whole.faults);
  });

  it('ends a frame by silence', () => {
    const { framer, frames, faults } = framerFor({ kind: 'silence', max_frame_bytes: 8 });
    framer.push(bytes('ab'));
    framer.push(bytes('cd'));
    expect(frames).toEqual([]);
    framer.silence();
    framer.push(bytes('x'.repeat(9)));
    framer.push(bytes('still the same'));
    framer.silence();
    framer.push(bytes('ef'));
    framer.silence();
    expect(frames).toEqual(['abcd', 'ef']);
    expect(faults).toEqual(['oversized']);
  });

  it('gives up what does not go on', () => {
    const { framer, frames, faults } = framerFor({ kind: 'length_field', extra_bytes: 1 });
    framer.push(bytes('\x09half'));
    framer.silence();
    framer.push(bytes('\x02ok'));
    expect(frames).toEqual(['\x02ok']);
    expect(faults).toEqual(['truncated']);
  });

  it('finds back into step by the checksum', () => {
    const frame = Buffer.of(0x01, 0x04, 0x02, 0xff, 0xff, 0xb8, 0x80);
    const { framer, frames, faults } = framerFor({ kind: 'fixed_length', length_bytes: 7 }, { kind: 'crc16_modbus' });
    framer.push(Buffer.concat([Buffer.of(1, 2, 3), frame, frame]));
    expect(frames).toEqual(['\x01\x04\x02\xff\xff', '\x01\x04\x02\xff\xff']);
    expect(faults).toEqual(['checksum']);
  });

  it('finds a sound frame behind a false header when the line falls silent', () => {
    const framing = { kind: 'length_field', start: { hex: 'aa55' }, length_offset: 2, extra_bytes: 4 };
    const { framer, frames, faults } = framerFor(framing, { kind: 'xor8' });
    const sound = Buffer.of(0xaa, 0x55, 0x02, 0x68, 0x69, 0xaa ^ 0x55 ^ 0x02 ^ 0x68 ^ 0x69);
    framer.push(Buffer.concat([Buffer.of(0xaa, 0x55, 0x32, 0xaa, 0x55, 0xff), sound, sound, Buffer.of(0xaa)]));
    expect(frames).toEqual([]);
    framer.silence();
    expect(frames).toEqual(['\xaaU\x02hi', '\xaaU\x02hi']);
    expect(faults).toEqual(['truncated']);
    expect(framer.pendingBytes).toBe(0);
  });

  it('tells each faulty frame of a line, once', () => {
    const { framer, frames, faults } = framerFor({ kind: 'readline' }, { kind: 'nmea' });
    framer.push(bytes('$A,1*6C\r\n$A,1*6D\r\nnonsense\r\n$A,1*5c\r\n'));
    expect(frames).toEqual(['$A,1']);
    expect(faults).toEqual(['checksum', 'checksum', 'checksum']);
  });

  it('takes no noise before a sentence of NMEA 0183 for a part of it', () => {
    const { framer, frames, faults } = framerFor({ kind: 'readline' }, { kind: 'nmea' });
    framer.push(bytes('!$A,1*5C\r\n$$A,1*5C\r\n$A,2$A,1*5C\r\n'));
    expect(frames).toEqual(['!$A,1', '$$A,1', '$A,2$A,1']);
    expect(faults).toEqual([]);
  });

  it.each([1, 2, 30, 1500])('finds a sound frame behind %i start marks, however the bytes are cut', (count) => {
    const sound = bytes('\x024.5\x03');
    const frame = Buffer.concat([sound, Buffer.of(sound.reduce((total, byte) => total ^ byte, 0))]);
    const stream = Buffer.concat([frame, Buffer.alloc(count, 0x02), frame, frame]);
    const framing = { kind: 'start_stop', start: '\x02', stop: '\x03', trailer_bytes: 1, max_frame_bytes: 4096 };
    for (const size of [1, stream.length]) {
      const { framer, frames, faults } = framerFor(framing, { kind: 'xor8' });
      for (let at = 0; at < stream.length; at += size) framer.push(stream.subarray(at, at + size));
      expect(frames).toEqual(['4.5', '4.5', '4.5']);
      expect(faults).toEqual(['truncated']);
    }
  });

  it('takes start marks within a frame for its own where only so its checksum holds', () => {
    const framing = { kind: 'start_stop', start: '\x02', stop: '\x03', trailer_bytes: 1 };
    const inner = bytes('\x02a\x02b\x03');
    const frame = Buffer.concat([inner, Buffer.of(inner.reduce((total, byte) => total ^ byte, 0))]);
    const { framer, frames, faults } = framerFor(framing, { kind: 'xor8' });
    framer.push(Buffer.concat([frame, bytes('\x02wrong\x03!'), frame]));
    expect(frames).toEqual(['a\x02b', 'a\x02b']);
    expect(faults).toEqual(['checksum']);
  });

  it('takes a checksum behind the stop mark', () => {
    const xor = [...bytes('01PV3\x03')].reduce((total, byte) => total ^ byte, 0);
    const { framer, frames } = framerFor(
      { kind: 'start_stop', start: '\x02', stop: '\x03', trailer_bytes: 1 },
      { kind: 'xor8', from_byte: 1 },
    );
    framer.push(Buffer.concat([bytes('\x0201PV3\x03'), Buffer.of(xor)]));
    expect(frames).toEqual(['01PV3']);
  });
});
