// What the tests of the presets share.

import type { PresetName } from '../../../../../modules/mqtt/config.ts';
import type { Dialect, Told } from '../../../../../modules/mqtt/dialect.ts';
import { createPreset } from '../../../../../modules/mqtt/presets/presets.ts';
import { parseDeviceId } from '../../../../../src/core/device.ts';
import type { PointValue } from '../../../../../src/core/reading.ts';

export const NOW_MS = 1_800_000_000_000;
export const preset = (name: PresetName, gateway = 'gateway-1'): Dialect =>
  createPreset(name, {
    clock: { wallMs: () => NOW_MS, monotonicMs: () => 0 },
    gatewayId: parseDeviceId(gateway),
    adapterId: 'field',
  });

export function hear(dialect: Dialect, topic: string, payload: string | Uint8Array, replayed = false) {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  return dialect.understand({ topic, payload: bytes, replayed });
}

export function told(dialect: Dialect, topic: string, payload: string | object): Told {
  const [first] = hear(dialect, topic, typeof payload === 'string' ? payload : JSON.stringify(payload))?.told ?? [];
  if (first === undefined) throw new Error(`${topic} was not understood`);
  return first;
}

/** `name: value unit` of each reading. */
export function values({ readings = [] }: Told): Record<string, unknown> {
  return Object.fromEntries(
    readings.map(({ point, value, unit }) => [unit === undefined ? point : `${point} ${unit}`, value]),
  );
}

export function sent(dialect: Dialect, device: string, point: string, value: PointValue): string[] | undefined {
  return dialect
    .planWrite(device, point, value)
    ?.publish.map(({ topic, payload }) => `${topic} ${Buffer.from(payload).toString()}`);
}
