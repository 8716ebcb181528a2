import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GOOD, type Quality, type Reading } from '../../../../src/core/reading.ts';
import { createTransform } from '../../../../src/pipeline/transform.ts';
import { timestamp } from '../../../support/builders.ts';

const deviceId = parseDeviceId('meter-1');
const bad: Quality = { level: 'bad', reason: 'timeout' };

function setup() {
  const transform = createTransform();
  const point = { address: 'x', writable: false };
  transform.setDevice({
    deviceId,
    points: [
      { name: 'energy', ...point, shape: { deadband: 0.5, heartbeatMs: 60_000 } },
      { name: 'state', ...point, shape: { deadband: 0 } },
      { name: 'voltage', ...point },
    ],
  });
  return (atSecs: number, readings: Reading[]) =>
    transform
      .report({ deviceId, time: timestamp({ monotonicMs: atSecs * 1000 }), readings })
      ?.readings.map(({ point: name }) => name);
}

describe('transform', () => {
  it('reports the first value, then what leaves the deadband of the last report, not of the last value', () => {
    const report = setup();
    const energy = (value: number): Reading[] => [{ point: 'energy', value, quality: GOOD }];
    expect(report(0, energy(10))).toEqual(['energy']);
    expect(report(1, energy(10.3))).toBeUndefined();
    expect(report(2, energy(10.5))).toBeUndefined();
    expect(report(3, energy(10.6))).toEqual(['energy']);
    expect(report(4, energy(10.2))).toBeUndefined();
  });

  it('reports after the heartbeat although nothing changed', () => {
    const report = setup();
    const energy: Reading[] = [{ point: 'energy', value: 1, quality: GOOD }];
    expect(report(0, energy)).toEqual(['energy']);
    expect(report(59.9, energy)).toBeUndefined();
    expect(report(60, energy)).toEqual(['energy']);
    expect(report(119, energy)).toBeUndefined();
  });

  it('reports each change of quality, and the return with the same value', () => {
    const report = setup();
    expect(report(0, [{ point: 'energy', value: 1, quality: GOOD }])).toEqual(['energy']);
    expect(report(1, [{ point: 'energy', quality: bad }])).toEqual(['energy']);
    expect(report(2, [{ point: 'energy', quality: bad }])).toBeUndefined();
    expect(report(3, [{ point: 'energy', value: 1, quality: GOOD }])).toEqual(['energy']);
  });

  it('compares texts, booleans and large integers', () => {
    const report = setup();
    const state = (value: string | boolean | bigint): Reading[] => [{ point: 'state', value, quality: GOOD }];
    expect(report(0, state('on'))).toEqual(['state']);
    expect(report(1, state('on'))).toBeUndefined();
    expect(report(2, state('off'))).toEqual(['state']);
    expect(report(3, state(2n ** 60n))).toEqual(['state']);
    expect(report(4, state(2n ** 60n))).toBeUndefined();
    expect(report(5, state(2n ** 60n + 1n))).toEqual(['state']);
  });

  it('passes points and devices without a rule', () => {
    const report = setup();
    const readings: Reading[] = [
      { point: 'voltage', value: 1, quality: GOOD },
      { point: 'energy', value: 1, quality: GOOD },
    ];
    expect(report(0, readings)).toEqual(['voltage', 'energy']);
    expect(report(1, readings)).toEqual(['voltage']);
  });

  it('reports what is historical as it is, and is not moved by it', () => {
    const transform = createTransform();
    const point = { address: 'x', writable: false };
    transform.setDevice({
      deviceId,
      points: [
        { name: 'flow', ...point, shape: { scale: 10, deadband: 1, rename: 'Flow' } },
        { name: 'pressure', ...point, shape: { window: { mode: 'tumbling', samples: 2, functions: ['mean'] } } },
        { name: 'double', ...point, shape: { expression: 'flow * 2' } },
      ],
    });
    const report = (flow: number, fields: { isHistorical?: true } = {}) => {
      const readings: Reading[] = ['flow', 'pressure'].map((name) => ({ point: name, value: flow, quality: GOOD }));
      const reported = transform.report(transform.shape({ deviceId, time: timestamp(), readings, ...fields }));
      return reported?.readings.map(({ point: name, value }) => [name, value]);
    };
    expect(report(1)).toEqual([
      ['Flow', 10],
      ['double', 20],
    ]);
    expect(report(7, { isHistorical: true })).toEqual([
      ['Flow', 70],
      ['pressure', 7],
    ]);
    // The deadband and the window go on from the first.
    expect(report(1)).toEqual([
      ['pressure', 1],
      ['double', 20],
    ]);
  });
});
