// Computed points over what a device shows of itself, one point after the other.

import { beforeEach, describe, expect, it } from 'vitest';
import type { PointInfo } from '../../../../src/core/adapter.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GOOD, type PointValue, qualityText } from '../../../../src/core/reading.ts';
import { createTransform, type Transform } from '../../../../src/pipeline/transform.ts';
import { timestamp } from '../../../support/builders.ts';

const deviceId = parseDeviceId('plug');
const computed: PointInfo = {
  name: 'p',
  address: '= power * voltage',
  writable: false,
  shape: { expression: 'power * voltage' },
};

let transform: Transform;
beforeEach(() => {
  transform = createTransform();
});

function describeDevice(...points: (string | PointInfo)[]): void {
  const infos = points.map((point) =>
    typeof point === 'string' ? { name: point, address: `x#${point}`, writable: false } : point,
  );
  transform.setDevice({ deviceId, points: [...infos, computed] });
}

/** What becomes of the computed point when a reading came in. */
function result(point: string, value: PointValue): unknown {
  const batch = { deviceId, time: timestamp(), readings: [{ point, value, quality: GOOD }] };
  const reading = transform.shape(batch).readings.find(({ point: name }) => name === 'p');
  return reading && (reading.value ?? qualityText(reading.quality));
}

describe('computed points', () => {
  it('have no value until each of their inputs showed itself, then the last of each', () => {
    describeDevice('power');
    expect(result('power', 10)).toBe('bad:no_value');
    describeDevice('power', 'voltage');
    expect(result('voltage', 2)).toBe(20);
    describeDevice('power', 'voltage', 'linkquality');
    expect(result('power', 11)).toBe(22);
  });

  it('forget an input that is another point now, or shaped otherwise', () => {
    describeDevice('power', 'voltage');
    result('power', 10);
    describeDevice({ name: 'power', address: 'y#power', writable: false }, 'voltage');
    expect(result('voltage', 2)).toBe('bad:no_value');
    describeDevice({ name: 'power', address: 'y#power', writable: false }, 'voltage');
    expect(result('power', 10)).toBe(20);
    describeDevice({ name: 'power', address: 'y#power', writable: false, shape: { scale: 2 } }, 'voltage');
    expect(result('voltage', 3)).toBe('bad:no_value');
    expect(result('power', 10)).toBe(60);
  });

  it('take points whose bounds no number holds', () => {
    const shape = { clamp: { min: 0, max: 9_007_199_254_740_993n } };
    describeDevice('voltage', { name: 'power', address: 'x', writable: false, shape });
    result('voltage', 2);
    expect(result('power', 10)).toBe(20);
  });
});
