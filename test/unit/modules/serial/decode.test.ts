import { describe, expect, it } from 'vitest';
import { decodeSchema } from '../../../../modules/serial/config-decode.ts';
import { createDecoder } from '../../../../modules/serial/decode.ts';

/** Values by name, faults as `bad:REASON`; the word for the frame when it has none. */
function decode(config: unknown, frame: Buffer | string): unknown {
  const bytes = typeof frame === 'string' ? Buffer.from(frame, 'latin1') : frame;
  const outcome = createDecoder(decodeSchema.parse(config)).decode(bytes);
  if (outcome.kind !== 'values') return outcome.kind === 'fault' ? outcome.reason : outcome.kind;
  return Object.fromEntries(
    [...outcome.values].map(([name, decoded]) => [name, 'bad' in decoded ? `bad:${decoded.bad}` : decoded.value]),
  );
}

describe('regex', () => {
  const config = {
    kind: 'regex',
    pattern: '^(?<id>\\w+) (?<weight>[-+0-9.,e ]*)(?: (?<unit>kg))?$',
    types: { weight: 'number' },
  };
  it.each([
    ['W 12.5 kg', { id: 'W', weight: 12.5, unit: 'kg' }],
    ['W - 12.5 kg', { id: 'W', weight: -12.5, unit: 'kg' }],
    ['W 1e3', { id: 'W', weight: 1000, unit: 'bad:missing' }],
    ['W 1.2.3', { id: 'W', weight: 'bad:not_a_number', unit: 'bad:missing' }],
    ['W 1e9999', { id: 'W', weight: 'bad:not_a_number', unit: 'bad:missing' }],
    ['?', 'no_match'],
  ])('%s', (frame, expected) => {
    expect(decode(config, frame)).toEqual(expected);
  });

  it('does not hang on a pattern that makes others backtrack for ever', () => {
    const startMs = performance.now();
    expect(decode({ kind: 'regex', pattern: '^(?<a>(a+)+)+$' }, `${'a'.repeat(16_000)}b`)).toBe('no_match');
    expect(performance.now() - startMs).toBeLessThan(2000);
  });
});

it('delimited fields', () => {
  const config = {
    kind: 'delimited',
    separator: ';',
    fields: ['t', null, 'on', 'raw'],
    types: { t: 'number', on: 'boolean', raw: 'hex' },
    decimal_separator: ',',
  };
  expect(decode(config, ' 21,5 ;x;ON;ff')).toEqual({ t: 21.5, on: true, raw: 255 });
  expect(decode(config, '21,5')).toEqual({ t: 21.5, on: 'bad:missing', raw: 'bad:missing' });
  expect(decode({ ...config, exact: true }, '21,5')).toBe('fields');
  expect(decode({ kind: 'delimited', separator: ' ', fields: ['a', 'b'] }, '  1   2 ')).toEqual({ a: '1', b: '2' });
});

it('JSON by pointers', () => {
  const config = { kind: 'json', values: { t: '/a/0', b: '/b~1c', deep: '/d/e' } };
  expect(decode(config, '{"a":[21.5],"b/c":true,"d":{"e":{}}}')).toEqual({ t: 21.5, b: true, deep: 'bad:not_a_value' });
  expect(decode(config, '{"a":[null]}')).toBe('no_match');
  expect(decode(config, '{"a":')).toBe('not_json');
  expect(decode({ kind: 'json', values: { p: '/__proto__/x' } }, '{}')).toBe('no_match');
});

it('integers of JSON beyond 2^53-1, exact or bad', () => {
  const config = { kind: 'json', values: { a: '/a', b: '/b', text: '/a', inf: '/c' }, types: { text: 'string' } };
  expect(decode(config, '{"a":12345678901234567890,"b":123456789012345678901234,"c":1e999}')).toEqual({
    a: 12_345_678_901_234_567_890n,
    b: 'bad:not_a_number',
    text: '12345678901234567890',
    inf: 'bad:not_a_number',
  });
});

it('NMEA 0183', () => {
  const config = { kind: 'nmea', sentences: ['GGA'], fields: { pitch: { sentence: 'PASHR', field: 5 } } };
  expect(decode(config, '$GNGGA,123519,4807.038,N,01131.000,W,1,08,0.9,545.4,M,46.9,M,,')).toEqual({
    utc_time: '12:35:19',
    latitude: 48.1173,
    longitude: -11.5166667,
    fix_quality: 1,
    satellites: 8,
    hdop: 0.9,
    altitude: 545.4,
  });
  expect(decode(config, '$PASHR,1,2,T,3,-4.5')).toEqual({ pitch: -4.5 });
  expect(decode(config, '$GPGGA,,,,,,0,,,,M,,M,,*66')).toMatchObject({ latitude: 'bad:missing', fix_quality: 0 });
  expect(decode(config, '$GPGGA,,,,,,0,,,,M,,M,,*67')).toBe('checksum');
  expect(decode(config, '$GPGGA,,,,,,0,,,,M,,M,,*6')).toBe('checksum');
  expect(decode(config, '$GPGGA,,,,,,0,,,,M,,M,,*')).toBe('checksum');
  expect(decode(config, '!$GPGGA,,,,,,0,,,,M,,M,,*66')).toMatchObject({ fix_quality: 0 });
  expect(decode(config, '$GPGGA,1235$GPGGA,,,,,,0,,,,M,,M,,*66\r\n')).toMatchObject({ fix_quality: 0 });
  expect(decode(config, '$GPGGA,246099.99')).toMatchObject({ utc_time: 'bad:not_a_time' });
  expect(decode(config, '$GPGGA,235960.5')).toMatchObject({ utc_time: '23:59:60.5' });
  expect(decode(config, '$GPZDA,1')).toBe('ignored');
  expect(decode(config, 'hello')).toBe('not_nmea');
});

it('bytes and bits', () => {
  const field = (fields: object): object => ({ offset: 0, ...fields });
  const config = {
    kind: 'layout',
    fields: {
      u: field({ type: 'uint16' }),
      le: field({ type: 'int16', order: 'little' }),
      swapped: field({ type: 'uint32', order: 'word_swapped' }),
      f: field({ offset: 4, type: 'float32' }),
      flag: field({ offset: 8, type: 'bool', bit: 3 }),
      nibble: field({ offset: 8, type: 'bits', bit: 4, bits: 4 }),
      bcd: field({ offset: 9, type: 'bcd', length_bytes: 2 }),
      last: field({ offset: -2, type: 'text', length_bytes: 2 }),
      absent: field({ offset: 20, type: 'uint8' }),
    },
  };
  const frame = Buffer.from('fffe01024366199ab8123441 42'.replaceAll(' ', ''), 'hex');
  expect(decode(config, frame)).toEqual({
    u: 0xfffe,
    le: -257,
    swapped: 0x0102fffe,
    f: 230.1,
    flag: true,
    nibble: 11,
    bcd: 1234,
    last: 'AB',
    absent: 'bad:short',
  });
  expect(decode(config, Buffer.alloc(0))).toBe('short');
});
