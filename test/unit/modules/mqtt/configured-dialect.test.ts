import { expect, it } from 'vitest';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import { createConfiguredDialect } from '../../../../modules/mqtt/configured-dialect.ts';

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
