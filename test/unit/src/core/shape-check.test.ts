import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { checkDeviceShape } from '../../../../src/core/shape-check.ts';
import { adapterShapeFields, deviceShapeFields, pointShapeFields } from '../../../../src/core/shape-fields.ts';
import { shapedDevice } from '../../../../src/core/shape-of.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';

const deviceSchema = z.strictObject({
  ...deviceShapeFields,
  points: z.record(z.string(), z.strictObject(pointShapeFields)),
});

function faults(device: unknown, adapter: unknown = {}): string[] {
  const parsed = deviceSchema.parse(device);
  return checkDeviceShape({
    device: parsed,
    adapter: z.strictObject(adapterShapeFields).parse(adapter),
    points: parsed.points,
  }).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('the check of shaping', () => {
  it.each<[string, unknown, RegExp | undefined]>([
    ['nothing said', { points: { v: {} } }, undefined],
    [
      'a heartbeat without a deadband',
      { points: { v: { heartbeat_secs: 5 } } },
      /points\.v\.heartbeat_secs: only with/,
    ],
    [
      'its deadband from the defaults',
      { point_defaults: { deadband: 1 }, points: { v: { heartbeat_secs: 5 } } },
      undefined,
    ],
    ['a clamp upside down', { points: { v: { clamp: { min: 2, max: 1 } } } }, /clamp\.min: must not be above/],
    ['a window without an end', { points: { v: { window: {} } } }, /points\.v\.window: give/],
    ['too long a moving window', { points: { v: { window: { mode: 'moving', samples: 5000 } } } }, /at most 1024/],
    [
      'a name twice',
      { points: { v: { rename: 'u' }, u: {} } },
      /points\.u: is called "u" in messages, as v is already/,
    ],
    ['names that swap', { points: { v: { rename: 'u' }, u: { rename: 'v' } } }, undefined],
    [
      'the name of a value of a window',
      { points: { v: { window: { samples: 2, functions: ['min', 'max'] } }, v_min: {} } },
      /points\.v_min: is called "v_min"/,
    ],
    [
      'a computed point over a point',
      { points: { v: {} }, computed: { v: { expression: '1' } } },
      /computed\.v: there is a point/,
    ],
    ['an unknown point', { points: { v: {} }, computed: { p: { expression: 'w' } } }, /computed\.p\.expression: .*"w"/],
    ['a circle', { points: {}, computed: { p: { expression: 'p' } } }, /depend on themselves: p -> p/],
  ])('%s', (_, device, expected) => {
    const found = faults(device);
    if (expected === undefined) expect(found).toEqual([]);
    else expect(found.join('\n')).toMatch(expected);
  });
});

describe('the shape of a device', () => {
  it('takes the point before the device before the adapter, field by field', () => {
    const device = deviceSchema.parse({
      point_defaults: { deadband: 2, heartbeat_secs: 10 },
      messages: { pack: 'off' },
      points: { v: { deadband: 3 } },
      computed: { p: { expression: 'v * 2', unit: 'W' } },
    });
    const adapter = z.strictObject(adapterShapeFields).parse({
      point_defaults: { deadband: 1, min_interval_ms: 7 },
      messages: { format: 'cbor', pack: {} },
    });
    const info = shapedDevice({
      deviceId: parseDeviceId('d'),
      points: ['v', 'w'].map((name) => ({ name, address: name, writable: false })),
      pointConfig: (name) => device.points[name],
      device,
      adapter,
    });
    const [v, w, p] = info.points;
    expect(v?.shape).toMatchObject({ deadband: 3, heartbeatMs: 10_000, minIntervalMs: 7 });
    expect(w?.shape).toMatchObject({ deadband: 2, heartbeatMs: 10_000, minIntervalMs: 7 });
    expect(p).toMatchObject({ name: 'p', unit: 'W', writable: false, shape: { expression: 'v * 2', deadband: 2 } });
    expect(info.shape?.messages).toEqual({ format: 'cbor', pack: 'off' });
  });
});
