// Sparkplug B.

import { describe, expect, it } from 'vitest';
import type { Dialect } from '../../../../../modules/mqtt/dialect.ts';
import { decodeSparkplug } from '../../../../../modules/mqtt/presets/sparkplug-codec.ts';
import type { PointValue } from '../../../../../src/core/reading.ts';
import { get } from 'sparkplug-payload';
import { NOW_MS, preset, hear, values } from './harness.ts';

describe('sparkplug', () => {
  // https://sparkplug.eclipse.org/specification/version/3.0/documents/sparkplug-specification-3.0.0.pdf, 6.4
  const codec = get('spBv1.0');
  const bytes = (payload: object): Uint8Array => codec?.encodePayload(payload) ?? new Uint8Array();
  const birth = bytes({
    timestamp: 1_767_323_045_000,
    seq: 0,
    metrics: [
      { name: 'bdSeq', type: 'Int64', value: 3 },
      { name: 'Node Control/Rebirth', type: 'Boolean', value: false },
      {
        name: 'Temperature',
        alias: 7,
        type: 'Float',
        value: 21.5,
        properties: { engUnit: { type: 'String', value: '°C' } },
      },
      { name: 'Count', alias: 8, type: 'Int16', value: 5 },
      { name: 'Relay', alias: 9, type: 'Boolean', value: true },
    ],
  });
  const born = (): Dialect => {
    const dialect = preset('sparkplug');
    hear(dialect, 'spBv1.0/plant/NBIRTH/edge-1', birth);
    return dialect;
  };

  it('learns names, units and values from a birth', () => {
    const [node] = hear(preset('sparkplug'), 'spBv1.0/plant/NBIRTH/edge-1', birth)?.told ?? [];
    expect(node).toMatchObject({ device: 'plant.edge-1', online: true, wallMs: 1_767_323_045_000 });
    expect(values(node ?? { device: '' })).toEqual({ 'Temperature °C': 21.5, Count: 5, Relay: true });
  });

  it('reads data by alias, and negative numbers', () => {
    const payload = bytes({
      seq: 1,
      metrics: [
        { alias: 7, type: 'Float', value: 22.5 },
        { alias: 8, type: 'Int16', value: -3 },
      ],
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload);
    expect(values(heard?.told[0] ?? { device: '' })).toEqual({ 'Temperature °C': 22.5, Count: -3 });
    expect(heard?.ask).toBeUndefined();
  });

  it('asks for a rebirth without a birth, and after a hole in the numbering', () => {
    const data = (seq: number) => bytes({ seq, metrics: [{ alias: 7, type: 'Float', value: 1 }] });
    for (const dialect of [preset('sparkplug'), born()]) {
      const heard = hear(dialect, 'spBv1.0/plant/NDATA/edge-1', data(9));
      const [ask] = heard?.ask ?? [];
      expect(ask?.topic).toBe('spBv1.0/plant/NCMD/edge-1');
      const [metric] = decodeSparkplug(ask?.payload ?? new Uint8Array())?.metrics ?? [];
      expect([metric?.name, metric?.value(undefined)]).toEqual(['Node Control/Rebirth', true]);
    }
  });

  it('tells what was measured at several times by these times, the newest last', () => {
    const at = (ms: number, value: number, fields: object = {}) => {
      return { alias: 7, type: 'Float', value, timestamp: NOW_MS + ms, ...fields };
    };
    const kept = { isHistorical: true };
    const payload = bytes({
      timestamp: NOW_MS,
      seq: 1,
      metrics: [
        at(-1000, 23.5),
        { alias: 8, type: 'Int16', value: 4, timestamp: NOW_MS - 2000, ...kept },
        at(-2000, 1.5, kept),
        at(-3000, 2.5, kept),
        // The same time once more, as nodes with a coarse clock have it.
        at(-3000, 3.5, kept),
        { alias: 9, type: 'Boolean', value: false },
      ],
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload);
    const lines = (heard?.told ?? []).map((one) => [
      (one.wallMs ?? 0) - NOW_MS,
      one.isHistorical ?? false,
      values(one),
    ]);
    expect(lines).toEqual([
      [-3000, true, { 'Temperature °C': 2.5 }],
      [-3000, true, { 'Temperature °C': 3.5 }],
      [-2000, true, { Count: 4, 'Temperature °C': 1.5 }],
      [-1000, false, { 'Temperature °C': 23.5 }],
      [0, false, { Relay: false }],
    ]);
    expect(heard?.told.map(({ online }) => online)).toEqual([true, undefined, undefined, undefined, undefined]);
  });

  it('takes a birth for the present, whenever its values last changed', () => {
    const metrics = [1, 2].map((day) => ({
      name: `m${day}`,
      type: 'Int32',
      value: day,
      timestamp: NOW_MS - day * 86_400_000,
    }));
    const told = hear(
      preset('sparkplug'),
      'spBv1.0/plant/NBIRTH/edge-1',
      bytes({ timestamp: NOW_MS, seq: 0, metrics }),
    )?.told;
    expect(told).toHaveLength(1);
    expect([told?.[0]?.wallMs, values(told?.[0] ?? { device: '' })]).toEqual([NOW_MS, { m1: 1, m2: 2 }]);
  });

  it('counts the death of a device in the numbering', () => {
    const dialect = born();
    const say = (type: string, path: string, seq: number, metrics: object[] = []) =>
      hear(dialect, `spBv1.0/plant/${type}/edge-1${path}`, bytes({ seq, metrics }));
    say('DBIRTH', '/pump', 1, [{ name: 'Flow', type: 'Double', value: 1 }]);
    expect(say('DDEATH', '/pump', 2)).toEqual({ told: [{ device: 'plant.edge-1.pump', online: false }] });
    expect(say('NDATA', '', 3)?.ask).toBeUndefined();
    // 4 is missing.
    const heard = say('DDEATH', '/pump', 5);
    expect(heard?.told).toEqual([{ device: 'plant.edge-1.pump', online: false, fault: 'sequence' }]);
    expect(heard?.ask?.map(({ topic }) => topic)).toEqual(['spBv1.0/plant/NCMD/edge-1']);
  });

  it('gives floats in the digits that they hold, and says when a value is no number', () => {
    const payload = bytes({
      seq: 1,
      metrics: [230.1, 16_777_216, Number.NaN, Number.NEGATIVE_INFINITY].map((value) => ({
        alias: 7,
        type: 'Float',
        value,
      })),
    });
    const heard = hear(born(), 'spBv1.0/plant/NDATA/edge-1', payload)?.told ?? [];
    expect(heard.map(({ readings }) => readings?.[0]?.value ?? readings?.[0]?.quality)).toEqual([
      230.1,
      16_777_216,
      { level: 'bad', reason: 'not_a_number' },
      { level: 'bad', reason: 'not_a_number' },
    ]);
  });

  it('takes a node and its devices for gone at its death, but not at the will of an earlier connection', () => {
    const dialect = born();
    hear(
      dialect,
      'spBv1.0/plant/DBIRTH/edge-1/pump',
      bytes({ seq: 1, metrics: [{ name: 'Flow', type: 'Double', value: 1 }] }),
    );
    const death = (bdSeq: number) => bytes({ metrics: [{ name: 'bdSeq', type: 'Int64', value: bdSeq }] });
    expect(hear(dialect, 'spBv1.0/plant/NDEATH/edge-1', death(2))?.told).toEqual([]);
    expect(hear(dialect, 'spBv1.0/plant/NDEATH/edge-1', death(3))?.told).toEqual([
      { device: 'plant.edge-1', online: false },
      { device: 'plant.edge-1.pump', online: false },
    ]);
  });

  it('writes by the type of the birth', () => {
    const dialect = born();
    const plan = dialect.planWrite('plant.edge-1', 'Relay', false);
    expect(plan?.publish[0]?.topic).toBe('spBv1.0/plant/NCMD/edge-1');
    const [metric] = decodeSparkplug(plan?.publish[0]?.payload ?? new Uint8Array())?.metrics ?? [];
    expect([metric?.name, metric?.datatype, metric?.value(undefined)]).toEqual(['Relay', 11, false]);
    expect(() => dialect.planWrite('plant.edge-1', 'Relay', 1)).toThrow(/type Boolean/);
    expect(dialect.planWrite('plant.edge-1', 'Nothing', 1)).toBeUndefined();
  });

  it('says when a command and a request for a rebirth were made', () => {
    const dialect = born();
    const [command] = dialect.planWrite('plant.edge-1', 'Count', 7)?.publish ?? [];
    const [ask] = hear(preset('sparkplug'), 'spBv1.0/plant/NDATA/edge-1', bytes({ metrics: [] }))?.ask ?? [];
    for (const publish of [command, ask]) {
      const payload = decodeSparkplug(publish?.payload ?? new Uint8Array());
      expect([payload?.wallMs, payload?.metrics[0]?.wallMs]).toEqual([NOW_MS, NOW_MS]);
    }
  });

  it.each<[string, readonly PointValue[], readonly PointValue[]]>([
    ['Int8', [-128, 127], [-129, 128, 1.5, '1.5', true, Number.NaN]],
    ['Int16', [-32_768, 32_767], [70_000, -32_769]],
    ['Int32', [-2_147_483_648, 2_147_483_647], [2_147_483_648]],
    ['Int64', [-9_223_372_036_854_775_808n, 9_007_199_254_740_993n, '-9007199254740993', -5], [2n ** 63n, 2 ** 63]],
    ['UInt8', [0, 255], [-1, 256]],
    ['UInt16', [0, 65_535], [-1, 65_536]],
    ['UInt32', [0, 4_294_967_295], [-1, 4_294_967_300]],
    ['UInt64', [0, 18_446_744_073_709_551_615n, '9007199254740993'], [-1, 2n ** 64n]],
    ['DateTime', [NOW_MS], [-1]],
    ['Float', [0.5, -3.402_823_5e38], [1e300, '0.5']],
    ['Double', [1e300], [Number.POSITIVE_INFINITY, true]],
    ['String', ['on'], [1, false]],
  ])('writes what an %s holds, as it is, and refuses the rest', (type, good, bad) => {
    const dialect = preset('sparkplug');
    const metric = { name: 'x', type, value: type === 'String' ? '' : 0 };
    hear(dialect, 'spBv1.0/plant/NBIRTH/edge-1', bytes({ seq: 0, metrics: [metric] }));
    for (const value of good) {
      const [publish] = dialect.planWrite('plant.edge-1', 'x', value)?.publish ?? [];
      const [written] = decodeSparkplug(publish?.payload ?? new Uint8Array())?.metrics ?? [];
      expect(String(written?.value(undefined))).toBe(String(value));
    }
    for (const value of bad) {
      expect(() => dialect.planWrite('plant.edge-1', 'x', value), String(value)).toThrow(`type ${type}`);
    }
  });

  it('tells what is no payload', () => {
    expect(hear(born(), 'spBv1.0/plant/NDATA/edge-1', Buffer.from([0xff, 0xff, 0xff]))?.told[0]?.fault).toBe(
      'payload_not_sparkplug',
    );
  });
});
