import { expect, it } from 'vitest';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import { createConfiguredDialect } from '../../../../modules/mqtt/configured-dialect.ts';
import type { PointValue } from '../../../../src/core/reading.ts';

function readings(points: object, payload: string): Record<string, unknown> {
  const config = mqttConfig.parse({ topics: [{ topic: 'pumps/{device_id}/state', points }] });
  const dialect = createConfiguredDialect(config);
  const heard = dialect.understand({ topic: 'pumps/p/state', payload: Buffer.from(payload), replayed: false });
  return Object.fromEntries(
    (heard?.told[0]?.readings ?? []).map(({ point, value, quality }) => [
      point,
      quality.level === 'good' ? value : `${quality.level}:${quality.reason}`,
    ]),
  );
}

function written(point: object, value: PointValue): string {
  const config = mqttConfig.parse({
    topics: [{ topic: 'pumps/{device_id}/state', points: { v: { pointer: '/v', writable: true, ...point } } }],
    command: { topic: 'pumps/{device_id}/set', payload: '{value}' },
  });
  const plan = createConfiguredDialect(config).planWrite('p', 'v', value);
  return Buffer.from(plan?.publish[0]?.payload ?? []).toString();
}

it.each<[object, PointValue]>([
  [{ type: 'number' }, 'abc'],
  [{ type: 'number' }, true],
  [{ type: 'integer' }, 1.5],
  [{ type: 'boolean' }, 'maybe'],
  [{ type: 'boolean' }, 2],
  [{ type: 'number', scale: 0.1 }, 'abc'],
  [{ type: 'integer', scale: 0.1 }, 0.25],
])('sends no value of another type: %j, %s', (point, value) => {
  expect(() => written(point, value)).toThrow(expect.objectContaining({ code: 'GW_WRITE_REFUSED' }));
});

it.each<[object, PointValue, string]>([
  [{ type: 'number' }, 1.5, '1.5'],
  // Integers beyond 2^53-1 come as texts.
  [{ type: 'integer' }, '9007199254740993', '9007199254740993'],
  [{ type: 'boolean' }, false, 'false'],
  [{ type: 'boolean' }, 'OFF', '"OFF"'],
  [{ type: 'string' }, 5, '5'],
  [{ type: 'any' }, 'abc', '"abc"'],
  [{ type: 'integer', scale: 0.1 }, 0.3, '3'],
])('sends a value of the type: %j, %s', (point, value, payload) => {
  expect(written(point, value)).toBe(payload);
});

it.each(['any', 'number', 'integer'])('takes integers beyond 2^53-1 as they are, or as bad: type %s', (type) => {
  const points = { big: { pointer: '/big', type }, low: { pointer: '/low', type }, huge: { pointer: '/huge', type } };
  const payload = '{"big":12345678901234567890,"low":-9007199254740993,"huge":99999999999999999999}';
  expect(readings(points, payload)).toEqual({
    big: 12_345_678_901_234_567_890n,
    low: -9_007_199_254_740_993n,
    huge: 'bad:type',
  });
});

it('takes such integers as texts, and texts as such integers', () => {
  const points = {
    text: { pointer: '/a', type: 'string' },
    plus: { pointer: '/b', type: 'integer' },
    endless: { pointer: '/c', type: 'number' },
  };
  const payload = '{"a":12345678901234567890,"b":"+9007199254740993","c":"1234567890123456789012345"}';
  expect(readings(points, payload)).toEqual({
    text: '12345678901234567890',
    plus: 9_007_199_254_740_993n,
    endless: 'bad:type',
  });
});
