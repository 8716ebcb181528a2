import { expect, it } from 'vitest';
import { NEVER, record } from '../modbus/harness.ts';
import { serialAdapter } from './harness.ts';
import type { Adapter } from '../../../../src/core/adapter.ts';

function device(config: object): ReturnType<Adapter['devices']>[number] | undefined {
  const adapter = serialAdapter({ path: '/dev/nowhere', devices: { a: config } }, record());
  const [info] = adapter.devices();
  void adapter.stop(NEVER);
  return info;
}

const kinds = (config: object): unknown =>
  Object.fromEntries((device(config)?.points ?? []).map(({ name, values }) => [name, values]));

it('tells the values of a point by its type, its scale and its limits', () => {
  const decode = {
    kind: 'regex',
    pattern: '(?<a>.)(?<b>.)(?<c>.)(?<d>.)(?<e>.)',
    types: { a: 'number', b: 'integer', c: 'boolean', e: 'integer' },
  };
  const points = {
    a: { decimals: 1, min: 0, max: 150 },
    e: { scale: 0.1 },
    relay: { write: { template: 'R{value}', values: { true: '1', false: '0' } } },
    mode: { write: { template: 'M{value}', values: { slow: '1', fast: '2' } } },
    note: { write: { template: 'N{value}' } },
  };
  expect(kinds({ request: 'x', decode, points })).toEqual({
    a: { kind: 'number', decimals: 1, min: 0, max: 150 },
    b: { kind: 'integer' },
    c: { kind: 'boolean' },
    d: { kind: 'text' },
    e: { kind: 'number' },
    relay: { kind: 'boolean' },
    mode: { kind: 'text', texts: ['slow', 'fast'] },
    note: undefined,
  });
});

it('tells what may be written, for the dispatcher to see to', () => {
  const write = { template: 'S{value}', min: 1, max: 9, allowed: [1, 9], min_interval_ms: 500 };
  const points = { speed: { write }, note: { write: { template: 'N{value}' } } };
  const told = device({ request: 'x', decode: { kind: 'regex', pattern: '(?<a>.)' }, points })?.points;
  expect(told?.find(({ name }) => name === 'speed')).toMatchObject({
    writable: true,
    writeRules: { min: 1, max: 9, allowed: [1, 9], minIntervalMs: 500 },
  });
  expect(told?.find(({ name }) => name === 'a')?.writeRules).toBeUndefined();
});

it('tells them of sentences, bytes and JSON too', () => {
  expect(kinds({ decode: { kind: 'nmea', sentences: ['RMC'] } })).toMatchObject({
    utc_time: { kind: 'text' },
    valid: { kind: 'boolean' },
    latitude: { kind: 'number' },
    speed_knots: { kind: 'number' },
  });
  const fields = {
    on: { offset: 0, type: 'bool', bit: 1 },
    count: { offset: 1, type: 'uint16' },
    level: { offset: 3, type: 'int16', scale: 0.1 },
    flow: { offset: 5, type: 'float32' },
  };
  expect(kinds({ decode: { kind: 'layout', fields } })).toEqual({
    on: { kind: 'boolean' },
    count: { kind: 'integer' },
    level: { kind: 'number' },
    flow: { kind: 'number' },
  });
  expect(kinds({ decode: { kind: 'json', values: { a: '/a', b: '/b' }, types: { b: 'integer' } } })).toEqual({
    a: undefined,
    b: { kind: 'integer' },
  });
});

it('tells how often a device is asked, by its most frequent request', () => {
  const decode = (name: string) => ({ kind: 'regex', pattern: `(?<${name}>.)` });
  const requests = [
    { request: 'A', decode: decode('a'), poll_interval_ms: 5000 },
    { request: 'B', decode: decode('b'), poll_interval_ms: 200 },
  ];
  expect(device({ requests })?.pollIntervalMs).toBe(200);
  expect(device({ decode: decode('a') })).not.toHaveProperty('pollIntervalMs');
});
