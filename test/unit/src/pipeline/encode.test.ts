import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GOOD, type Reading } from '../../../../src/core/reading.ts';
import { ISO_TIME_BYTES, isoTime } from '../../../../src/core/time.ts';
import { formatOf } from '../../../../src/pipeline/encode.ts';
import { timestamp } from '../../../support/builders.ts';

const deviceId = parseDeviceId("meter-1:$'(x)");

function encode(readings: readonly Reading[], clock: 'synced' | 'restored' = 'synced') {
  return formatOf('json').single({ deviceId, time: timestamp({ clock }), readings });
}

describe('encodeReadings', () => {
  it('gives the documented form', () => {
    const message = formatOf('json').single({
      deviceId: parseDeviceId('meter-1'),
      time: timestamp(),
      readings: [{ point: 'voltage', value: 230.1, quality: GOOD }],
    });
    expect(Buffer.from(message.body).toString()).toBe(
      '{"device":"meter-1","time":"2026-01-02T03:04:05.678Z","values":{"voltage":230.1}}',
    );
    expect(message.systemProperties).toEqual({ contentType: 'application/json', contentEncoding: 'utf-8' });
  });

  it('leaves bad points out of values and names their quality; marks a clock that is not synchronised', () => {
    const message = encode(
      [
        { point: 'a', value: 1, quality: GOOD },
        { point: 'b', quality: { level: 'bad', reason: 'timeout' } },
        { point: 'c', value: 3, quality: { level: 'uncertain', reason: 'stale' } },
        { point: 'd', value: 4, quality: { level: 'bad', reason: 'out_of_range' } },
      ],
      'restored',
    );
    expect(JSON.parse(Buffer.from(message.body).toString())).toMatchObject({
      values: { a: 1, c: 3 },
      quality: { b: 'bad:timeout', c: 'uncertain:stale', d: 'bad:out_of_range' },
      clock: 'restored',
    });
  });

  it('writes integers beyond 2^53-1 as strings', () => {
    const body = encode([
      { point: 'small', value: 9007199254740991n, quality: GOOD },
      { point: 'large', value: 9007199254740992n, quality: GOOD },
      { point: 'negative', value: -9007199254740993n, quality: GOOD },
    ]).body;
    expect(JSON.parse(Buffer.from(body).toString()).values).toEqual({
      small: 9007199254740991,
      large: '9007199254740992',
      negative: '-9007199254740993',
    });
  });

  it('records byte positions at which time and identity fit, whatever the names and values', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            point: fc.string(),
            value: fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.string(), fc.boolean()),
          }),
        ),
        fc.double({ min: -1e15, max: 1e15, noNaN: true }),
        (points, wallMs) => {
          const message = formatOf('json').single({
            deviceId,
            time: timestamp({ wallMs }),
            readings: points.map(({ point, value }) => ({ point, value, quality: GOOD })),
          });
          const body = Buffer.from(message.body);
          const timeAt = message.stamps?.timeAt ?? -1;
          const identityAt = message.stamps?.identityAt ?? -1;
          const time = body.subarray(timeAt, timeAt + ISO_TIME_BYTES).toString();
          if (wallMs > -62e12 && wallMs < 2.5e14) expect(time).toBe(isoTime(wallMs));
          const stamped = Buffer.concat([
            body.subarray(0, timeAt),
            Buffer.from('2027-01-01T00:00:00.000Z'),
            body.subarray(timeAt + ISO_TIME_BYTES, identityAt),
            Buffer.from(',"epoch":"k3f9","seq":17'),
            body.subarray(identityAt),
          ]);
          const parsed = JSON.parse(stamped.toString()) as Record<string, unknown>;
          expect(Object.keys(parsed).slice(0, 4)).toEqual(['device', 'time', 'epoch', 'seq']);
          expect(parsed).toMatchObject({ device: deviceId, time: '2027-01-01T00:00:00.000Z', epoch: 'k3f9', seq: 17 });
        },
      ),
    );
  });
});

it.each([
  ['°C', 'Cel'],
  ['Ω', 'Ohm'],
  ['kΩ', 'kOhm'],
  ['m³/h', 'm3/h'],
  ['µg/m³', 'ug/m3'],
  ['°', 'deg'],
  ['°F', '°F'],
  ['kWh', 'kWh'],
])('writes the unit %s as the registry of SenML has it', (unit, registered) => {
  const readings = [{ point: 'p', value: 1, quality: GOOD, unit }];
  const message = formatOf('senml').single({ deviceId: parseDeviceId('meter-1'), time: timestamp(), readings });
  expect(JSON.parse(Buffer.from(message.body).toString())).toMatchObject([{ n: 'p', u: registered, v: 1 }]);
});

it('gives no two records of a SenML body one name, whatever the points are called', () => {
  const names = ['seq', 'epoch', 'clock', 'x', 'x:quality', 'é', '_u00e9', '_u005fu00e9', 'sequence', 'a:quality:b'];
  const bad = { level: 'bad', reason: 'timeout' } as const;
  const readings = names.map((point) => ({ point, value: 1, quality: point === 'x' ? bad : GOOD }));
  const time = timestamp({ clock: 'restored' });
  const message = formatOf('senml').single({ deviceId: parseDeviceId('meter-1'), time, readings });
  const records = JSON.parse(Buffer.from(message.body).toString()) as { n: string }[];
  // What the store adds (commit).
  const written = [...records.map(({ n }) => n), 'epoch', 'seq'];
  expect(new Set(written).size).toBe(written.length);
  expect(written).toEqual(
    expect.arrayContaining(['_u0073eq', 'x:quality', 'x_u003aquality', '_u00e9', '_u005fu00e9', 'sequence']),
  );
});
