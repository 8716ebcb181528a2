import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { serialConfig } from '../../../../modules/serial/config.ts';
import { checkFaults } from './harness.ts';

const DECODE = { kind: 'regex', pattern: '(?<v>.*)' };

describe('the check', () => {
  it.each<[string, object]>([
    ['devices.d.decode.pattern: is not a pattern of RE2', { decode: { kind: 'regex', pattern: '(?<a>.)\\1' } }],
    ['devices.d.decode.pattern: has no named group', { decode: { kind: 'regex', pattern: 'x' } }],
    ['devices.d.decode.types.w: no value', { decode: { ...DECODE, types: { w: 'number' } } }],
    ['devices.d.match: is not a pattern', { decode: DECODE, match: '(' }],
    ['devices.d: no decode', {}],
    ['devices.d.request: has {address}', { decode: DECODE, request: '{address}' }],
    ['devices.d.request: has {checksum}', { decode: DECODE, request: '{checksum}' }],
    ['devices.d.request: has {value}', { decode: DECODE, request: '{value}' }],
    ['devices.d.points.w: decoding gives no point', { decode: DECODE, points: { w: { unit: 'kg' } } }],
    [
      'devices.d.points.v.write.template: has no {value}',
      { decode: DECODE, points: { v: { write: { template: 'x' } } } },
    ],
    [
      'devices.d.points.v.write.min: must not be above max (1)',
      { decode: DECODE, points: { v: { write: { template: '{value}', min: 2, max: 1 } } } },
    ],
    [
      'devices.d.points.v.min: must not be above max (1)',
      { decode: DECODE, points: { v: { min: 10, max: 1, write: { template: '{value}' } } } },
    ],
    [
      'devices.d.points.v.write.values.true: cannot be written: only printable ASCII',
      { decode: DECODE, points: { v: { write: { template: 'A{value}', values: { true: 'a\rB=1', false: 'b' } } } } },
    ],
    [
      'devices.d.points.v.write.values.on: cannot be written: RUN does not fit',
      { decode: DECODE, points: { v: { write: { template: '{value:d}', values: { on: 'RUN' } } } } },
    ],
    [
      'devices.d.decode: gives the point "v"',
      {
        requests: [
          { request: 'a', decode: DECODE },
          { request: 'b', decode: DECODE },
        ],
      },
    ],
  ])('tells %s', (start, device) => {
    const faults = checkFaults({ devices: { d: device } });
    expect(faults.map((fault) => fault.replace('requests.1.', '')).join('\n')).toContain(start);
  });

  it('wants frames of several speakers to be told apart, and one port', () => {
    expect(checkFaults({ devices: { a: { decode: DECODE }, b: { decode: DECODE, match: 'b' } } })).toHaveLength(1);
    expect(checkFaults({ path: undefined, devices: {} })).toEqual([expect.stringContaining('no port')]);
    expect(checkFaults({ usb: { vendor_id: '0403' }, devices: {} })).toEqual([expect.stringContaining('one of both')]);
  });
});

it('the sample is sound', () => {
  const text = readFileSync(new URL('../../../../modules/serial/sample.yaml', import.meta.url), 'utf8');
  const { adapters } = parse(text) as { adapters: Record<string, { type: string }> };
  for (const { type, ...config } of Object.values(adapters)) {
    expect(type).toBe('serial');
    expect(serialConfig.safeParse(config).error).toBeUndefined();
    expect(checkFaults({ ...('usb' in config && { path: undefined }), ...config })).toEqual([]);
  }
});
