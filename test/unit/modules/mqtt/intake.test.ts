// What becomes of readings that have a time of their own.

import { get } from 'sparkplug-payload';
import { expect, it } from 'vitest';
import { Devices } from '../../../../modules/mqtt/devices.ts';
import { createIntake } from '../../../../modules/mqtt/intake.ts';
import { createPreset } from '../../../../modules/mqtt/presets/presets.ts';
import type { ClockQuality } from '../../../../src/core/time.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { record } from './harness.ts';

const codec = get('spBv1.0');
const HOUR_MS = 3_600_000;

function setup(quality: ClockQuality = 'synced') {
  const clock = new ManualClock();
  clock.step(0, quality);
  const recording = record({ clock });
  const heard: unknown[] = [];
  const intake = createIntake({
    context: recording.context,
    dialects: [createPreset('sparkplug', recording.context)],
    devices: new Devices(recording.context, (deviceId, points) => ({ deviceId, points })),
    witness: { reading: (...reading) => void heard.push(reading), answer: () => {} },
    ask: () => {},
    configuredPoints: [],
  });
  const say = async (type: string, payload: object): Promise<void> => {
    const bytes = codec?.encodePayload(payload) ?? new Uint8Array();
    await intake.take(
      { topic: `spBv1.0/plant/${type}/edge-1`, payload: bytes, replayed: false, isAwaited: true },
      undefined,
    );
  };
  return { ...recording, clock, heard, say };
}

const level = (value: number, fields: object = {}) => ({ name: 'Level', type: 'Double', value, ...fields });

it('stores what a node kept as what it was, and takes it for no answer to a write', async () => {
  const { clock, batches, heard, say } = setup();
  const nowMs = clock.wallMs();
  await say('NBIRTH', { timestamp: nowMs, seq: 0, metrics: [level(1)] });
  const kept = [1, 2, 3].map((value) => level(value, { timestamp: nowMs - value * 1000, isHistorical: true }));
  await say('NDATA', { timestamp: nowMs, seq: 1, metrics: [...kept, level(5)] });
  expect(
    batches.map(({ time, readings, isHistorical }) => [time.wallMs - nowMs, readings[0]?.value, isHistorical]),
  ).toEqual([
    [0, 1, undefined],
    [-3000, 3, true],
    [-2000, 2, true],
    [-1000, 1, true],
    [0, 5, undefined],
  ]);
  expect(heard).toEqual([
    ['plant.edge-1', 'Level', 1],
    ['plant.edge-1', 'Level', 5],
  ]);
});

it.each(['synced', 'restored'] as const)(
  'takes the time of a device that can be, with a clock that is %s',
  async (quality) => {
    const { clock, batches, refusals, say } = setup(quality);
    const nowMs = clock.wallMs();
    const times = [nowMs - 24 * HOUR_MS, nowMs + HOUR_MS, nowMs + 48 * HOUR_MS, 1e16, 42];
    await say('NBIRTH', { seq: 0, metrics: [] });
    for (const [index, timestamp] of times.entries())
      await say('NDATA', { timestamp, seq: index + 1, metrics: [level(index)] });
    // Two days ahead of a clock that is right is wrong; one that is not known cannot tell.
    const ahead = quality === 'synced' ? [0, 'synced'] : [48, 'synced'];
    expect(batches.map(({ time }) => [(time.wallMs - nowMs) / HOUR_MS, time.clock])).toEqual([
      // Not ours: when ours becomes known, nothing is to be corrected.
      [-24, 'synced'],
      [1, 'synced'],
      ahead,
      [0, quality],
      // Counted from the start of a device without a clock.
      [0, quality],
    ]);
    expect(refusals).toEqual(quality === 'synced' ? ['bad_time', 'bad_time'] : ['bad_time']);
  },
);

it('keeps no names of points that are too long, and counts them', async () => {
  const { batches, refusals, say } = setup();
  const long = 'n'.repeat(257);
  const metrics = [long, 'Level'].map((name) => ({ name, type: 'Double', value: 1 }));
  await say('NBIRTH', { seq: 0, metrics });
  expect(batches.map(({ readings }) => readings.map(({ point }) => point))).toEqual([['Level']]);
  expect(refusals).toEqual(['point_name_too_long']);
});

it('lets what nobody waits for be packed, unless it has a time of its own', async () => {
  const ways: string[] = [];
  const recording = record({
    publishReadings: () => void ways.push('may be packed'),
    storeReadings: () => Promise.resolve(void ways.push('stored')),
  });
  const { context } = recording;
  const intake = createIntake({
    context,
    dialects: [createPreset('zigbee2mqtt', context), createPreset('shelly', context)],
    devices: new Devices(context, (deviceId, points) => ({ deviceId, points })),
    witness: { reading: () => {}, answer: () => {} },
    ask: () => {},
    configuredPoints: [],
  });
  const take = (topic: string, document: object, isAwaited: boolean) =>
    intake.take({ topic, payload: Buffer.from(JSON.stringify(document)), replayed: false, isAwaited }, undefined);
  await take('zigbee2mqtt/lamp', { brightness: 1 }, true);
  await take('zigbee2mqtt/lamp', { brightness: 2 }, false);
  const timed = { method: 'NotifyStatus', params: { ts: 1_767_323_045, 'switch:0': { apower: 1 } } };
  await take('shellyplus1-a8032ab12345/events/rpc', timed, false);
  expect(ways).toEqual(['stored', 'may be packed', 'stored']);
});
