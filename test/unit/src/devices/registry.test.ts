import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { GOOD } from '../../../../src/core/reading.ts';
import { createDeviceRegistry } from '../../../../src/devices/device-registry.ts';
import { createPointCache } from '../../../../src/devices/point-cache.ts';
import type { EventName } from '../../../../src/observe/events.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { timestamp } from '../../../support/builders.ts';

const meter = parseDeviceId('meter-1');
const pump = parseDeviceId('pump-3');

describe('device registry', () => {
  function setup() {
    const events: [EventName, unknown][] = [];
    const registry = createDeviceRegistry(new SystemClock(), { emit: (name, fields) => events.push([name, fields]) });
    registry.setAdapter('bus-1', [{ deviceId: meter, points: [] }]);
    registry.setAdapter('bus-2', [{ deviceId: pump, points: [] }]);
    return { registry, events };
  }

  it('tells a change of state once, and a change of reason not at all', () => {
    const { registry, events } = setup();
    registry.report(meter, 'offline', 'timeout');
    registry.report(meter, 'offline', 'timeout');
    registry.report(meter, 'offline', 'connection refused');
    expect(registry.get(meter)).toMatchObject({ state: 'offline', reason: 'connection refused' });
    registry.report(meter, 'good');
    expect(events.map(([name]) => name)).toEqual(['device_state_changed', 'device_state_changed']);
    expect(events[1]?.[1]).toMatchObject({ from: 'offline', to: 'good' });
  });

  it('takes in a device that shows itself, unless its id is configured or in use elsewhere', () => {
    const { registry } = setup();
    const lamp = parseDeviceId('lamp-1');
    expect(registry.add('broker', { deviceId: lamp, points: [] })).toBeUndefined();
    expect(registry.add('broker', { deviceId: meter, points: [] })).toBe('foreign_device');
    registry.reserve('bus-3', ['fan-1']);
    expect(registry.add('broker', { deviceId: parseDeviceId('fan-1'), points: [] })).toBe('foreign_device');
    // A device configured later takes its id from one that showed itself.
    registry.setAdapter('bus-3', [{ deviceId: lamp, points: [] }]);
    expect(registry.add('broker', { deviceId: lamp, points: [] })).toBe('foreign_device');
    registry.reserve('bus-3', []);
    registry.setAdapter('bus-3', []);
    expect(registry.add('broker', { deviceId: lamp, points: [] })).toBeUndefined();
  });

  it('says that there are too many devices when no more fit', () => {
    const { registry } = setup();
    const show = (id: string): unknown => registry.add('broker', { deviceId: parseDeviceId(id), points: [] });
    const room = LIMITS.devices - registry.list().length;
    for (let index = 0; index < room; index += 1) expect(show(`lamp-${index}`)).toBeUndefined();
    expect(show('one-more')).toBe('too_many_devices');
    expect(show('lamp-0')).toBeUndefined();
    expect(show(meter)).toBe('foreign_device');
  });

  it('keeps the state of devices that stay, forgets those that go, leaves other adapters alone', () => {
    const { registry } = setup();
    registry.report(meter, 'good');
    registry.setAdapter('bus-1', [{ deviceId: meter, points: [] }]);
    expect(registry.get(meter)?.state).toBe('good');
    registry.setAdapter('bus-1', []);
    expect(registry.get(meter)).toBeUndefined();
    expect(registry.list().map(({ deviceId }) => deviceId)).toEqual([pump]);
    registry.report(meter, 'good');
    expect(registry.get(meter)).toBeUndefined();
  });
});

describe('point cache', () => {
  const info = (name: string, address = 'input:0') => ({ name, address, writable: false });

  it('keeps the last good value and its time through bad readings', () => {
    const cache = createPointCache();
    cache.setDevice({ deviceId: meter, points: [info('voltage')] });
    expect(cache.point(meter, 'voltage')).toMatchObject({ value: undefined, quality: undefined });
    const first = timestamp({ monotonicMs: 1 });
    cache.update({ deviceId: meter, time: first, readings: [{ point: 'voltage', value: 230, quality: GOOD }] });
    const bad = { level: 'bad', reason: 'timeout' } as const;
    cache.update({
      deviceId: meter,
      time: timestamp({ monotonicMs: 2 }),
      readings: [{ point: 'voltage', quality: bad }],
    });
    expect(cache.point(meter, 'voltage')).toMatchObject({ value: 230, quality: bad, lastGood: first });
  });

  it('keeps values over a change of configuration unless the address changed', () => {
    const cache = createPointCache();
    cache.setDevice({ deviceId: meter, points: [info('a'), info('b')] });
    cache.update({
      deviceId: meter,
      time: timestamp(),
      readings: [
        { point: 'a', value: 1, quality: GOOD },
        { point: 'b', value: 2, quality: GOOD },
      ],
    });
    cache.setDevice({ deviceId: meter, points: [info('a'), info('b', 'input:9'), info('c')] });
    expect(cache.points(meter).map(({ info: { name }, value }) => [name, value])).toEqual([
      ['a', 1],
      ['b', undefined],
      ['c', undefined],
    ]);
    expect(cache.size).toBe(3);
    cache.removeDevice(meter);
    expect(cache.size).toBe(0);
  });

  it('ignores devices that are not registered, adds points that a device invents, and tells subscribers until they leave', () => {
    const cache = createPointCache();
    const seen: string[] = [];
    const leave = cache.subscribe((batch) => seen.push(batch.deviceId));
    const batch = {
      deviceId: meter,
      time: timestamp(),
      readings: [{ point: 'new', value: 1, quality: GOOD, unit: 'V' }],
    };
    cache.update(batch);
    expect(cache.size).toBe(0);
    cache.setDevice({ deviceId: meter, points: [] });
    cache.update(batch);
    expect(cache.point(meter, 'new')).toMatchObject({ value: 1, info: { unit: 'V' } });
    leave();
    cache.update(batch);
    expect(seen).toEqual([meter]);
  });
});
